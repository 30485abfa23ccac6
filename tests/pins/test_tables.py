"""The form of an index on the disk: tables, columns, migrations, and the files' names.

Later migrations may add tables and columns; what is here stays, and stays in this order.
"""

import re
from pathlib import Path

import pytest
from sqlite_utils import Database

from retrieval.store.disk.files.vector_file import ANN, LEXICAL, SUFFIX, VECTORS
from retrieval.store.disk.tables.database import APPLICATION_ID, DATABASE_NAME
from retrieval.store.disk.tables.locks import BUILD_LOCK, COMMIT_LOCK, MAINTENANCE_LOCK
from retrieval.store.disk.tables.rows import CHUNK_COLUMNS, DOCUMENT_COLUMNS
from retrieval.store.disk.tables.schema import migrations

MIGRATIONS = [
    "m001_initial",
    "m002_approximate_indexes",
    "m003_sidecars",
    "m004_digests",
    "m005_containers",
    "m006_pages",
    "m007_reading",
    "m008_lexical",
    "m009_index_id",
    "m010_texts",
    "m011_metadata_values",
    "m012_choices",
    "m013_filtered_columns",
    "m014_embedded_texts",
]

COLUMNS = {
    "_sqlite_migrations": "id migration_set name applied_at",
    "ann_files": "segment_id file bytes sha256 settings created_at",
    "ann_missed": "segment_id settings",
    "chunks": "id document_id ordinal vector_id char_start char_end line_start line_end "
    "heading_path token_count digest page_start page_end text_id "
    "table_header omitted",
    "containers": "uri root size mtime_ns rules",
    "document_texts": "document_id part text",
    "documents": "id uri root title format encoding metadata size mtime_ns sha256 char_count "
    "chunk_count sidecar_size sidecar_mtime_ns digest path extension",
    "index_info": "id generation model_name model_source model_location model_revision "
    "model_fingerprint dim max_tokens dtype chunk_tokens chunk_overlap created_at updated_at "
    "index_type target_recall context text_fields language index_id commit_id",
    "lexical_files": "file bytes sha256 sample_sha256",
    "lexical_index": "id language analysis meta meta_sha256",
    "metadata_values": "document_id key place kind text number",
    "pending_texts": "text_id",
    "roots": "name path choice",
    "segments": "id file rows bytes sha256 created_at sample_sha256 vector_ids ids_sha256",
    "shared_vectors": "vector_id",
    "skipped": "uri root reason detail",
    "texts": "id vector_id header",
    "unused_texts": "text_id",
    "unused_vectors": "vector_id",
    "vectors": "id segment_id row content_key truncated",
}

INDEXES = """
    chunks_by_text chunks_by_vector documents_by_char_count documents_by_chunk_count
    documents_by_encoding documents_by_extension documents_by_format documents_by_mtime_ns
    documents_by_path documents_by_root documents_by_size documents_by_title
    idx__sqlite_migrations_migration_set_name metadata_by_number metadata_by_text
"""
TRIGGERS = """
    chunk_added chunk_removed text_added text_unused text_used vector_added vector_not_shared
    vector_shared
"""


@pytest.fixture
def database() -> Database:
    made = Database(memory=True)
    migrations.apply(made)
    return made


def test_migrations(database: Database) -> None:
    names = [row["name"] for row in database["_sqlite_migrations"].rows]
    assert names[: len(MIGRATIONS)] == MIGRATIONS
    sets = {row["migration_set"] for row in database["_sqlite_migrations"].rows}
    assert sets == {"index"}


@pytest.mark.parametrize("table", COLUMNS)
def test_columns(table: str, database: Database) -> None:
    expected = COLUMNS[table].split()
    assert [column.name for column in database[table].columns][: len(expected)] == expected


@pytest.mark.parametrize(("kind", "names"), [("index", INDEXES), ("trigger", TRIGGERS)])
def test_indexes_and_triggers(kind: str, names: str, database: Database) -> None:
    rows = database.query("SELECT name FROM sqlite_master WHERE type = ?", [kind])
    assert set(names.split()) <= {row["name"] for row in rows}


def test_columns_under_the_rows_checksums() -> None:
    documents = "uri root title format encoding metadata size sha256 char_count chunk_count"
    chunks = (
        "ordinal vector_id char_start char_end line_start line_end heading_path token_count "
        "page_start page_end table_header omitted"
    )
    assert " ".join(DOCUMENT_COLUMNS) == documents
    assert " ".join(CHUNK_COLUMNS) == chunks


def test_names_of_the_files() -> None:
    assert int.from_bytes(b"GTER", "big") == APPLICATION_ID
    assert DATABASE_NAME == "index.db"
    assert (COMMIT_LOCK, BUILD_LOCK) == ("writer.lock", "build.lock")
    assert MAINTENANCE_LOCK == "maintenance.lock"
    assert (VECTORS, ANN, LEXICAL, SUFFIX) == ("vectors-", "ann-", "lexical-", ".faiss")


def test_names_of_an_indexs_files(pinned_index: Path) -> None:
    patterns = (
        r"index\.db",
        r"(writer|build|maintenance)\.lock",
        r"vectors-[0-9a-f]{16}\.faiss",
        r"lexical-[0-9a-f]{32}\.[a-z]+",
    )
    for path in pinned_index.iterdir():
        assert any(re.fullmatch(pattern, path.name) for pattern in patterns), path.name
