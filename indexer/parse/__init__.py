"""Parsers: make a document with exact sections of a file's bytes, one module a format."""
