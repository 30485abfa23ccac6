"""The service beside its peers: ``python -m benchmarks.service``."""
