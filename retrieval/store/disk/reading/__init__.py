"""Read one generation of an index."""
