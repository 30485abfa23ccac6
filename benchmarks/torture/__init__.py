"""Kills at random moments: ``python -m benchmarks.torture``."""
