"""Benchmarks of reading and chunking documents; see ``benchmarks.corpora.__main__``."""
