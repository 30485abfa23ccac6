"""Bytes of a file to text: decompression and character encodings."""
