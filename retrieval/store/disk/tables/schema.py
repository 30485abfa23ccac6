"""Tables of an index's database, defined by its migrations."""

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
"""Number of characters in each stored part of a document's text. Reading a passage of a huge
document reads only the parts that hold it."""

_HEADER_BYTES = 16
"""Size of the hash of a title and headings; at 16 bytes, collisions within an index are not a
concern."""

NAMED_FILES_QUERY = """
    SELECT file FROM segments UNION SELECT file FROM ann_files
    UNION SELECT file FROM lexical_files
"""
"""Selects the names of all files that belong to the last commit."""

INSERT_METADATA_VALUE = "INSERT INTO metadata_values VALUES (?, ?, ?, ?, ?, ?)"
"""Inserts a document's id and the values of a ``ValueRow``."""

migrations = Migrations("index")


@migrations()
def m001_initial(db: Database) -> None:
    """Create tables for documents, texts, chunks, vectors by content, segments, skipped files."""
    for statement in (
        """CREATE TABLE index_info (
            id INTEGER PRIMARY KEY CHECK (id = 1),
            generation INTEGER NOT NULL,
            model_name TEXT NOT NULL, model_source TEXT NOT NULL, model_location TEXT NOT NULL,
            model_revision TEXT NOT NULL, model_fingerprint TEXT NOT NULL,
            dim INTEGER NOT NULL, max_tokens INTEGER NOT NULL, dtype TEXT NOT NULL,
            chunk_tokens INTEGER NOT NULL, chunk_overlap INTEGER NOT NULL,
            created_at TEXT NOT NULL, updated_at TEXT NOT NULL)""",
        # The path of each root, to notice two folders of the same name.
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
        # One row for each distinct embedded text. The content key finds it again in any document.
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
    """Add approximate indexes for segments, and store what opening a large index needs."""
    for statement in (
        "ALTER TABLE index_info ADD COLUMN index_type TEXT NOT NULL DEFAULT 'auto'",
        "ALTER TABLE index_info ADD COLUMN target_recall REAL NOT NULL DEFAULT 0.98",
        # The hash of some blocks of the file; empty for segments written before this migration.
        "ALTER TABLE segments ADD COLUMN sample_sha256 TEXT NOT NULL DEFAULT ''",
        # The vector id of each row, int64 little-endian. The table `vectors` has the same ids,
        # but one in each row, which takes longer to read.
        "ALTER TABLE segments ADD COLUMN vector_ids BLOB NOT NULL DEFAULT x''",
        """CREATE TABLE ann_files (
            segment_id INTEGER PRIMARY KEY REFERENCES segments (id) ON DELETE CASCADE,
            file TEXT NOT NULL UNIQUE, bytes INTEGER NOT NULL, sha256 TEXT NOT NULL,
            settings TEXT NOT NULL, created_at TEXT NOT NULL)""",
        # Vectors that no chunk uses; the triggers keep the table up to date.
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
    """Record size and time of each document's metadata sidecar file; zeros if there is none."""
    db.execute("ALTER TABLE documents ADD COLUMN sidecar_size INTEGER NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE documents ADD COLUMN sidecar_mtime_ns INTEGER NOT NULL DEFAULT 0")


@migrations()
def m004_digests(db: Database) -> None:
    """Add checksums to rows; empty in rows of an older version, which are not checked."""
    db.execute("ALTER TABLE documents ADD COLUMN digest BLOB NOT NULL DEFAULT x''")
    db.execute("ALTER TABLE chunks ADD COLUMN digest BLOB NOT NULL DEFAULT x''")
    db.execute("ALTER TABLE segments ADD COLUMN ids_sha256 TEXT NOT NULL DEFAULT ''")


@migrations()
def m005_containers(db: Database) -> None:
    """Record size and time of each archive or mailbox read to its end, to notice changes."""
    db.execute(
        """CREATE TABLE containers (
            uri TEXT PRIMARY KEY, root TEXT NOT NULL,
            size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, rules TEXT NOT NULL)"""
    )


@migrations()
def m006_pages(db: Database) -> None:
    """Record the pages that a chunk is on; zeros if its document has no pages."""
    db.execute("ALTER TABLE chunks ADD COLUMN page_start INTEGER NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE chunks ADD COLUMN page_end INTEGER NOT NULL DEFAULT 0")


@migrations()
def m007_reading(db: Database) -> None:
    """Record whether chunks are embedded with their headings, and which JSON fields are text."""
    db.execute("ALTER TABLE index_info ADD COLUMN context INTEGER NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE index_info ADD COLUMN text_fields TEXT NOT NULL DEFAULT '[]'")


@migrations()
def m008_lexical(db: Database) -> None:
    """Add the lexical index: its files, and the vectors whose texts it does not hold yet."""
    for statement in (
        # The language of the texts that the next build will assume.
        "ALTER TABLE index_info ADD COLUMN language TEXT NOT NULL DEFAULT 'en'",
        # How the lexical index was made, and the engine's own list of its segments.
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
    """Add random ids that identify the index and its last commit."""
    for name in ("index_id", "commit_id"):
        db.execute(f"ALTER TABLE index_info ADD COLUMN {name} TEXT NOT NULL DEFAULT ''")
        db.execute(f"UPDATE index_info SET {name} = lower(hex(randomblob(16)))")


@migrations()
def m010_texts(db: Database) -> None:
    """Add the texts that search ranks; one text is a vector's text under one title and headings.

    The lexical index has an entry for each of them. So a passage that several documents share is
    found in each document by the words of that document's title only.
    """
    for statement in (
        """CREATE TABLE texts (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            vector_id INTEGER NOT NULL REFERENCES vectors (id) ON DELETE CASCADE,
            header BLOB NOT NULL, UNIQUE (vector_id, header))""",
        "ALTER TABLE chunks ADD COLUMN text_id INTEGER NOT NULL DEFAULT 0",
        "CREATE INDEX chunks_by_text ON chunks (text_id)",
        # Texts to add to the lexical index, and texts to remove from it.
        """CREATE TABLE pending_texts (
            text_id INTEGER PRIMARY KEY REFERENCES texts (id) ON DELETE CASCADE)""",
        """CREATE TABLE unused_texts (
            text_id INTEGER PRIMARY KEY REFERENCES texts (id) ON DELETE CASCADE)""",
        # Vectors with several texts. They are few, so a reader can keep their ids in memory.
        """CREATE TABLE shared_vectors (
            vector_id INTEGER PRIMARY KEY REFERENCES vectors (id) ON DELETE CASCADE)""",
        """CREATE TRIGGER text_added AFTER INSERT ON texts BEGIN
               INSERT INTO pending_texts VALUES (NEW.id); END""",
        """CREATE TRIGGER vector_shared AFTER INSERT ON texts
           WHEN EXISTS (SELECT 1 FROM texts WHERE vector_id = NEW.vector_id AND id != NEW.id) BEGIN
               INSERT OR IGNORE INTO shared_vectors VALUES (NEW.vector_id); END""",
        # OFFSET 1 finds out whether a second text is left without counting all of them.
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
    """Fill in the text of each chunk that an older version wrote."""

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
    """Store each value of documents' metadata as a row with its type, for filters."""
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
    # Building an index over existing rows is faster than updating it row by row.
    db.execute("CREATE INDEX metadata_by_text ON metadata_values (key, kind, text)")
    db.execute(
        """CREATE INDEX metadata_by_number ON metadata_values (key, kind, number)
           WHERE number IS NOT NULL"""
    )


@migrations()
def m012_choices(db: Database) -> None:
    """Record approximate indexes that missed their target, and how each root chose its files."""
    db.execute(
        """CREATE TABLE ann_missed (
            segment_id INTEGER PRIMARY KEY REFERENCES segments (id) ON DELETE CASCADE,
            settings TEXT NOT NULL)"""
    )
    # A JSON object; empty if an older version built the root.
    db.execute("ALTER TABLE roots ADD COLUMN choice TEXT NOT NULL DEFAULT ''")


_FILTERED_COLUMNS = (
    *("path", "root", "title", "format", "encoding", "extension"),
    *("size", "char_count", "chunk_count", "mtime_ns"),
)


@migrations()
def m013_filtered_columns(db: Database) -> None:
    """Add two columns for parts of the URI, and an index for each column that filters compare."""
    for function in (filter_path, filter_extension):
        name = function.__name__.removeprefix("filter_")
        db.execute(f"ALTER TABLE documents ADD COLUMN {name} TEXT NOT NULL DEFAULT ''")
        db.conn.create_function("of_uri", 1, function, deterministic=True)
        db.execute(f"UPDATE documents SET {name} = of_uri(uri)")
        db.conn.create_function("of_uri", 1, None)
    for name in _FILTERED_COLUMNS:
        db.execute(f"CREATE INDEX documents_by_{name} ON documents ({name})")


@migrations()
def m014_embedded_texts(db: Database) -> None:
    """Record what a chunk is embedded without and with: parts left out, and names of columns."""
    db.execute("ALTER TABLE chunks ADD COLUMN table_header TEXT NOT NULL DEFAULT ''")
    # A JSON list of [start, end]; empty if nothing is left out.
    db.execute("ALTER TABLE chunks ADD COLUMN omitted TEXT NOT NULL DEFAULT ''")


KNOWN_MIGRATIONS = frozenset(
    migration.name for migration in migrations.pending(Database(memory=True))
)
"""Names of all migrations. A database with any other migration was written by a newer version."""


def old_value_rows(metadata: str) -> Iterator[ValueRow]:
    """Yield the value rows of metadata that an older version wrote, all of them texts.

    The older version joined the values of a list by commas. So the whole text is a value, and each
    part between commas may be one too.
    """
    try:
        fields = json.loads(metadata)
    except ValueError:  # damaged; the row's checksum reports it
        return
    values = {
        name: [text, *(part.strip() for part in text.split(","))]
        for name, text in fields.items()
        if isinstance(text, str)
    }
    yield from value_rows(values)
