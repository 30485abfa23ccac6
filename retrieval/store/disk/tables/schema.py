"""The tables of an index, and their versions."""

import hashlib
import json
import sys
from array import array
from collections.abc import Iterator, Sequence

from sqlite_utils import Database, Migrations

from retrieval.domain.embedded_text import context_line
from retrieval.store.disk.tables.filter_functions import filter_extension, filter_path
from retrieval.store.filters.values import ValueRow, value_rows

TEXT_PART_CHARS = 1 << 16
"""Documents' texts are stored in parts of this many characters, so that a passage of a huge
document is read without reading the document."""

_HEADER_BYTES = 16
"""Bytes of a hash that tells titles and headings apart: no two of an index will ever share one."""

NAMED_FILES_QUERY = """
    SELECT file FROM segments UNION SELECT file FROM ann_files
    UNION SELECT file FROM lexical_files
"""
"""Names of all files that count."""

INSERT_METADATA_VALUE = "INSERT INTO metadata_values VALUES (?, ?, ?, ?, ?, ?)"
"""A document's id and the values of a ``ValueRow``."""

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


@migrations()
def m008_lexical(db: Database) -> None:
    """The lexical index: its files, and the vectors whose texts are still to be put into it."""
    for statement in (
        # Of the texts, as the next build is to take it.
        "ALTER TABLE index_info ADD COLUMN language TEXT NOT NULL DEFAULT 'en'",
        # How it was made, and the engine's own list of its segments.
        """CREATE TABLE lexical_index (
            id INTEGER PRIMARY KEY CHECK (id = 1),
            language TEXT NOT NULL, analysis INTEGER NOT NULL,
            meta TEXT NOT NULL, meta_sha256 TEXT NOT NULL)""",
        """CREATE TABLE lexical_files (
            file TEXT PRIMARY KEY, bytes INTEGER NOT NULL, sha256 TEXT NOT NULL,
            sample_sha256 TEXT NOT NULL)""",
        """CREATE TABLE lexical_pending (
            vector_id INTEGER PRIMARY KEY REFERENCES vectors (id) ON DELETE CASCADE)""",
        "INSERT INTO lexical_pending SELECT id FROM vectors",
        """CREATE TRIGGER vector_to_index AFTER INSERT ON vectors BEGIN
               INSERT INTO lexical_pending VALUES (NEW.id); END""",
    ):
        db.execute(statement)


@migrations()
def m009_index_id(db: Database) -> None:
    """Random ids of the index and of its last commit, which tell it from any other."""
    for name in ("index_id", "commit_id"):
        db.execute(f"ALTER TABLE index_info ADD COLUMN {name} TEXT NOT NULL DEFAULT ''")
        db.execute(f"UPDATE index_info SET {name} = lower(hex(randomblob(16)))")


@migrations()
def m010_texts(db: Database) -> None:
    """What search ranks: a text under one title and headings; a vector is of the text alone.

    The lexical index has an entry for each, so that a text that several documents share is found
    by the words of each one's title, and by no other's.
    """
    for statement in (
        """CREATE TABLE texts (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            vector_id INTEGER NOT NULL REFERENCES vectors (id) ON DELETE CASCADE,
            header BLOB NOT NULL, UNIQUE (vector_id, header))""",
        "ALTER TABLE chunks ADD COLUMN text_id INTEGER NOT NULL DEFAULT 0",
        "CREATE INDEX chunks_by_text ON chunks (text_id)",
        # Texts that are still to be put into the lexical index, and those to be taken out of it.
        """CREATE TABLE pending_texts (
            text_id INTEGER PRIMARY KEY REFERENCES texts (id) ON DELETE CASCADE)""",
        """CREATE TABLE unused_texts (
            text_id INTEGER PRIMARY KEY REFERENCES texts (id) ON DELETE CASCADE)""",
        # Vectors with several texts: few, so that a reader can keep them in memory.
        """CREATE TABLE shared_vectors (
            vector_id INTEGER PRIMARY KEY REFERENCES vectors (id) ON DELETE CASCADE)""",
        """CREATE TRIGGER text_added AFTER INSERT ON texts BEGIN
               INSERT INTO pending_texts VALUES (NEW.id); END""",
        """CREATE TRIGGER vector_shared AFTER INSERT ON texts
           WHEN EXISTS (SELECT 1 FROM texts WHERE vector_id = NEW.vector_id AND id != NEW.id) BEGIN
               INSERT OR IGNORE INTO shared_vectors VALUES (NEW.vector_id); END""",
        # OFFSET 1: whether a second one is left, without counting them all.
        """CREATE TRIGGER vector_not_shared AFTER DELETE ON texts
           WHEN NOT EXISTS (SELECT 1 FROM texts WHERE vector_id = OLD.vector_id LIMIT 1 OFFSET 1)
           BEGIN DELETE FROM shared_vectors WHERE vector_id = OLD.vector_id; END""",
        """CREATE TRIGGER text_used AFTER INSERT ON chunks BEGIN
               DELETE FROM unused_texts WHERE text_id = NEW.text_id; END""",
        """CREATE TRIGGER text_unused AFTER DELETE ON chunks
           WHEN NOT EXISTS (SELECT 1 FROM chunks WHERE text_id = OLD.text_id) BEGIN
               INSERT OR IGNORE INTO unused_texts SELECT id FROM texts WHERE id = OLD.text_id;
           END""",
        "DROP TRIGGER vector_to_index",
        "DROP TABLE lexical_pending",
    ):
        db.execute(statement)
    _fill_texts(db)


