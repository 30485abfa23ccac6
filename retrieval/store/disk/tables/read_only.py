"""Open an index's database for reading, even on a read-only disk.

A reader of a write-ahead log shares memory with others through a file beside the database
(``index.db-shm``), which SQLite creates even for reading. On a read-only or full disk SQLite can't
create that file. Then the database is opened *frozen*: as a file that does not change, or, if
commits are still in the log, as a copy in memory. If the tables of an older version can't be
upgraded on the disk, they are upgraded in memory.
"""

import os
import secrets
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlite_utils import Database

from retrieval.errors import IndexLocked, StorageError
from retrieval.store.disk.tables.database import (
    BUSY_TIMEOUT_SECONDS,
    DATABASE_NAME,
    applied_migrations,
    check_kind,
    connect_for_writing,
    is_index,
    not_an_index,
    prepare,
    sqlite_errors,
)
from retrieval.store.disk.tables.identity import substitute_ids
from retrieval.store.disk.tables.locks import commit_lock
from retrieval.store.disk.tables.schema import KNOWN_MIGRATIONS, migrations
from retrieval.store.disk.tables.write_ahead_log import with_log, without_log

_NO_SHARED_MEMORY = frozenset(
    {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL}
)
"""Errors that SQLite gives when it can't create or use the shared-memory file."""

_COPY_ATTEMPTS = 5
"""Number of attempts to copy a database that changes during the copy."""
_NAME_BYTES = 16
"""Number of random bytes in the name of a database in memory, so that names never collide."""


class ReadConnection(sqlite3.Connection):
    """Read-only connection to an index's database."""

    uri: str = ""
    """URI that opens another connection to the same database, even to one in memory."""
    frozen: bool = False
    """Whether the database was opened without SQLite's locks, because the folder can't be written.
    No build may run while it is open, so a long-lived reader should check now and then whether the
    index can be opened with locks."""


def connect_for_reading(folder: Path) -> ReadConnection:
    """Open an index's database read-only.

    The tables of an older version are upgraded on the disk, or in memory if the disk can't be
    written.

    Raises:
        NotAnIndex: there is no database, or it belongs to another program.
        IndexVersionError: the index was written by a newer version.
        IndexDamaged: the database is malformed.
        StorageError: the database can't be read.
    """
    if not is_index(folder):
        raise not_an_index(folder)
    with sqlite_errors(folder):
        connection = open_live(folder) or _open_frozen(folder)
        try:
            if KNOWN_MIGRATIONS - applied_migrations(connection):
                return _upgraded(folder, connection)
        except BaseException:
            connection.close()
            raise
    return connection


def open_live(folder: Path) -> ReadConnection | None:
    """Open a database with SQLite's locks, without upgrading its tables.

    Returns:
        the connection, or None if the shared-memory file can't be created or used.

    Raises:
        sqlite3.Error: SQLite reports any other error; see ``sqlite_errors``.
        NotAnIndex, IndexVersionError: see ``check_kind``.
    """
    try:
        return _open(folder, "mode=ro")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF in _NO_SHARED_MEMORY:
            return None
        raise


def _open(folder: Path, parameters: str) -> ReadConnection:
    uri = f"{(folder / DATABASE_NAME).absolute().as_uri()}?{parameters}"
    return _checked(folder, _connect(uri))


def _connect(uri: str) -> ReadConnection:
    connection = sqlite3.connect(
        uri,
        uri=True,
        check_same_thread=False,
        isolation_level=None,
        timeout=BUSY_TIMEOUT_SECONDS,
        factory=ReadConnection,
    )
    connection.uri = uri
    return connection


def connect_again(connection: ReadConnection) -> ReadConnection:
    """Open another connection to the database of a connection.

    Both see the same commit unless something is committed in between or the file is replaced.

    Raises:
        sqlite3.Error: see ``sqlite_errors``.
    """
    another = _connect(connection.uri)
    another.frozen = connection.frozen
    try:
        prepare(another)
    except BaseException:
        another.close()
        raise
    return another


