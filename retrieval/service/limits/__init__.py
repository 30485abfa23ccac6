"""Limits on connections, requests and bytes in flight."""
