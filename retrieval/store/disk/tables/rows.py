"""Read and write the rows of documents and passages, each with a checksum.

``DocumentColumns`` and ``ChunkColumns`` define the columns; queries, inserts, records and checksums
are derived from them. SQLite has no checksums of its own, so every row carries one. A row whose
checksum does not match raises ``IndexDamaged`` instead of being returned.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import lru_cache, partial
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, NamedTuple

from retrieval.domain.embedded_text import embedded_text
from retrieval.domain.passages import Passage, Span, passage_name, rfc3339
from retrieval.domain.records import DocumentRow
from retrieval.errors import IndexDamaged
from retrieval.store.disk.tables.database import DATABASE_NAME
from retrieval.store.disk.tables.filter_functions import filter_extension, filter_path
from retrieval.store.disk.tables.schema import TEXT_PART_CHARS
from retrieval.store.media_types import media_type
from retrieval.store.records import StagedChunk, StagedDocument


class DocumentColumns(NamedTuple):
    """Columns of a document, without those that change when its file is merely touched."""

    uri: str
    root: str
    title: str
    format: str
    encoding: str
    metadata: str
    """JSON."""
    size: int
    sha256: str
    char_count: int
    chunk_count: int


class ChunkColumns(NamedTuple):
    """Columns of a chunk."""

    ordinal: int
    vector_id: int
    char_start: int
    char_end: int
    line_start: int
    line_end: int
    heading_path: str
    """JSON."""
    token_count: int
    page_start: int
    page_end: int
    table_header: str
    omitted: str
    """JSON; empty if nothing is left out."""


DOCUMENT_COLUMNS: Final = DocumentColumns._fields
CHUNK_COLUMNS: Final = ChunkColumns._fields
"""Column names in the order of queries and checksums, which must not change."""

_NO_PAGES: Final = (0, 0)
_AS_IT_STANDS: Final = ("", "")
"""Values of ``table_header`` and ``omitted`` of a chunk that is embedded as it stands."""

_DIGEST_BYTES: Final = 8
"""Size of a checksum. It detects accidental damage; the chance to miss one is 1 in 2**64."""
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False)

_DOCUMENT = ", ".join(f"d.{column}" for column in DOCUMENT_COLUMNS)

DOCUMENT_QUERY = f"SELECT d.id, d.mtime_ns, d.digest, {_DOCUMENT} FROM documents d"
"""Selects rows for ``read_document``."""

CHUNK_LIST: Final = ", ".join(f"c.{column}" for column in CHUNK_COLUMNS)
"""Columns of ``ChunkColumns`` in a query that calls the table of chunks ``c``."""

_PASSAGE = (
    f"v.content_key, c.document_id, c.digest, d.digest, d.mtime_ns, {_DOCUMENT}, {CHUNK_LIST}"
)
_BEFORE_COLUMNS: Final = 5
_JOINED = "JOIN documents d ON d.id = c.document_id JOIN vectors v ON v.id = c.vector_id"

PASSAGE_QUERY = f"SELECT {_PASSAGE} FROM chunks c {_JOINED}"
"""Selects rows for ``read_passage``."""

# CROSS JOIN makes SQLite begin with the wanted rows, not with a whole table.
PASSAGES_QUERY = f"""
    SELECT {_PASSAGE} FROM wanted w
    CROSS JOIN chunks c ON c.document_id = w.document_id AND c.ordinal BETWEEN w.first AND w.last
    {_JOINED}
"""
"""Selects the same rows for the ranges in a table ``wanted (document_id, first, last)``; see
``read_ranges``."""

_INSERTED_CHUNK = ("document_id", *CHUNK_COLUMNS, "digest")
INSERT_CHUNK = f"""
    INSERT INTO chunks ({", ".join(_INSERTED_CHUNK)}, text_id)
    VALUES ({", ".join("?" * len(_INSERTED_CHUNK))},
            (SELECT id FROM texts WHERE vector_id = ? AND header = ?))
