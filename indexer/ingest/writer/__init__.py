"""The writer process: it parses, embeds and commits what clients put, apart from the server."""
