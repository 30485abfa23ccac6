"""Open an index's SQLite database for writing, and translate SQLite's errors."""

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlite_utils import Database, Migrations

from retrieval.domain.deadline import check_wanted
from retrieval.errors import (
    DiskFull,
    IndexDamaged,
    IndexVersionError,
    NotAnIndex,
    RetrievalError,
    StorageError,
)
from retrieval.store.disk.tables.schema import KNOWN_MIGRATIONS, migrations
from retrieval.store.location import index_in

DATABASE_NAME = "index.db"
REPLICA_NAME = "replica.json"
"""Marks a copy that is pulled from an object store; see ``retrieval.store.replicas``."""
APPLICATION_ID = 0x47544552  # "GTER"; distinguishes an index from any other SQLite file
BUSY_TIMEOUT_SECONDS = 30.0
"""How long to wait for another connection's lock. A checkpoint of the log holds one longest."""

WRITER_CACHE_KIB = 256 << 10
"""Maximum size of a writer's page cache. Content keys are hashes, so their inserts touch pages all
over the table's index. With SQLite's default of 2 MiB, a commit to a large index reads and writes
the same pages repeatedly, and takes 1.5 times as long."""

MAX_LOG_BYTES = 64 << 20
"""Size to which the write-ahead log is cut when it begins anew: 400 commits of one document."""

LOOKUP_BATCH = 500
"""Number of values in one ``IN (…)``; some builds of SQLite take at most 999."""


_REFUSALS: Final = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_BUSY,
    }
)
"""SQLite's error codes for a problem with the disk or its permissions, not with the database."""


@contextmanager
def sqlite_errors(folder: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours, naming the index.

    Raises:
        DiskFull: the disk is full.
        StorageError: the disk can't be used, or a value is too large for SQLite.
        NotAnIndex: the file is not a SQLite database.
        IndexDamaged: the database is malformed, or its tables are not those of an index.
        DeadlinePassed: the query was stopped because no client waits for it any more.
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise sqlite_error(folder, error) from error


def sqlite_error(folder: Path, error: sqlite3.DatabaseError) -> RetrievalError:
    """Return our error for one of SQLite's; see ``sqlite_errors``.

    Raises:
        DeadlinePassed: the query was stopped because no client waits for it any more.
    """
    path, code = folder / DATABASE_NAME, getattr(error, "sqlite_errorcode", 0)
    if isinstance(error, sqlite3.OperationalError):
        if code == sqlite3.SQLITE_INTERRUPT:
            check_wanted()
        if code & 0xFF in _REFUSALS:
            full = code & 0xFF == sqlite3.SQLITE_FULL or _is_full(folder)
            reason = f"the disk is full ({error})" if full else str(error)
            make = DiskFull if full else StorageError
            return make(f"can't use {path}: {reason}; what was committed before is untouched")
        return IndexDamaged(f"{path} is not a whole index: {error}")
    if isinstance(error, sqlite3.DataError):
        return StorageError(f"can't use {path}: {error}")
    if code == sqlite3.SQLITE_NOTADB:
        return NotAnIndex(f"{path} is not an index's database")
    return IndexDamaged(f"{path} is damaged: {error}")


def _is_full(folder: Path) -> bool:
    """Whether a folder's disk has no room: SQLite reports that as a mere I/O error."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return False
    return not disk.f_bavail or bool(disk.f_files and not disk.f_favail)


def not_an_index(folder: Path) -> NotAnIndex:
    """Return the error for a folder without a database; it names an index inside, if any."""
    if folder.is_file():
        return NotAnIndex(f"{folder} is a file; an index is a folder")
    held = index_in(folder)
    if held is not None and held.scheme:
        return NotAnIndex(f"{folder} holds an index of another kind: give --index {held}")
    inside = _index_in(folder)
    if inside is not None:
        return NotAnIndex(f"{folder} is not an index, but {inside} is: give --index {inside}")
    return NotAnIndex(
        f"{folder} is not an index (it has no {DATABASE_NAME}); "
        f"make one with: indexer build DOCS --index {folder}"
    )


def _index_in(folder: Path) -> Path | None:
    """Return the first subfolder that holds an index, or None."""
    try:
        return next((path for path in sorted(folder.iterdir()) if is_index(path)), None)
    except (OSError, StorageError):
        return None


def is_index(folder: Path) -> bool:
    """Whether a folder holds an index's database, even an unusable one.

    Raises:
        StorageError: the folder can't be looked into.
    """
    try:
        return stat.S_ISREG((folder / DATABASE_NAME).stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise StorageError(f"can't look into {folder}: {error.strerror}") from error


def connect_for_writing(folder: Path) -> Database:
    """Open or create an index's database and upgrade its tables.

    Raises:
        NotAnIndex: the database belongs to another program.
        IndexVersionError: the index was written by a newer version.
        IndexDamaged: the database is malformed.
        StorageError: the database can't be read or written.
    """
    with sqlite_errors(folder):
        connection = sqlite3.connect(
            folder / DATABASE_NAME, isolation_level=None, timeout=BUSY_TIMEOUT_SECONDS
        )
        try:
            prepare(connection)
            if _is_blank(connection):
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            check_kind(folder, connection)
            connection.execute("PRAGMA journal_mode = WAL")
            # FULL makes a commit survive a power cut from the moment it returns.
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute(f"PRAGMA journal_size_limit = {MAX_LOG_BYTES}")
            connection.execute(f"PRAGMA cache_size = -{WRITER_CACHE_KIB}")
            database = Database(connection, execute_plugins=False)
            migrations.apply(database)
        except BaseException:
            connection.close()
            raise
    return database


def prepare(connection: sqlite3.Connection) -> None:
    """Protect a connection against a hostile database file."""
    # Views and triggers in a hostile file must not call functions with side effects.
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")


def _is_blank(connection: sqlite3.Connection) -> bool:
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    return not tables and connection.execute("PRAGMA application_id").fetchone()[0] == 0


def check_kind(folder: Path, connection: sqlite3.Connection) -> None:
    """Refuse a database of another program or of a newer version of this one.

    Raises:
        NotAnIndex: the database belongs to another program.
        IndexVersionError: the index was written by a newer version.
    """
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    if application_id != APPLICATION_ID:
        raise NotAnIndex(f"{folder / DATABASE_NAME} is not an index's database")
    newer = applied_migrations(connection) - KNOWN_MIGRATIONS
    if newer:
        raise IndexVersionError(
            f"{folder} was written by a newer version of this program ({', '.join(newer)}); "
            f"upgrade, or build the index anew in another folder"
        )


def applied_migrations(connection: sqlite3.Connection) -> set[str]:
    """Return the names of the migrations that were applied to a database."""
    table = Migrations.migrations_table
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", [table]).fetchone():
        return set()
    rows = connection.execute(f"SELECT name FROM {table} WHERE migration_set = 'index'")
    return {row[0] for row in rows}
