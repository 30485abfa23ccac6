"""Indexer: from folders of documents to a committed index (the ``indexer`` command)."""
