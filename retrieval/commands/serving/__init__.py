"""Commands that serve: a server and its tokens, and what stands in front of a server."""
