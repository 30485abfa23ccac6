"""The store beside its peers: ``python -m benchmarks.store``."""
