"""Rows of the tables → records; a row whose checksum does not fit is damage, not an answer."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from retrieval.errors import IndexDamaged
from retrieval.records import DocumentRow, Passage
from retrieval.store.digest import (
    CHUNK_COLUMNS,
    DOCUMENT_COLUMNS,
    chunk_digest,
    document_digest,
)
from retrieval.store.schema import DATABASE_NAME

_DOCUMENT = ", ".join(f"d.{column}" for column in DOCUMENT_COLUMNS)
_CHUNK = ", ".join(f"c.{column}" for column in CHUNK_COLUMNS)

DOCUMENT_QUERY = f"SELECT d.id, d.mtime_ns, d.digest, {_DOCUMENT} FROM documents d"
"""What ``document_row`` takes."""

PASSAGE_QUERY = f"""
    SELECT v.content_key, c.document_id, c.digest, d.digest, {_DOCUMENT}, {_CHUNK}
    FROM chunks c JOIN documents d ON d.id = c.document_id JOIN vectors v ON v.id = c.vector_id
"""
"""What ``passage_row`` takes."""

_DOCUMENT_WIDTH = len(DOCUMENT_COLUMNS)


def document_row(row: Sequence[Any]) -> DocumentRow:
    """A document.

    Raises:
        IndexDamaged: the row is not what was written.
    """
    identifier, mtime_ns, digest, *columns = row
    _check_document(digest, columns)
    uri, _root, title, form, encoding, metadata, size, _sha256, char_count, chunk_count = columns
    modified = datetime.fromtimestamp(mtime_ns // 1_000_000_000, UTC)
    return DocumentRow(
        id=identifier,
        uri=uri,
        title=title,
        format=form,
        encoding=encoding,
        metadata=from_json(metadata),
        size_bytes=size,
        modified_at=modified.isoformat().replace("+00:00", "Z"),
        char_count=char_count,
        chunk_count=chunk_count,
    )


def passage_row(row: Sequence[Any]) -> tuple[Passage, int, bytes]:
    """A passage without its text, its vector's id, and the key of its text.

    Raises:
        IndexDamaged: a row is not what was written.
    """
    content_key, document_id, chunk_sum, document_sum, *columns = row
    document, chunk = columns[:_DOCUMENT_WIDTH], columns[_DOCUMENT_WIDTH:]
    uri, title, metadata = document[0], document[2], document[5]
    _check_document(document_sum, document)
    if chunk_sum and chunk_digest(uri, *chunk) != chunk_sum:
        raise damaged_row(f"what it says of passage {chunk[0]} of {uri} has changed")
    ordinal, vector_id, start, end, line_start, line_end, heading_path, token_count = chunk
    passage = Passage(
        name=f"documents/{document_id}/passages/{ordinal}",
        document_id=document_id,
        uri=uri,
        title=title,
        ordinal=ordinal,
        char_start=start,
        char_end=end,
        line_start=line_start,
        line_end=line_end,
        heading_path=tuple(from_json(heading_path)),
        text="",
        token_count=token_count,
        metadata=from_json(metadata),
        score=float("nan"),
    )
    return passage, vector_id, content_key


def from_json(text: str) -> Any:  # noqa: ANN401  (whatever was stored)
    """What a column of JSON holds.

    Raises:
        IndexDamaged: it is no JSON any more.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise damaged_row("a field is no JSON") from error


def damaged_row(what: str) -> IndexDamaged:
    """The error for a database that is whole for SQLite, but not what was written."""
    return IndexDamaged(
        f"{DATABASE_NAME} is damaged: {what}; restore it from a backup, or build the index anew",
        file=DATABASE_NAME,
    )


def _check_document(digest: bytes, columns: Sequence[Any]) -> None:
    if digest and document_digest(*columns) != digest:
        raise damaged_row(f"what it says of document {columns[0]!r} has changed")
