"""The commands against a server that writes into a dictionary."""

from tests.client.writing.conftest import dictionary, service

__all__ = ["dictionary", "service"]
