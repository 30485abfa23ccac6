"""Check an index: every byte of its files, and the consistency of its tables."""

import math
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.domain.passages import Passage
from retrieval.errors import IndexDamaged
from retrieval.store.disk.files.open_files import OpenFiles
from retrieval.store.disk.files.vector_file import file_sha256, open_vector_file
from retrieval.store.disk.info import load_info
from retrieval.store.disk.lexical.lexical_writer import lexical_is_due
from retrieval.store.disk.lexical.segment_files import check_file, load_state
from retrieval.store.disk.reading.snapshot import open_whole
from retrieval.store.disk.tables.database import DATABASE_NAME, sqlite_errors
from retrieval.store.disk.tables.filter_functions import filter_extension, filter_path
from retrieval.store.disk.tables.rows import (
    CHUNK_LIST,
    DOCUMENT_QUERY,
    PASSAGE_QUERY,
    ChunkColumns,
    from_json,
    is_embedded,
    read_document,
    read_passage,
)
from retrieval.store.disk.tables.schema import header_key, old_value_rows
from retrieval.store.disk.vectors.approximate import open_ann
from retrieval.store.disk.vectors.vector_index import row_ids
from retrieval.store.filters.values import value_rows
from retrieval.store.records import Problem

_LENGTH_TOLERANCE = 1e-3
"""Allowed deviation of a vector's length from 1; some models normalise in bfloat16."""
_ROWS = 65_536
"""Number of rows to check at a time: 100 MB of vectors at 384 dimensions."""

RESTORE = "restore it from a backup, or build the index anew"


# Rules beyond the database's own constraints, each with a query for the rows that violate it.
_RULES = (
    (
        "documents whose number of chunks is not what is recorded",
        """SELECT d.uri FROM documents d LEFT JOIN chunks c ON c.document_id = d.id
           GROUP BY d.id HAVING count(c.id) != d.chunk_count""",
    ),
    (
        "documents whose chunks are not numbered one by one",
        """SELECT d.uri FROM documents d JOIN chunks c ON c.document_id = d.id
           GROUP BY d.id HAVING min(c.ordinal) != 0 OR max(c.ordinal) != count(*) - 1""",
    ),
    (
        "documents whose text is not as long as recorded",
        """SELECT d.uri FROM documents d LEFT JOIN document_texts t ON t.document_id = d.id
           GROUP BY d.id HAVING coalesce(sum(length(t.text)), 0) != d.char_count""",
    ),
    (
        "vectors that are wrongly recorded as unused, or as used",
        """SELECT v.id FROM vectors v LEFT JOIN unused_vectors u ON u.vector_id = v.id
           WHERE (u.vector_id IS NULL) !=
                 EXISTS (SELECT 1 FROM chunks c WHERE c.vector_id = v.id)""",
    ),
    (
        "chunks whose text is another vector's, or is none",
        """SELECT c.id FROM chunks c LEFT JOIN texts t ON t.id = c.text_id
           WHERE t.vector_id IS NOT c.vector_id""",
    ),
    (
        "texts that are wrongly recorded as unused, or as used",
        """SELECT t.id FROM texts t LEFT JOIN unused_texts u ON u.text_id = t.id
           WHERE (u.text_id IS NULL) !=
                 EXISTS (SELECT 1 FROM chunks c WHERE c.text_id = t.id)""",
    ),
    (
        "vectors that are wrongly recorded as those of one text, or of several",
        """SELECT v.id FROM vectors v LEFT JOIN shared_vectors s ON s.vector_id = v.id
           LEFT JOIN texts t ON t.vector_id = v.id
           GROUP BY v.id HAVING (s.vector_id IS NOT NULL) != (count(t.id) > 1)""",
    ),
    (
        "segments with rows that no vector stands for, or the other way round",
        """SELECT s.file FROM segments s LEFT JOIN vectors v ON v.segment_id = s.id
           GROUP BY s.id HAVING count(v.id) > s.rows OR max(v.row) >= s.rows""",
    ),
)


def verify(folder: Path) -> Iterator[Problem]:
    """Check an index's last commit.

    Args:
        folder: the index. A build may write to it during the check.

    Yields:
        each problem found.

    Raises:
        NotAnIndex, IndexVersionError, StorageError: the index can't be opened at all.
    """
    with ExitStack() as stack:
        try:
            connection, files = open_whole(folder)
            stack.callback(connection.close)
            stack.callback(files.close)
            with sqlite_errors(folder):
                dim = load_info(folder, connection).model.dim
                yield from _database_problems(connection)
                yield from _segment_problems(folder, connection, files, dim)
                yield from _lexical_problems(folder, connection, files)
                yield from _row_problems(connection)
                yield from _metadata_problems(connection)
                yield from _text_problems(connection)
        except IndexDamaged as error:
            yield Problem(DATABASE_NAME, error.message, RESTORE)


def _database_problems(connection: sqlite3.Connection) -> Iterator[Problem]:
    """Run SQLite's own checks, and ours."""
    for (found,) in connection.execute("PRAGMA integrity_check(20)"):
        if found != "ok":
            yield Problem(DATABASE_NAME, str(found), RESTORE)
    for row in connection.execute("PRAGMA foreign_key_check"):
        yield Problem(
            DATABASE_NAME, f"a row of {row[0]} names one of {row[2]} that is gone", RESTORE
        )
    for what, query in _RULES:
        broken = [str(row[0]) for row in connection.execute(f"{query} LIMIT 4")]
        if broken:
            shown = ", ".join(broken[:3]) + (", …" if len(broken) > 3 else "")  # noqa: PLR2004
            yield Problem(DATABASE_NAME, f"{what}: {shown}", RESTORE)


