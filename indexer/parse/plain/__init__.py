"""Plain text, source code and JSON."""
