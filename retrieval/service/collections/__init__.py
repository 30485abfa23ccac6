"""The open indexes of a server, their models, and how new generations are noticed."""
