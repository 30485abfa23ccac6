"""Commands that change the collections of a running server."""