"""
"""Takes as parameters the document's id, ``chunk_values`` and the key of a row of ``texts``."""

NEIGHBOURS_QUERY = """
    SELECT c.document_id, c.ordinal, c.char_start, c.char_end, c.heading_path FROM wanted w
    CROSS JOIN chunks c ON c.document_id = w.document_id AND c.ordinal BETWEEN w.first AND w.last
"""
"""Selects the document id and the fields of ``Neighbour`` for the ranges in ``wanted``."""

TEXTS_QUERY = """
    SELECT t.document_id, t.part, t.text FROM wanted w CROSS JOIN document_texts t
    ON t.document_id = w.document_id AND t.part BETWEEN w.first AND w.last
"""
"""Selects parts of documents' texts for the ranges in ``wanted``."""

# Each step jumps to the next name in the table's index, past all values of a field.
FIELD_NAMES_QUERY = """
    WITH RECURSIVE names (name) AS (
        SELECT min(key) FROM metadata_values
        UNION ALL
        SELECT (SELECT min(key) FROM metadata_values WHERE key > name) FROM names
        WHERE name IS NOT NULL)
    SELECT name FROM names WHERE name IS NOT NULL LIMIT 10000
"""
"""Selects the names of all metadata fields in order, at most 10,000."""

_DOCUMENT_END = _BEFORE_COLUMNS + len(DOCUMENT_COLUMNS)
_ORDINAL = _DOCUMENT_END + CHUNK_COLUMNS.index("ordinal")


def document_digest(*columns: str | int) -> bytes:
    """Return the checksum of a document's row.

    Args:
        columns: stored values of ``DOCUMENT_COLUMNS``.
    """
    return _digest(columns)


def chunk_digest(uri: str, *columns: str | int) -> bytes:
    """Return the checksum of a chunk's row.

    Args:
        uri: URI of the chunk's document; including it ties the chunk to that document.
        columns: stored values of ``CHUNK_COLUMNS``.
    """
    # Older versions lacked the last columns, so a row without them keeps the checksum that they
    # computed.
    for unknown in (_AS_IT_STANDS, _NO_PAGES):
        if columns[-len(unknown) :] == unknown:
            columns = columns[: -len(unknown)]
    return _digest((uri, *columns))


def _digest(values: tuple[str | int, ...]) -> bytes:
    data = _ENCODER.encode(values).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()


def document_values(staged: StagedDocument) -> dict[str, str | int | bytes]:
    """Return a document's columns by name, with its checksum but without its id."""
    document, source = staged.document, staged.source
    columns = DocumentColumns(
        uri=document.uri,
        root=source.root,
        title=document.title,
        format=document.format,
        encoding=document.encoding,
        metadata=json.dumps(dict(document.metadata), ensure_ascii=False, allow_nan=False),
        size=source.stamp.size,
        sha256=staged.sha256,
        char_count=len(document.text),
        chunk_count=len(staged.chunks),
    )
    return {
        **columns._asdict(),
        **asdict(source.stamp),
        "path": filter_path(document.uri),
        "extension": filter_extension(document.uri),
        "digest": document_digest(*columns),
    }


def chunk_values(uri: str, staged: StagedChunk) -> tuple[int | str | bytes, ...]:
    """Return the columns of a chunk, followed by its checksum."""
    chunk = staged.chunk
    columns = ChunkColumns(
        ordinal=chunk.ordinal,
        vector_id=staged.vector_id,
        char_start=chunk.char_start,
        char_end=chunk.char_end,
        line_start=chunk.line_start,
        line_end=chunk.line_end,
        heading_path=_heading_json(chunk.heading_path),
        token_count=chunk.token_count,
        page_start=chunk.page_start,
        page_end=chunk.page_end,
        table_header=chunk.table_header,
        omitted=json.dumps(chunk.omitted, separators=(",", ":")) if chunk.omitted else "",
    )
    return (*columns, chunk_digest(uri, *columns))


