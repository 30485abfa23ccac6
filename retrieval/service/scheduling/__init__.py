"""Queues and threads between requests and the model, shared fairly between callers."""
