"""The SQLite side of an index: tables, their versions, and how to open them."""

import os
import sqlite3
import sys
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlite_utils import Database, Migrations

from retrieval.errors import IndexDamaged, IndexVersionError, NotAnIndex, StorageError
from retrieval.store.lock import writer_lock

DATABASE_NAME = "index.db"
APPLICATION_ID = 0x47544552  # "GTER": tells an index from any other SQLite file
BUSY_TIMEOUT_SECONDS = 30.0

WRITER_CACHE_KIB = 256 << 10
"""Most memory for pages that a writer has touched. Content keys are hashes and fall all over their
index: with SQLite's 2 MiB, a commit to a large index reads and writes the same pages again and
again, and takes half as long again."""

LOOKUP_BATCH = 500
"""Values of one ``IN (…)``; SQLite may be built to take no more than 999."""

TEXT_PART_CHARS = 1 << 16
"""Documents' texts are stored in parts of this many characters, so that a passage of a huge
document is read without reading the document."""

migrations = Migrations("index")


@migrations()
def m001_initial(db: Database) -> None:
    """Documents, their texts and chunks; vectors by content; segments; what was skipped."""
    for statement in (
        """CREATE TABLE index_info (
            id INTEGER PRIMARY KEY CHECK (id = 1),
            generation INTEGER NOT NULL,
            model_name TEXT NOT NULL, model_source TEXT NOT NULL, model_location TEXT NOT NULL,
            model_revision TEXT NOT NULL, model_fingerprint TEXT NOT NULL,
            dim INTEGER NOT NULL, max_tokens INTEGER NOT NULL, dtype TEXT NOT NULL,
            chunk_tokens INTEGER NOT NULL, chunk_overlap INTEGER NOT NULL,
            created_at TEXT NOT NULL, updated_at TEXT NOT NULL)""",
        # Where each root lies, to notice two folders of the same name.
        "CREATE TABLE roots (name TEXT PRIMARY KEY, path TEXT NOT NULL)",
        """CREATE TABLE documents (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            uri TEXT NOT NULL UNIQUE, root TEXT NOT NULL, title TEXT NOT NULL,
            format TEXT NOT NULL, encoding TEXT NOT NULL, metadata TEXT NOT NULL,
            size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, sha256 TEXT NOT NULL,
            char_count INTEGER NOT NULL, chunk_count INTEGER NOT NULL)""",
        """CREATE TABLE document_texts (
            document_id INTEGER NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
            part INTEGER NOT NULL, text TEXT NOT NULL, UNIQUE (document_id, part))""",
        """CREATE TABLE segments (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            file TEXT NOT NULL UNIQUE, rows INTEGER NOT NULL,
            bytes INTEGER NOT NULL, sha256 TEXT NOT NULL, created_at TEXT NOT NULL)""",
        # One row a distinct embedded text; its content key finds it again, whatever the file.
        """CREATE TABLE vectors (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            segment_id INTEGER NOT NULL REFERENCES segments (id), row INTEGER NOT NULL,
            content_key BLOB NOT NULL UNIQUE, truncated INTEGER NOT NULL,
            UNIQUE (segment_id, row))""",
        """CREATE TABLE chunks (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            document_id INTEGER NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
            ordinal INTEGER NOT NULL,
            vector_id INTEGER NOT NULL REFERENCES vectors (id),
            char_start INTEGER NOT NULL, char_end INTEGER NOT NULL,
            line_start INTEGER NOT NULL, line_end INTEGER NOT NULL,
            heading_path TEXT NOT NULL, token_count INTEGER NOT NULL,
            UNIQUE (document_id, ordinal))""",
        "CREATE INDEX chunks_by_vector ON chunks (vector_id)",
        """CREATE TABLE skipped (
            uri TEXT PRIMARY KEY, root TEXT NOT NULL, reason TEXT NOT NULL,
            detail TEXT NOT NULL)""",
    ):
        db.execute(statement)


