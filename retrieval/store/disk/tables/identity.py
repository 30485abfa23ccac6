"""Identity of an index and of its generation.

A generation's number is not enough: an index that is deleted and rebuilt counts from 1 again, and a
restored copy may reach the same number with other documents. So each index gets a random id when it
is created, and each commit writes another random id.
"""

import hashlib
import os
import secrets
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from retrieval.domain.records import GenerationId
from retrieval.errors import NotAnIndex, StorageError
from retrieval.store.disk.tables.database import DATABASE_NAME, not_an_index

_ID_BYTES = 16
"""Number of random bytes in an id; 16 make collisions negligible."""


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """Device and inode of an index's database file."""

    device: int
    inode: int


def new_id() -> str:
    """Return a random id, 32 hexadecimal digits."""
    return secrets.token_hex(_ID_BYTES)


def file_identity(folder: Path) -> FileIdentity:
    """Return the present device and inode of an index's database file.

    Raises:
        NotAnIndex: there is no database.
        StorageError: the folder can't be looked into.
    """
    status = _status(folder)
    return FileIdentity(status.st_dev, status.st_ino)


def read_identity(folder: Path, connection: sqlite3.Connection) -> GenerationId:
    """Read the identity of the generation that a connection's snapshot shows.

    Raises:
        NotAnIndex: nothing was committed yet.
    """
    row = connection.execute("SELECT generation FROM index_info").fetchone()
    if row is None or not row[0]:
        raise NotAnIndex(f"{folder} holds an index with nothing committed yet; build it first")
    columns = {column[1] for column in connection.execute("PRAGMA table_info(index_info)")}
    if {"index_id", "commit_id"} <= columns:
        ids = connection.execute("SELECT index_id, commit_id FROM index_info").fetchone()
    else:
        ids = substitute_ids(folder, connection)
    return GenerationId(str(ids[0]), int(row[0]), str(ids[1]))


def substitute_ids(folder: Path, connection: sqlite3.Connection) -> tuple[str, str]:
    """Return index and commit ids for an index of an older version, which recorded none.

    The ids are derived from the index's times and from its file on the disk.

    Raises:
        NotAnIndex, StorageError: see ``file_identity``.
    """
    times = connection.execute(
        "SELECT created_at, updated_at, generation FROM index_info"
    ).fetchone() or ("", "", 0)
    status = _status(folder)
    index = (times[0], status.st_dev, status.st_ino)
    return _digest(index), _digest((*index, *times, status.st_size, status.st_mtime_ns))


def _digest(parts: tuple[object, ...]) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=_ID_BYTES).hexdigest()


def _status(folder: Path) -> os.stat_result:
    try:
        return (folder / DATABASE_NAME).stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise not_an_index(folder) from error
    except OSError as error:
        raise StorageError(f"can't look into {folder}: {error.strerror}") from error
