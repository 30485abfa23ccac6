"""Benchmarks of reading and chunking documents."""