@migrations()
def m002_approximate_indexes(db: Database) -> None:
    """Approximate indexes beside segments; what opening a large index needs, ready to be read."""
    for statement in (
        "ALTER TABLE index_info ADD COLUMN index_type TEXT NOT NULL DEFAULT 'auto'",
        "ALTER TABLE index_info ADD COLUMN target_recall REAL NOT NULL DEFAULT 0.98",
        # Of some blocks of the file; empty where the segment is older than this.
        "ALTER TABLE segments ADD COLUMN sample_sha256 TEXT NOT NULL DEFAULT ''",
        # The id of each row's vector, int64 little-endian: the table has them too, a row each.
        "ALTER TABLE segments ADD COLUMN vector_ids BLOB NOT NULL DEFAULT x''",
        """CREATE TABLE ann_files (
            segment_id INTEGER PRIMARY KEY REFERENCES segments (id) ON DELETE CASCADE,
            file TEXT NOT NULL UNIQUE, bytes INTEGER NOT NULL, sha256 TEXT NOT NULL,
            settings TEXT NOT NULL, created_at TEXT NOT NULL)""",
        # Vectors that no chunk uses; kept by the triggers.
        """CREATE TABLE unused_vectors (
            vector_id INTEGER PRIMARY KEY REFERENCES vectors (id) ON DELETE CASCADE)""",
        """INSERT INTO unused_vectors
           SELECT id FROM vectors v WHERE NOT EXISTS
               (SELECT 1 FROM chunks c WHERE c.vector_id = v.id)""",
        """CREATE TRIGGER vector_added AFTER INSERT ON vectors BEGIN
               INSERT INTO unused_vectors VALUES (NEW.id); END""",
        """CREATE TRIGGER chunk_added AFTER INSERT ON chunks BEGIN
               DELETE FROM unused_vectors WHERE vector_id = NEW.vector_id; END""",
        """CREATE TRIGGER chunk_removed AFTER DELETE ON chunks
           WHEN NOT EXISTS (SELECT 1 FROM chunks WHERE vector_id = OLD.vector_id) BEGIN
               INSERT OR IGNORE INTO unused_vectors VALUES (OLD.vector_id); END""",
    ):
        db.execute(statement)
    for (segment,) in db.execute("SELECT id FROM segments").fetchall():
        rows = db.execute("SELECT id FROM vectors WHERE segment_id = ? ORDER BY row", [segment])
        ids = array("q", (row[0] for row in rows))
        if sys.byteorder == "big":
            ids.byteswap()
        db.execute("UPDATE segments SET vector_ids = ? WHERE id = ?", [ids.tobytes(), segment])


@migrations()
def m003_sidecars(db: Database) -> None:
    """Size and time of the file with a document's own fields; zeros where there is none."""
    db.execute("ALTER TABLE documents ADD COLUMN sidecar_size INTEGER NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE documents ADD COLUMN sidecar_mtime_ns INTEGER NOT NULL DEFAULT 0")


@migrations()
def m004_digests(db: Database) -> None:
    """Checksums of rows; empty for those that an older version wrote, which are not checked."""
    db.execute("ALTER TABLE documents ADD COLUMN digest BLOB NOT NULL DEFAULT x''")
    db.execute("ALTER TABLE chunks ADD COLUMN digest BLOB NOT NULL DEFAULT x''")
    db.execute("ALTER TABLE segments ADD COLUMN ids_sha256 TEXT NOT NULL DEFAULT ''")


@migrations()
def m005_containers(db: Database) -> None:
    """Archives and the like that were read to their end: size and time, to tell if they changed."""
    db.execute(
        """CREATE TABLE containers (
            uri TEXT PRIMARY KEY, root TEXT NOT NULL,
            size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, rules TEXT NOT NULL)"""
    )


@migrations()
def m006_pages(db: Database) -> None:
    """Which pages a chunk is on; zeros where its document has none."""
    db.execute("ALTER TABLE chunks ADD COLUMN page_start INTEGER NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE chunks ADD COLUMN page_end INTEGER NOT NULL DEFAULT 0")


@migrations()
def m007_reading(db: Database) -> None:
    """Whether chunks are embedded under their headings; which JSON fields are texts."""
    db.execute("ALTER TABLE index_info ADD COLUMN context INTEGER NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE index_info ADD COLUMN text_fields TEXT NOT NULL DEFAULT '[]'")


_KNOWN_MIGRATIONS = {migration.name for migration in migrations.pending(Database(memory=True))}


