"""Turn the bytes of a file into text: decompression and character encodings."""
