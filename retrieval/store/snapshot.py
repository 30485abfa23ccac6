"""One generation of an index's tables, for as long as it is wanted."""

import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrieval.errors import IndexDamaged, StorageError
from retrieval.records import IndexInfo
from retrieval.store.database import sqlite_errors
from retrieval.store.filter_functions import register_functions
from retrieval.store.identity import find_place
from retrieval.store.info import Look, load_info
from retrieval.store.lexical import LexicalIndex, open_lexical
from retrieval.store.opened import Opened
from retrieval.store.reading import connect_for_reading, frozen_stamps
from retrieval.store.schema import NAMED_FILES_QUERY
from retrieval.store.segments import Segment, open_segments
from retrieval.store.vector_file import ANN, LEXICAL

OPEN_SECONDS = 30.0
"""For how long to try again where a build beside replaces files before they are opened."""


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
    look: Look
    """What tells it from any other."""
    segments: Sequence[Segment]
    lexical: LexicalIndex | None
    """None: there is none yet."""
    opened: Opened
    """The files, for the next generation."""


def open_generation(folder: Path, before: Opened | None = None) -> Generation:
    """Open the last committed generation: its tables, what it is, its files.

    A build may go on beside it: the snapshot stays as it is, and files never change.

    Args:
        folder: the index.
        before: what another generation has open.

    Raises:
        NotAnIndex: no index there, or nothing was committed yet.
        IndexVersionError: it was written by a newer version.
        IndexDamaged: a file is missing or not what the index recorded.
        StorageError: the disk or its permissions don't let us read it.
    """
    deadline = time.monotonic() + OPEN_SECONDS
    while True:
        try:
            return _open(folder, Opened(before))
        except FileNotFoundError as error:
            # A merge may have replaced the file since the snapshot: look again.
            _check_not_named(folder, Path(str(error.filename)).name)
            if time.monotonic() > deadline:
                raise changing(folder) from error
        except OSError as error:
            raise StorageError(f"can't read {error.filename}: {error.strerror}") from error


def _open(folder: Path, opened: Opened) -> Generation:
    """Try once.

    Raises:
        OSError: a file is not there, or can't be read.
    """
    # Before the database is opened: if it is replaced in between, the next look differs.
    place, stamps = find_place(folder), frozen_stamps(folder)
    with ExitStack() as stack:
        connection = connect_for_reading(folder)
        stack.callback(connection.close)
        register_functions(connection)
        with sqlite_errors(folder):
            connection.execute("BEGIN")
            info = load_info(folder, connection)
            segments = open_segments(folder, connection, info.model.dim, opened)
            lexical = open_lexical(folder, connection, opened)
        stack.pop_all()
    opened.forget_older()
    look = Look(place, None, stamps) if connection.frozen else Look(place, info.identity)
    return Generation(Snapshot(folder, connection), info, look, segments, lexical, opened)


def _check_not_named(folder: Path, missing: str) -> None:
    """Refuse an index whose newest commit names a file that is not there."""
    if missing not in newest_names(folder):
        return
    advice = "restore it from a backup, or build the index anew"
    if missing.startswith((ANN, LEXICAL)):
        advice = f"make it anew with: indexer compact --index {folder}"
    raise IndexDamaged(f"{folder / missing} is missing; {advice}", file=missing)


def changing(folder: Path) -> StorageError:
    """The error of an index that is written faster than it can be opened."""
    return StorageError(
        f"the files of {folder} change faster than they can be opened; try again when less is built"
    )


def newest_names(folder: Path) -> set[str]:
    """Names of the files that an index's newest commit needs.

    Raises:
        NotAnIndex, IndexVersionError, IndexDamaged, StorageError: see ``connect_for_reading``.
    """
    with closing(connect_for_reading(folder)) as connection, sqlite_errors(folder):
        return {row[0] for row in connection.execute(NAMED_FILES_QUERY)}
