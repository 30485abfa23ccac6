"""Test sets: queries, judgements, and how the names in them match documents of an index."""
