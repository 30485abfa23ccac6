"""``python -m benchmarks.encoder``: see ``benchmarks.encoder.speed``."""

from benchmarks.encoder.speed import main

main()