@lru_cache(maxsize=256)  # chunks of one section have the same headings
def _heading_json(heading_path: tuple[str, ...]) -> str:
    return json.dumps(heading_path, ensure_ascii=False)


def read_document(row: Sequence[Any]) -> DocumentRow:
    """Return the document in a row of ``DOCUMENT_QUERY``.

    Raises:
        IndexDamaged: the row's checksum does not match.
    """
    identifier, mtime_ns, digest, *values = row
    document = DocumentColumns._make(values)
    _check_document(digest, document)
    return DocumentRow(
        id=identifier,
        uri=document.uri,
        title=document.title,
        format=document.format,
        encoding=document.encoding,
        metadata=from_json(document.metadata),
        size_bytes=document.size,
        modified_at=rfc3339(_moment(mtime_ns)),
        char_count=document.char_count,
        chunk_count=document.chunk_count,
        sha256=document.sha256,
        media_type=media_type(document.format, document.uri),
    )


def _moment(nanoseconds: int) -> datetime:
    """Return a time since the epoch, to the second."""
    return datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC)


class StoredPassage(NamedTuple):
    """A passage as stored in the tables, without its text."""

    content_key: bytes
    """SHA-256 of the embedded text."""
    document_id: int
    mtime_ns: int
    """Modification time of the document's file."""
    document: DocumentColumns
    chunk: ChunkColumns

    def was_made_from(self, text: str, *, context: bool) -> bool:
        """Whether its vector was made from this text of its own.

        Raises:
            IndexDamaged: a field is not JSON.
        """
        return is_embedded(self.content_key, self.document.title, self.chunk, text, context=context)

    def passage(self, text: str, score: float) -> Passage:
        """Return the passage with its text and its score; NaN if no search found it.

        Raises:
            IndexDamaged: a field is not JSON.
        """
        document, chunk = self.document, self.chunk
        return Passage(
            name=passage_name(self.document_id, chunk.ordinal),
            document_id=self.document_id,
            uri=document.uri,
            title=document.title,
            ordinal=chunk.ordinal,
            char_start=chunk.char_start,
            char_end=chunk.char_end,
            line_start=chunk.line_start,
            line_end=chunk.line_end,
            heading_path=tuple(from_json(chunk.heading_path)),
            text=text,
            token_count=chunk.token_count,
            metadata=from_json(document.metadata),
            score=score,
            page_start=chunk.page_start,
            page_end=chunk.page_end,
            table_header=chunk.table_header,
            omitted=spans_from_json(chunk.omitted),
            format=document.format,
            media_type=media_type(document.format, document.uri),
            size_bytes=document.size,
            modified_at=_moment(self.mtime_ns),
        )


def is_embedded(
    content_key: bytes, title: str, chunk: ChunkColumns, text: str, *, context: bool
) -> bool:
    """Whether the vector with a content key was made from a chunk.

    Args:
        content_key: SHA-256 of what was embedded.
        title: the document's title.
        chunk: the chunk as stored.
        text: the chunk's own text.
        context: as in ``ChunkSettings``.

    Raises:
        IndexDamaged: a field is not JSON.
    """
    make = partial(
        embedded_text,
        text,
        title=title,
        heading_path=from_json(chunk.heading_path) if context else (),
        context=context,
        table_header=chunk.table_header,
        omitted=spans_from_json(chunk.omitted),
    )
    if _sha256(made := make()) == content_key:
        return True
    # Versions before 0.2 embedded invisible characters.
    with_invisible = make(invisible=True)
    return with_invisible != made and _sha256(with_invisible) == content_key


def _sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()


def spans_from_json(text: str) -> tuple[Span, ...]:
    """Return the spans in the column ``chunks.omitted``.

    Raises:
        IndexDamaged: the value is not valid JSON.
    """
    return tuple(Span(*span) for span in from_json(text)) if text else ()


