"""Retrieval: the GTE encoder core, the index store, search and the gRPC service."""

__version__ = "0.1.0"