def _connect_to_image(image: bytes | bytearray) -> ReadConnection:
    """Open a database in memory that several connections can share.

    The database is freed when the last of its connections is closed.

    Args:
        image: content of the database file.
    """
    connection = _connect(f"file:/{secrets.token_hex(_NAME_BYTES)}?vfs=memdb")
    try:
        with closing(sqlite3.connect(":memory:")) as copy:
            copy.deserialize(without_log(image))
            copy.backup(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _checked(folder: Path, connection: ReadConnection) -> ReadConnection:
    try:
        prepare(connection)
        check_kind(folder, connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _open_frozen(folder: Path) -> ReadConnection:
    """Open the database without shared memory.

    Raises:
        StorageError: the database can't be read, or changes while it is read.
    """
    _, (log_bytes, _) = frozen_stamps(folder)
    connection = _open_copy(folder) if log_bytes else _open(folder, "mode=ro&immutable=1")
    connection.frozen = True
    return connection


def _open_copy(folder: Path) -> ReadConnection:
    """Copy a database into memory, including the commits that are still in its log."""
    database, log = _files(folder)
    for _ in range(_COPY_ATTEMPTS):
        before = frozen_stamps(folder)
        try:
            image = with_log(database.read_bytes(), log.read_bytes())
        except OSError as error:
            raise StorageError(f"can't read {error.filename}: {error.strerror}") from error
        if frozen_stamps(folder) == before:
            break
    else:
        raise StorageError(f"{folder} is being written; try again when that is over")
    return _checked(folder, _connect_to_image(image))


def frozen_stamps(folder: Path) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return size and time (ns) of the database and of its log; zeros if empty or missing.

    Comparing stamps tells whether a frozen index has changed, and is cheaper than reopening it.

    Raises:
        StorageError: the files can't be read.
    """
    database, log = _files(folder)
    try:
        for file in (database, log):
            if file.exists() and not os.access(file, os.R_OK):
                raise StorageError(f"can't read {file}: this user has no permission to")
        return _stamp(database), _stamp(log)
    except OSError as error:
        raise StorageError(f"can't look into {folder}: {error.strerror}") from error


def _files(folder: Path) -> tuple[Path, Path]:
    """Return the paths of database and log; SQLite resolves links before it appends ``-wal``."""
    database = Path(os.path.realpath(folder / DATABASE_NAME))
    return database, database.with_name(f"{database.name}-wal")


def _stamp(file: Path) -> tuple[int, int]:
    try:
        status = file.stat()
    except FileNotFoundError:
        return 0, 0
    # SQLite may create an empty log when it tries to open the database.
    return (status.st_size, status.st_mtime_ns) if status.st_size else (0, 0)


def _upgraded(folder: Path, connection: ReadConnection) -> ReadConnection:
    """Upgrade the tables of an index that an older version wrote, on the disk if possible."""
    if not connection.frozen:
        try:
            with commit_lock(folder, seconds=0.0):
                connect_for_writing(folder).close()
        except (StorageError, IndexLocked):
            # The disk is read-only or full, or another process is writing. The attempt may also
            # have changed the journal mode, so open the database again.
            connection.close()
            connection = open_live(folder) or _open_frozen(folder)
        else:
            return connection
    return _upgraded_copy(folder, connection)


def _upgraded_copy(folder: Path, connection: ReadConnection) -> ReadConnection:
    """Copy a database into memory and upgrade the copy's tables; close the original."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as copy:
        with closing(connection):
            ids = substitute_ids(folder, connection)
            connection.backup(copy)
        prepare(copy)
        migrations.apply(Database(copy, execute_plugins=False))
        # Every copy gets the same ids, so page tokens stay valid and the index looks unchanged.
        copy.execute("UPDATE index_info SET index_id = ?, commit_id = ?", ids)
        shared = _connect_to_image(copy.serialize())
    prepare(shared)
    shared.frozen = connection.frozen
    return shared
