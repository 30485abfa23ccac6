"""A server of the Model Context Protocol (MCP): tools and resources for assistants.

It is another face of the gateway, whose connection, limits and guard it shares. Within this package
``import mcp`` imports the SDK: imports are absolute.
"""
