"""Generated from ``proto/retrieval/v1`` by ``proto/generate.py``; not to be edited."""
