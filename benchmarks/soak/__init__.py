"""Minutes of mixed load: ``python -m benchmarks.soak``."""
