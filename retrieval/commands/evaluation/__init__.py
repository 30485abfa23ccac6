"""``retrieval eval``: measure searches, of an index or of a server."""
