"""One generation of an index's tables, for as long as it is wanted."""

import sqlite3
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrieval.errors import IndexDamaged
from retrieval.records import IndexInfo
from retrieval.store.database import connect_for_reading, sqlite_errors
from retrieval.store.filter_functions import register_functions
from retrieval.store.info import load_info
from retrieval.store.lexical import LexicalIndex, open_lexical
from retrieval.store.schema import NAMED_FILES_QUERY
from retrieval.store.segments import Segment, open_segments
from retrieval.store.vector_file import ANN, LEXICAL

_OPEN_ATTEMPTS = 5


class Snapshot:
    """A read transaction; safe to share between threads."""

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        """Take over a connection that has begun to read."""
        self.folder = folder
        self._connection = connection
        self._lock = threading.Lock()

    def rows(self, sql: str, arguments: Sequence[object]) -> list[tuple[Any, ...]]:
        """What a query gives.

        Raises:
            IndexDamaged, StorageError: see ``sqlite_errors``.
        """
        with self._lock, sqlite_errors(self.folder):
            return self._connection.execute(sql, arguments).fetchall()

    def close(self) -> None:
        """End the transaction."""
        with self._lock:
            self._connection.close()


@dataclass(frozen=True, slots=True)
class Generation:
    """A generation that is open."""

    snapshot: Snapshot
    info: IndexInfo
    segments: Sequence[Segment]
    lexical: LexicalIndex | None
    """None: there is none yet."""


def open_generation(folder: Path) -> Generation:
    """Open the last committed generation: its tables, what it is, its files.

    A build may go on beside it: the snapshot stays as it is, and files never change.

    Raises:
        NotAnIndex: no index there, or nothing was committed yet.
        IndexVersionError: it was written by a newer version.
        IndexDamaged: a file is missing or not what the index recorded.
    """
    for _ in range(_OPEN_ATTEMPTS):
        with ExitStack() as stack:
            connection = connect_for_reading(folder)
            stack.callback(connection.close)
            register_functions(connection)
            with sqlite_errors(folder):
                connection.execute("BEGIN")
                info = load_info(folder, connection)
                try:
                    segments = open_segments(folder, connection, info.model.dim)
                    lexical = open_lexical(folder, connection)
                except FileNotFoundError as error:
                    # A merge may have replaced the file since the snapshot: look again.
                    _check_not_named(folder, Path(str(error.filename)).name)
                    continue
            stack.pop_all()
            return Generation(Snapshot(folder, connection), info, segments, lexical)
    raise IndexDamaged(f"the files of {folder} change faster than they can be opened")


def _check_not_named(folder: Path, missing: str) -> None:
    """Refuse an index whose newest commit names a file that is not there."""
    connection = connect_for_reading(folder)
    try:
        named = connection.execute(NAMED_FILES_QUERY)
        if missing not in {row[0] for row in named}:
            return
    finally:
        connection.close()
    advice = "restore it from a backup, or build the index anew"
    if missing.startswith((ANN, LEXICAL)):
        advice = f"make it anew with: indexer compact --index {folder}"
    raise IndexDamaged(f"{folder / missing} is missing; {advice}", file=missing)