@contextmanager
def sqlite_errors(folder: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours, naming the index.

    Raises:
        StorageError: the disk is full or refuses writes.
        NotAnIndex: the file is no SQLite database.
        IndexDamaged: the database is malformed, or not what its tables should be.
    """
    path = folder / DATABASE_NAME
    try:
        yield
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (
            sqlite3.SQLITE_FULL,
            sqlite3.SQLITE_IOERR,
            sqlite3.SQLITE_READONLY,
            sqlite3.SQLITE_CANTOPEN,
            sqlite3.SQLITE_BUSY,
        ):
            raise StorageError(
                f"can't use {path}: {error}; what was committed before is untouched"
            ) from error
        raise IndexDamaged(f"{path} is not a whole index: {error}") from error
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_NOTADB:
            raise NotAnIndex(f"{path} is not an index's database") from error
        raise IndexDamaged(f"{path} is damaged: {error}") from error


def is_index(folder: Path) -> bool:
    """Whether a folder holds an index's database (which may still be unusable)."""
    return (folder / DATABASE_NAME).is_file()


def connect_for_reading(folder: Path) -> sqlite3.Connection:
    """Open an index's database read-only.

    Raises:
        NotAnIndex: no database there, or it belongs to something else.
        IndexVersionError: it was written by a newer version.
        IndexDamaged: it is malformed.
        StorageError: it can't be read as it lies in a folder that this user can't write.
    """
    if not is_index(folder):
        raise NotAnIndex(
            f"{folder} is not an index (it has no {DATABASE_NAME}); "
            f"make one with: indexer build DOCS --index {folder}"
        )
    uri = (folder / DATABASE_NAME).resolve().as_uri() + "?mode=ro"
    if not os.access(folder, os.W_OK):
        # Readers of a write-ahead log share memory through a file beside it. Where none can be
        # made, the database must stand alone, and is read as a file that nobody changes.
        log = folder / f"{DATABASE_NAME}-wal"
        if log.exists() and log.stat().st_size:
            raise StorageError(
                f"{folder} holds commits that only a user with write permission on it can read; "
                f"run any indexer command on it as its owner once"
            )
        uri += "&immutable=1"
    with sqlite_errors(folder):
        connection = sqlite3.connect(
            uri, uri=True, check_same_thread=False, timeout=BUSY_TIMEOUT_SECONDS
        )
        try:
            _prepare(connection)
            _check_kind(folder, connection)
            if _KNOWN_MIGRATIONS - _applied(connection):
                _upgrade(folder)
        except BaseException:
            connection.close()
            raise
    return connection


def _upgrade(folder: Path) -> None:
    """Bring the tables of an index that an older version wrote up to date."""
    if not os.access(folder, os.W_OK):
        raise IndexVersionError(
            f"{folder} was written by an older version of this program; run `indexer status` on it "
            f"once as a user who may write it"
        )
    with writer_lock(folder):
        connect_for_writing(folder).close()


def connect_for_writing(folder: Path) -> Database:
    """Open (or make) an index's database and bring its tables up to date.

    Raises:
        NotAnIndex: the database belongs to something else.
        IndexVersionError: it was written by a newer version.
        IndexDamaged: it is malformed.
        StorageError: the disk refuses.
    """
    with sqlite_errors(folder):
        connection = sqlite3.connect(
            folder / DATABASE_NAME, isolation_level=None, timeout=BUSY_TIMEOUT_SECONDS
        )
        try:
            _prepare(connection)
            if _is_blank(connection):
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            _check_kind(folder, connection)
            connection.execute("PRAGMA journal_mode = WAL")
            # FULL: a commit is on the disk when it returns, power cut or not.
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute(f"PRAGMA cache_size = -{WRITER_CACHE_KIB}")
            database = Database(connection, execute_plugins=False)
            migrations.apply(database)
        except BaseException:
            connection.close()
            raise
    return database


def _prepare(connection: sqlite3.Connection) -> None:
    # A hostile file's views and triggers get no functions with side effects.
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")


def _is_blank(connection: sqlite3.Connection) -> bool:
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    return not tables and connection.execute("PRAGMA application_id").fetchone()[0] == 0


def _check_kind(folder: Path, connection: sqlite3.Connection) -> None:
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    if application_id != APPLICATION_ID:
        raise NotAnIndex(f"{folder / DATABASE_NAME} is not an index's database")
    newer = _applied(connection) - _KNOWN_MIGRATIONS
    if newer:
        raise IndexVersionError(
            f"{folder} was written by a newer version of this program ({', '.join(newer)}); "
            f"upgrade, or build the index anew in another folder"
        )


def _applied(connection: sqlite3.Connection) -> set[str]:
    """Names of the migrations that a database has seen."""
    table = Migrations.migrations_table
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", [table]).fetchone():
        return set()
    rows = connection.execute(f"SELECT name FROM {table} WHERE migration_set = 'index'")
    return {row[0] for row in rows}
