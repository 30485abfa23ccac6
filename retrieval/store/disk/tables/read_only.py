"""Open an index's database for reading, even where nothing can be written.

A reader of a write-ahead log shares memory with others through a file beside the database
(``index.db-shm``), which SQLite makes even to read. On a read-only or a full disk it can't be made.
There the database is opened *frozen*: as a file that does not change, or, if commits are still in
the log, as a copy in memory. An index of an older version that can't be brought up to date on the
disk is brought up to date in memory.
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
from retrieval.store.disk.tables.schema import KNOWN_MIGRATIONS, migrations
from retrieval.store.disk.tables.write_ahead_log import with_log, without_log
from retrieval.store.disk.tables.writer_lock import writer_lock

_NO_SHARED_MEMORY = frozenset(
    {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL}
)
"""SQLite's errors where it can't make or use the shared-memory file."""

_COPY_ATTEMPTS = 5
"""How often to copy a database that changes meanwhile before giving up."""
_NAME_BYTES = 16
"""Random bytes in the name of a database in memory, so that no two share one."""


class ReadConnection(sqlite3.Connection):
    """A connection to an index's database that only reads."""

    uri: str = ""
    """Opens another connection to the same database, even one in memory."""
    frozen: bool = False
    """Whether it was opened without SQLite's locks, because nothing can be written beside the
    database. A build must not run meanwhile, so a long-lived reader should check now and then
    whether the index can be opened properly."""


def connect_for_reading(folder: Path) -> ReadConnection:
    """Open an index's database read-only.

    The tables of an older version are brought up to date: on the disk, or in memory where that is
    not possible.

    Raises:
        NotAnIndex: no database there, or it belongs to something else.
        IndexVersionError: it was written by a newer version.
        IndexDamaged: it is malformed.
        StorageError: the disk or its permissions don't let us read it.
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
    """Open a database as SQLite wants it, with its locks, its tables as they are.

    Returns:
        None if the shared-memory file can't be made or used here.

    Raises:
        sqlite3.Error: something else is wrong; see ``sqlite_errors``.
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
    """Open another connection to a connection's database.

    Both see the same commit only if nothing is committed in between, and if the file is not
    replaced.

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
    """Open a database in memory that connections can share; it goes with the last of them.

    Args:
        image: its file's bytes.
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
        StorageError: it can't be read, or changes while it is read.
    """
    _, (log_bytes, _) = frozen_stamps(folder)
    connection = _open_copy(folder) if log_bytes else _open(folder, "mode=ro&immutable=1")
    connection.frozen = True
    return connection


def _open_copy(folder: Path) -> ReadConnection:
    """Copy a database into memory, with what is still in its log."""
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
    """Return size and time (ns) of the database and its log; zeros if empty or missing.

    They tell whether a frozen index has changed, which costs less than to open it again.

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
    """Return the paths of database and log; SQLite follows links before it adds -wal."""
    database = Path(os.path.realpath(folder / DATABASE_NAME))
    return database, database.with_name(f"{database.name}-wal")


def _stamp(file: Path) -> tuple[int, int]:
    try:
        status = file.stat()
    except FileNotFoundError:
        return 0, 0
    # SQLite may make an empty log when it tries to open the database.
    return (status.st_size, status.st_mtime_ns) if status.st_size else (0, 0)


def _upgraded(folder: Path, connection: ReadConnection) -> ReadConnection:
    """Bring the tables of an index that an older version wrote up to date."""
    if not connection.frozen:
        try:
            with writer_lock(folder):
                connect_for_writing(folder).close()
        except (StorageError, IndexLocked):
            # Read-only, full, or being written; and the attempt may have left another journal mode.
            connection.close()
            connection = open_live(folder) or _open_frozen(folder)
        else:
            return connection
    return _upgraded_copy(folder, connection)


def _upgraded_copy(folder: Path, connection: ReadConnection) -> ReadConnection:
    """Copy a database into memory and bring its tables up to date; close the original."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as copy:
        with closing(connection):
            ids = substitute_ids(folder, connection)
            connection.backup(copy)
        prepare(copy)
        migrations.apply(Database(copy, execute_plugins=False))
        # The same ones for every copy: page tokens hold, and nothing looks changed.
        copy.execute("UPDATE index_info SET index_id = ?, commit_id = ?", ids)
        shared = _connect_to_image(copy.serialize())
    prepare(shared)
    shared.frozen = connection.frozen
    return shared
