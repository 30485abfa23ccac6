"""Parts that several benchmarks share: test sets, vectors, cheap connections, hostile input."""
