"""Folding of texts and queries, and lexical queries, independent of any engine."""
