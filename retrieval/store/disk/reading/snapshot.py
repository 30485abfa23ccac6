"""Open one generation of an index: its tables, its vector files and its lexical index."""

import queue
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from retrieval.domain.deadline import LOOK_SECONDS, check_wanted, is_over
from retrieval.domain.records import IndexInfo
from retrieval.errors import IndexDamaged, StorageError
from retrieval.store.disk.files.open_files import OpenFiles
from retrieval.store.disk.files.shared_parts import Opened
from retrieval.store.disk.files.vector_file import ANN, LEXICAL
from retrieval.store.disk.info import DiskVersion, load_info
from retrieval.store.disk.lexical.lexical_index import LexicalIndex
from retrieval.store.disk.lexical.segment_files import open_lexical
from retrieval.store.disk.tables.database import DATABASE_NAME, sqlite_error, sqlite_errors
from retrieval.store.disk.tables.filter_functions import register_functions
from retrieval.store.disk.tables.identity import file_identity
from retrieval.store.disk.tables.read_only import (
    ReadConnection,
    connect_again,
    connect_for_reading,
    frozen_stamps,
)
from retrieval.store.disk.tables.schema import NAMED_FILES_QUERY
from retrieval.store.disk.tables.write_ahead_log import is_copied
from retrieval.store.disk.vectors.vector_index import Segment, open_segments

OPEN_SECONDS = 30.0
"""How long to retry if a concurrent build replaces files before they are opened."""


_BEGIN_ATTEMPTS: Final = 1_000
"""Number of attempts, about 1 ms each, to begin all transactions without a commit in between."""
CONNECTIONS: Final = 4
"""Number of connections of a generation. While a slow query keeps one busy, searches continue on
the others."""
_STEPS_BETWEEN_LOOKS: Final = 100_000
"""Number of steps of SQLite's virtual machine, about 5 ms, between checks whether a query is still
wanted. A check calls Python, so it may wait 5 ms for the interpreter's lock."""


class Snapshot:
    """Several read transactions on the same commit; safe to share between threads."""

    def __init__(self, folder: Path, connections: Sequence[ReadConnection]) -> None:
        """Take over connections that have begun to read.

        A slow query is stopped when no client waits for it any more
        (``retrieval.domain.deadline``).

        Args:
            folder: the index.
            connections: one or more connections in transactions on the same commit.
        """
        self.folder = folder
        self._count = len(connections)
        # Last in, first out: the connection used last has the recent pages in its cache.
        self._free: queue.LifoQueue[ReadConnection] = queue.LifoQueue()
        for connection in reversed(connections):
            register_functions(connection)
            connection.set_progress_handler(is_over, _STEPS_BETWEEN_LOOKS)
            self._free.put(connection)

    def rows(self, sql: str, arguments: Sequence[object]) -> list[tuple[Any, ...]]:
        """Run a query and return its rows.

        Raises:
            DeadlinePassed: no client waits for the query any more.
            IndexDamaged, StorageError: see ``sqlite_errors``.
        """
        with self._borrowed() as connection:
            try:
                return connection.execute(sql, arguments).fetchall()
            except sqlite3.DatabaseError as error:
                raise sqlite_error(self.folder, error) from error

    @contextmanager
    def _borrowed(self) -> Iterator[ReadConnection]:
        """Yield a connection that no other thread uses until the block ends."""
        while True:
            try:
                connection = self._free.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                check_wanted()
            else:
                break
        try:
            yield connection
        finally:
            self._free.put(connection)

    def close(self) -> None:
        """Wait until no query is running, and end the transactions."""
        connections = [self._free.get() for _ in range(self._count)]
        for connection in connections:
            connection.close()
            self._free.put(connection)


@dataclass(frozen=True, slots=True)
class Generation:
    """An open generation."""

    snapshot: Snapshot
    info: IndexInfo
    version: DiskVersion
    """Identifies the generation; see ``read_version``."""
    segments: Sequence[Segment]
    lexical: LexicalIndex | None
    """The lexical index; None if there is none that this version can search."""
    opened: Opened
    """The open files, for the next generation to reuse."""


def open_generation(folder: Path, before: Opened | None = None) -> Generation:
    """Open the last committed generation.

    A build may run at the same time: the snapshot stays as it is, and files never change.

    Args:
        folder: the index.
        before: open files of another generation, to reuse.

    Raises:
        NotAnIndex: there is no index, or nothing was committed yet.
        IndexVersionError: the index was written by a newer version.
        IndexDamaged: a file is missing or does not match the index's record.
        StorageError: the index can't be read.
    """
    deadline = time.monotonic() + OPEN_SECONDS
    while True:
        try:
            return _open(folder, Opened(before))
        except FileNotFoundError as error:
            # A merge may have replaced the file since the snapshot was taken, so try again.
            _check_not_named(folder, Path(str(error.filename)).name)
            if time.monotonic() > deadline:
                raise changing(folder) from error
        except OSError as error:
            raise StorageError(f"can't read {error.filename}: {error.strerror}") from error


