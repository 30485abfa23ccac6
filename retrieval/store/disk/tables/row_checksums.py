"""Checksums of single rows: SQLite has none, and a flipped bit must not be shown as truth."""

import hashlib
import json

DOCUMENT_COLUMNS = (
    "uri",
    "root",
    "title",
    "format",
    "encoding",
    "metadata",
    "size",
    "sha256",
    "char_count",
    "chunk_count",
)
"""What ``document_digest`` is over."""

CHUNK_COLUMNS = (
    "ordinal",
    "vector_id",
    "char_start",
    "char_end",
    "line_start",
    "line_end",
    "heading_path",
    "token_count",
    "page_start",
    "page_end",
)
"""What ``chunk_digest`` is over."""

_NO_PAGES = (0, 0)

_BYTES = 8
_ENCODER = json.JSONEncoder(ensure_ascii=False)


def document_digest(*columns: str | int) -> bytes:
    """Over what the table says of a document, but for what a touched file changes.

    Args:
        columns: the values of ``DOCUMENT_COLUMNS``, as stored.
    """
    return _digest(columns)


def chunk_digest(uri: str, *columns: str | int) -> bytes:
    """Over what the table says of a chunk.

    Args:
        uri: its document's: they belong together.
        columns: the values of ``CHUNK_COLUMNS``, as stored.
    """
    # Older versions knew no pages: a row without any has the checksum that they gave it.
    kept = columns[: -len(_NO_PAGES)] if columns[-len(_NO_PAGES) :] == _NO_PAGES else columns
    return _digest((uri, *kept))


def _digest(values: tuple[str | int, ...]) -> bytes:
    data = _ENCODER.encode(values).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=_BYTES).digest()
