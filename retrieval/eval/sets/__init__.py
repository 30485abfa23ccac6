"""Test sets: queries, judgements, and how they match an index."""