def _segment_problems(
    folder: Path, connection: sqlite3.Connection, files: OpenFiles, dim: int
) -> Iterator[Problem]:
    """Check every byte of every vector file, and the records of its rows' vectors."""
    segments = connection.execute(
        "SELECT id, file, rows, sha256, sample_sha256, vector_ids FROM segments ORDER BY id"
    ).fetchall()
    for segment, file, rows, sha256, sample, ids in segments:
        path = files.path(file)
        try:
            index = open_vector_file(path, rows=rows, dim=dim, sample=sample)
            if file_sha256(path) != sha256:
                yield Problem(file, "its bytes have changed since it was written", RESTORE)
                continue
        except (OSError, IndexDamaged) as error:
            yield Problem(file, str(error).replace(str(path), str(folder / file)), RESTORE)
            continue
        for start in range(0, rows, _ROWS):
            part = index.reconstruct_n(start, min(_ROWS, rows - start))
            if (np.abs(np.linalg.norm(part, axis=1) - 1) > _LENGTH_TOLERANCE).any():
                yield Problem(file, "it holds vectors that are not of length 1", RESTORE)
                break
        named = row_ids(ids)
        pairs = connection.execute("SELECT row, id FROM vectors WHERE segment_id = ?", [segment])
        if len(named) != rows or any(named[row] != vector for row, vector in pairs):
            yield Problem(file, "its rows and the index's records disagree", RESTORE)
        yield from _ann_problems(folder, connection, files, segment, rows=rows, dim=dim)


def _ann_problems(
    folder: Path,
    connection: sqlite3.Connection,
    files: OpenFiles,
    segment: int,
    *,
    rows: int,
    dim: int,
) -> Iterator[Problem]:
    """Check the approximate index of a segment, if there is one."""
    for file, sha256, settings in connection.execute(
        "SELECT file, sha256, settings FROM ann_files WHERE segment_id = ?", [segment]
    ):
        try:
            open_ann(files.path(file), sha256=sha256, settings=settings, rows=rows, dim=dim)
        except (OSError, IndexDamaged):
            advice = f"make it anew with: indexer compact --index {folder}"
            yield Problem(file, "it is missing, or its bytes have changed", advice)


def _lexical_problems(
    folder: Path, connection: sqlite3.Connection, files: OpenFiles
) -> Iterator[Problem]:
    """Check every byte of the lexical index, and that all passages are in it."""
    advice = f"make it anew with: indexer compact --index {folder}"
    state = load_state(connection)
    if state is None:
        return
    for file in state.files:
        try:
            check_file(folder, file, files.path(file.name))
            if file_sha256(files.path(file.name)) != file.sha256:
                yield Problem(file.name, "its bytes have changed since it was written", advice)
        except (OSError, IndexDamaged):
            yield Problem(file.name, "it is missing, or its bytes have changed", advice)
    if lexical_is_due(connection, state.language):
        yield Problem(DATABASE_NAME, "passages that are not in the lexical index", advice)


def _row_problems(connection: sqlite3.Connection) -> Iterator[Problem]:
    """Check the rows of documents and chunks against their checksums."""

    def passage(row: tuple[Any, ...]) -> Passage:
        return read_passage(row).passage("", math.nan)

    for query, read in ((DOCUMENT_QUERY, read_document), (PASSAGE_QUERY, passage)):
        for row in connection.execute(query):
            try:
                read(row)
            except IndexDamaged as error:
                yield Problem(DATABASE_NAME, error.message, RESTORE)
                break


def _metadata_problems(connection: sqlite3.Connection) -> Iterator[Problem]:
    """Check that the columns that filters compare match documents' metadata and URIs."""
    query = "SELECT id, uri, metadata, path, extension FROM documents"
    for document, uri, metadata, path, extension in connection.execute(query):
        if (path, extension) != (filter_path(uri), filter_extension(uri)):
            what = f"the path and extension that filters see of {uri} are not its own"
            yield Problem(DATABASE_NAME, what, RESTORE)
            break
        stored = connection.execute(
            """SELECT key, place, kind, text, number FROM metadata_values
               WHERE document_id = ? ORDER BY key, place""",
            [document],
        ).fetchall()
        rows = sorted(value_rows(from_json(metadata)))
        if stored not in (rows, sorted(old_value_rows(metadata))):
            what = f"the values that filters see of {uri} are not those of its metadata"
            yield Problem(DATABASE_NAME, what, RESTORE)
            break


def _text_problems(connection: sqlite3.Connection) -> Iterator[Problem]:
    """Check that each chunk's offsets still give the text that its vector was made from."""
    documents = connection.execute("SELECT id, uri, title FROM documents").fetchall()
    (context,) = connection.execute("SELECT context FROM index_info").fetchone() or (0,)
    for document, uri, title in documents:
        parts = connection.execute(
            "SELECT text FROM document_texts WHERE document_id = ? ORDER BY part", [document]
        )
        text = "".join(row[0] for row in parts)
        chunks = connection.execute(
            f"""SELECT v.content_key, t.header, {CHUNK_LIST} FROM chunks c
               JOIN vectors v ON v.id = c.vector_id
               JOIN texts t ON t.id = c.text_id WHERE c.document_id = ?""",
            [document],
        )
        for key, header, *columns in chunks:
            chunk = ChunkColumns._make(columns)
            if header_key(title, from_json(chunk.heading_path)) != header:
                what = f"chunk {chunk.ordinal} of {uri} is not found by its title and headings"
                yield Problem(DATABASE_NAME, what, RESTORE)
                break
            own = text[chunk.char_start : chunk.char_end]
            if not is_embedded(key, title, chunk, own, context=bool(context)):
                what = f"chunk {chunk.ordinal} of {uri} is not the text that was embedded"
                yield Problem(DATABASE_NAME, what, RESTORE)
                break
