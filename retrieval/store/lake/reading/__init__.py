"""Reading one generation."""
