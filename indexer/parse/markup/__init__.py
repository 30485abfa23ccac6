"""Formats whose source is itself the text: Markdown, reStructuredText, AsciiDoc, notebooks."""
