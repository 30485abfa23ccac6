"""``python -m indexer.ingest.writer``: started by the server, with its settings on standard input.

The first line of the input is ``WriterSettings`` as JSON. The process ends when the input ends, as
it does when the server ends in whatever way, or by SIGTERM.
"""

from indexer.ingest.writer.process import main

if __name__ == "__main__":
    main()
