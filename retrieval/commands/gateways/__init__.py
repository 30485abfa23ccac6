"""Commands that stand in front of a server: `retrieval gateway` and `retrieval mcp`."""
