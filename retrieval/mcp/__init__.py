"""A server of the Model Context Protocol (MCP): tools and resources for assistants.

It is a client of a server like the gateway, and shares the gateway's connection, its limits and
what guards it. Within this package ``import mcp`` imports the SDK: imports are absolute.
"""
