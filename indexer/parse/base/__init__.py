"""Shared by parsers: sections of a text, texts put together from blocks, and metadata."""
