"""Copies on this machine of what an object store keeps, which may be deleted at any time."""
