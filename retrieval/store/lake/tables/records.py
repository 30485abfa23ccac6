"""Whole rows of documents and chunks as one value each.

A search reads a few rows with nearly all of their columns. From a table of columns, that takes a
request for each column of each row, and 4 ms of computing for ten chunks. A record takes one
request for a row, and ten take 0.5 ms. The columns beside it are for filters, for statistics and
for other programs; ``verify`` compares both.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from retrieval.store.disk.tables.rows import (
    CHUNK_COLUMNS,
    DOCUMENT_COLUMNS,
    ChunkColumns,
    damaged_row,
)

RECORD: Final = "record"
"""Name of the column of records."""

_DOCUMENT: Final = ("id", "mtime_ns", "digest", *DOCUMENT_COLUMNS)
_DIGEST_AT: Final = _DOCUMENT.index("digest")
_BEFORE_CHUNK: Final = 3
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def document_record(row: Mapping[str, Any]) -> bytes:
    """Return the record of a document.

    Args:
        row: its columns in the table, by name.
    """
    values = [row[name] for name in _DOCUMENT]
    values[_DIGEST_AT] = values[_DIGEST_AT].hex()
    return _encoded(values)


def document_values(record: bytes) -> tuple[Any, ...]:
    """Return the values in a document's record, in the order of ``DOCUMENT_QUERY``.

    Raises:
        IndexDamaged: the record is malformed.
    """
    identifier, mtime_ns, digest, *values = _decoded(record, len(_DOCUMENT), _DIGEST_AT)
    return (identifier, mtime_ns, digest, *values)


def chunk_record(
    document_id: int, content_key: bytes, digest: bytes, values: Sequence[object]
) -> bytes:
    """Return the record of a chunk.

    Args:
        document_id: its document.
        content_key: the key of its vector.
        digest: checksum of its row.
        values: its columns, in the order of ``CHUNK_COLUMNS``.
    """
    return _encoded([document_id, digest.hex(), content_key.hex(), *values])


class ChunkRecord:
    """A chunk as its record has it."""

    __slots__ = ("columns", "content_key", "digest", "document_id")

    def __init__(self, record: bytes) -> None:
        """Decode a record.

        Raises:
            IndexDamaged: the record is malformed.
        """
        count = _BEFORE_CHUNK + len(CHUNK_COLUMNS)
        self.document_id, self.digest, key, *values = _decoded(record, count, 1)
        self.content_key = _from_hex(key)
        self.columns = ChunkColumns._make(values)


def _encoded(values: Sequence[object]) -> bytes:
    return _ENCODER.encode(values).encode("utf-8", "surrogatepass")


def _decoded(record: bytes, count: int, digest_at: int) -> list[Any]:
    try:
        values = json.loads(record.decode("utf-8", "surrogatepass"))
    except ValueError as error:
        raise damaged_row("a record is malformed") from error
    if not isinstance(values, list) or len(values) != count:
        raise damaged_row("a record is malformed")
    values[digest_at] = _from_hex(values[digest_at])
    return values


def _from_hex(text: object) -> bytes:
    try:
        return bytes.fromhex(str(text))
    except ValueError as error:
        raise damaged_row("a record is malformed") from error