def read_passage(row: Sequence[Any]) -> StoredPassage:
    """Return the passage in a row of ``PASSAGE_QUERY``.

    Raises:
        IndexDamaged: the row's checksum does not match.
    """
    content_key, document_id, chunk_sum, document_sum, mtime_ns = row[:_BEFORE_COLUMNS]
    document = DocumentColumns._make(row[_BEFORE_COLUMNS:_DOCUMENT_END])
    chunk = ChunkColumns._make(row[_DOCUMENT_END:])
    _check_document(document_sum, document)
    if chunk_sum and chunk_digest(document.uri, *chunk) != chunk_sum:
        raise damaged_row(f"what it says of passage {chunk.ordinal} of {document.uri} has changed")
    return StoredPassage(content_key, document_id, mtime_ns, document, chunk)


def passage_key(row: Sequence[Any]) -> tuple[int, int]:
    """Return (document id, ordinal) of a row of ``PASSAGE_QUERY`` without checking the row."""
    return row[1], row[_ORDINAL]


def from_json(text: str) -> Any:  # noqa: ANN401  (whatever was stored)
    """Parse the value of a JSON column.

    Raises:
        IndexDamaged: the value is not valid JSON.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise damaged_row("a field is not JSON") from error


def damaged_row(what: str) -> IndexDamaged:
    """Return the error for damage that SQLite itself does not notice."""
    return IndexDamaged(
        f"{DATABASE_NAME} is damaged: {what}; restore it from a backup, or build the index anew",
        file=DATABASE_NAME,
    )


def _check_document(digest: bytes, document: DocumentColumns) -> None:
    if digest and document_digest(*document) != digest:
        raise damaged_row(f"what it says of document {document.uri!r} has changed")


Rows = Callable[[str, Sequence[object]], list[tuple[Any, ...]]]
"""Runs a query with its parameters and returns all rows; ``Snapshot.rows`` is one."""

NumberRange = tuple[int, int, int]
"""Document id, then the first and last number of its passages or of the parts of its text."""


class TextPiece(NamedTuple):
    """A piece of a document's text, in characters."""

    document_id: int
    start: int
    end: int


def read_texts(rows: Rows, pieces: Sequence[TextPiece]) -> Iterator[str]:
    """Yield pieces of texts in order; a single query reads each part that they lie in once."""
    spans = [(one.document_id, *_part_numbers(one)) for one in pieces]
    parts = {
        (document_id, part): text
        for document_id, part, text in read_ranges(rows, TEXTS_QUERY, spans)
    }
    for one, (document_id, first, last) in zip(pieces, spans, strict=True):
        text = "".join(parts.get((document_id, part), "") for part in range(first, last + 1))
        offset = first * TEXT_PART_CHARS
        yield text[one.start - offset : one.end - offset]


def _part_numbers(piece: TextPiece) -> tuple[int, int]:
    """Return the numbers of the first and the last part that a piece lies in."""
    last = max(piece.start, piece.end - 1)
    return piece.start // TEXT_PART_CHARS, last // TEXT_PART_CHARS


def read_ranges(rows: Rows, query: str, ranges: Sequence[NumberRange]) -> list[tuple[Any, ...]]:
    """Run one of the queries over ``wanted``; return each row once even if ranges overlap."""
    return rows(
        f"""WITH wanted (document_id, first, last) AS
            (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'),
                    json_extract(value, '$[2]') FROM json_each(?))
            {query}""",
        [json.dumps(_united(ranges))],
    )


def _united(ranges: Sequence[NumberRange]) -> list[NumberRange]:
    """Join ranges that overlap or touch."""
    united: list[NumberRange] = []
    for document_id, of_document in groupby(sorted(ranges), itemgetter(0)):
        start = end = None
        for _, first, last in of_document:
            if start is None or end is None:
                start, end = first, last
            elif first <= end + 1:
                end = max(end, last)
            else:
                united.append((document_id, start, end))
                start, end = first, last
        if start is not None and end is not None:
            united.append((document_id, start, end))
    return united