def _fill_texts(db: Database) -> None:
    """Say of each chunk that an older version wrote which text it is."""

    def header(title: str, heading_path: str) -> bytes:
        return header_key(title, json.loads(heading_path))

    db.conn.create_function("header_key", 2, header, deterministic=True)
    key = "header_key(d.title, c.heading_path)"
    db.execute(
        f"""INSERT OR IGNORE INTO texts (vector_id, header) SELECT c.vector_id, {key}
            FROM chunks c JOIN documents d ON d.id = c.document_id ORDER BY c.id"""
    )
    db.execute(
        f"""UPDATE chunks SET text_id = (
                SELECT t.id FROM documents d CROSS JOIN texts t
                WHERE d.id = c.document_id AND t.vector_id = c.vector_id AND t.header = {key})
            FROM chunks AS c WHERE c.id = chunks.id"""
    )
    db.conn.create_function("header_key", 2, None)


def header_key(title: str, heading_path: Sequence[str]) -> bytes:
    """Return a 16-byte hash of a passage's title and headings, for ``texts.header``."""
    line = context_line(title, heading_path).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(line, digest_size=_HEADER_BYTES).digest()


@migrations()
def m011_metadata_values(db: Database) -> None:
    """Each value of documents' metadata as a row with its type, for filters."""
    db.execute(
        """CREATE TABLE metadata_values (
            document_id INTEGER NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
            key TEXT NOT NULL, place INTEGER NOT NULL,
            kind INTEGER NOT NULL, text TEXT, number,
            PRIMARY KEY (document_id, key, place)) WITHOUT ROWID"""
    )
    documents = db.execute("SELECT id, metadata FROM documents WHERE metadata != '{}'")
    for document_id, metadata in documents.fetchall():
        rows = ((document_id, *row) for row in old_value_rows(metadata))
        db.conn.executemany(INSERT_METADATA_VALUE, rows)
    # An index over rows that are there is made faster than it grows.
    db.execute("CREATE INDEX metadata_by_text ON metadata_values (key, kind, text)")
    db.execute(
        """CREATE INDEX metadata_by_number ON metadata_values (key, kind, number)
           WHERE number IS NOT NULL"""
    )


@migrations()
def m012_choices(db: Database) -> None:
    """Approximate indexes that missed the wanted recall; how each root's files were chosen."""
    db.execute(
        """CREATE TABLE ann_missed (
            segment_id INTEGER PRIMARY KEY REFERENCES segments (id) ON DELETE CASCADE,
            settings TEXT NOT NULL)"""
    )
    # A JSON object; empty where an older version built the root.
    db.execute("ALTER TABLE roots ADD COLUMN choice TEXT NOT NULL DEFAULT ''")


_FILTERED_COLUMNS = (
    *("path", "root", "title", "format", "encoding", "extension"),
    *("size", "char_count", "chunk_count", "mtime_ns"),
)


@migrations()
def m013_filtered_columns(db: Database) -> None:
    """What filters compare of documents: two columns for parts of the URI, and an index on each."""
    for function in (filter_path, filter_extension):
        name = function.__name__.removeprefix("filter_")
        db.execute(f"ALTER TABLE documents ADD COLUMN {name} TEXT NOT NULL DEFAULT ''")
        db.conn.create_function("of_uri", 1, function, deterministic=True)
        db.execute(f"UPDATE documents SET {name} = of_uri(uri)")
        db.conn.create_function("of_uri", 1, None)
    for name in _FILTERED_COLUMNS:
        db.execute(f"CREATE INDEX documents_by_{name} ON documents ({name})")


KNOWN_MIGRATIONS = frozenset(
    migration.name for migration in migrations.pending(Database(memory=True))
)
"""Names of all: a database that has seen another was written by a newer version."""


def old_value_rows(metadata: str) -> Iterator[ValueRow]:
    """Yield the rows of a document's values as an older version wrote them: all as texts.

    It joined the values of a list by commas, so each part of a text between commas may be a value,
    and the whole text is one.
    """
    try:
        fields = json.loads(metadata)
    except ValueError:  # damage, which the row's checksum tells of
        return
    values = {
        name: [text, *(part.strip() for part in text.split(","))]
        for name, text in fields.items()
        if isinstance(text, str)
    }
    yield from value_rows(values)