def _open(folder: Path, opened: Opened) -> Generation:
    """Try once to open a generation.

    Raises:
        OSError: a file is missing or can't be read.
    """
    # Read before the database is opened: if the file is replaced in between, the next read differs.
    place, stamps = file_identity(folder), frozen_stamps(folder)
    with ExitStack() as stack:
        connection = connect_for_reading(folder)
        stack.callback(connection.close)
        with sqlite_errors(folder):
            copied = is_copied(folder / DATABASE_NAME)
            connections = _begin(folder, connection, stack)
            if (file_identity(folder), frozen_stamps(folder) if connection.frozen else stamps) != (
                place,
                stamps,
            ):
                raise FileNotFoundError(None, "it was replaced", str(folder / DATABASE_NAME))
            info = load_info(folder, connection)
            segments = open_segments(folder, connection, info.model.dim, opened)
            lexical = open_lexical(folder, connection, opened)
        stack.pop_all()
    opened.forget_older()
    version = (
        DiskVersion(place, None, stamps)
        if connection.frozen
        else DiskVersion(place, info.identity, copied=copied)
    )
    return Generation(Snapshot(folder, connections), info, version, segments, lexical, opened)


def _begin(folder: Path, first: ReadConnection, stack: ExitStack) -> Sequence[ReadConnection]:
    """Open further connections and begin transactions that all see the same commit.

    Args:
        folder: the index.
        first: an open connection.
        stack: closes the other connections if something fails.

    Returns:
        the first connection and the others.

    Raises:
        StorageError: each attempt was interrupted by a commit.
    """
    connections = [first]
    for _ in range(CONNECTIONS - 1):
        connections.append(connect_again(first))
        stack.callback(connections[-1].close)
    with closing(connect_again(first)) as observer:
        for _ in range(_BEGIN_ATTEMPTS):
            # The version changes on every commit of another connection.
            before = observer.execute("PRAGMA data_version").fetchone()
            for connection in connections:
                connection.execute("BEGIN")
                # A transaction takes its snapshot only with its first query.
                connection.execute("SELECT count(*) FROM index_info").fetchone()
            if observer.execute("PRAGMA data_version").fetchone() == before:
                return connections
            for connection in connections:
                connection.execute("ROLLBACK")
    raise changing(folder)


def open_whole(folder: Path) -> tuple[ReadConnection, OpenFiles]:
    """Open a transaction on the newest generation, and all files that it names.

    Returns:
        the connection and the files, to be closed by the caller. A file may be missing although
        the generation names it: the index is damaged then.

    Raises:
        StorageError: a concurrent build kept replacing files before they could be opened.
        NotAnIndex, IndexVersionError, IndexDamaged: see ``connect_for_reading``.
    """
    deadline = time.monotonic() + OPEN_SECONDS
    while True:
        with ExitStack() as stack:
            connection = connect_for_reading(folder)
            stack.callback(connection.close)
            with sqlite_errors(folder):
                connection.execute("BEGIN")
                named = [row[0] for row in connection.execute(NAMED_FILES_QUERY)]
            files = stack.enter_context(OpenFiles(folder, named))
            if not files.missing - newest_names(folder):
                stack.pop_all()
                return connection, files
        if time.monotonic() > deadline:
            raise changing(folder)


def _check_not_named(folder: Path, missing: str) -> None:
    """Refuse an index whose newest commit names the missing file."""
    if missing not in newest_names(folder):
        return
    advice = "restore it from a backup, or build the index anew"
    if missing.startswith((ANN, LEXICAL)):
        advice = f"make it anew with: indexer compact --index {folder}"
    raise IndexDamaged(f"{folder / missing} is missing; {advice}", file=missing)


def changing(folder: Path) -> StorageError:
    """Return the error for an index that is written faster than it can be opened."""
    return StorageError(
        f"the files of {folder} change faster than they can be opened; try again when less is built"
    )


def newest_names(folder: Path) -> set[str]:
    """Return the names of the files that an index's newest commit needs.

    Raises:
        NotAnIndex, IndexVersionError, IndexDamaged, StorageError: see ``connect_for_reading``.
    """
    with closing(connect_for_reading(folder)) as connection, sqlite_errors(folder):
        return {row[0] for row in connection.execute(NAMED_FILES_QUERY)}
