"""How good is a search on one's own documents? Test queries in, measures out."""
