"""The program ``indexer`` with small pieces of work, so that a short build has many of them."""

import sys

from indexer import staging
from indexer.build import embed, settings
from indexer.build.cluster import pool, read_ahead
from indexer.commands.cli import main

if __name__ == "__main__":
    staging.SLICE_TOKENS = 512
    embed.WINDOW_CHUNKS = 32
    read_ahead._BATCH_FILES = 4
    read_ahead.MAX_SENT_BYTES = 100_000
    settings.FILE_MEMORY_BYTES = 200 << 20
    pool.NO_WORKER_SECONDS = 20.0
    pool.HEAD_SECONDS = 10.0
    sys.exit(main())
