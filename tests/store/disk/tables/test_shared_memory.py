"""SQLite's shared memory is read without losing the locks on it."""

import subprocess
import sys
from pathlib import Path

from retrieval.store import open_reader
from retrieval.store.disk.tables.write_ahead_log import is_copied
from tests.store.test_store import fill

CHECKPOINT = """
import sqlite3, sys
print(sqlite3.connect(sys.argv[1]).execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])
"""


def is_held(database: Path) -> bool:
    """Whether another process finds the log in use."""
    command = [sys.executable, "-c", CHECKPOINT, str(database)]
    return subprocess.run(command, capture_output=True, check=True).stdout == b"1\n"


def test_reading_the_shared_memory_keeps_the_locks_of_readers(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    with open_reader(tmp_path) as first:
        fill(tmp_path, 2, name="d/b")
        with open_reader(tmp_path, before=first):
            database = tmp_path / "index.db"
            assert is_held(database)
            is_copied(database)
            assert is_held(database)
