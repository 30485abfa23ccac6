"""An HTTP gateway in front of a server: REST, and the forms of OpenAI, TEI, Dify and Open WebUI.

A gateway is a client like any other. It speaks gRPC to one server and HTTP to the world, and holds
no model and no index. Tokens, limits of requests and log lines are the server's.
"""
