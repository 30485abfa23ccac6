"""Benchmarks, to be run by hand. Tests never assert their results."""
