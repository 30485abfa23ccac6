"""Writing: commits, and what is looked up for them."""
