"""The encoder beside its peers: ``python -m benchmarks.encoder``."""
