"""HTML, EPUB and mail."""
