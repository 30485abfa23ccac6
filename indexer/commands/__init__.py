"""The commands of the ``indexer`` program; everything they do is done below."""
