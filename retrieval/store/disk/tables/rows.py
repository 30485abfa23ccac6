"""Rows of the tables → records; a row whose checksum does not fit is damage, not an answer."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from retrieval.domain.embedded_text import embedded_text
from retrieval.domain.passages import Passage, passage_name
from retrieval.domain.records import DocumentRow
from retrieval.errors import IndexDamaged
from retrieval.store.disk.tables.database import DATABASE_NAME
from retrieval.store.disk.tables.schema import TEXT_PART_CHARS

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

_DOCUMENT = ", ".join(f"d.{column}" for column in DOCUMENT_COLUMNS)
_CHUNK = ", ".join(f"c.{column}" for column in CHUNK_COLUMNS)

DOCUMENT_QUERY = f"SELECT d.id, d.mtime_ns, d.digest, {_DOCUMENT} FROM documents d"
"""What ``document_row`` takes."""

_PASSAGE = f"v.content_key, c.document_id, c.digest, d.digest, {_DOCUMENT}, {_CHUNK}"
_JOINED = "JOIN documents d ON d.id = c.document_id JOIN vectors v ON v.id = c.vector_id"

PASSAGE_QUERY = f"SELECT {_PASSAGE} FROM chunks c {_JOINED}"
"""What ``stored_passage`` takes."""

# CROSS JOIN is how SQLite is told to begin with what is wanted, and not with a whole table.
PASSAGES_QUERY = f"""
    SELECT {_PASSAGE} FROM wanted w
    CROSS JOIN chunks c ON c.document_id = w.document_id AND c.ordinal BETWEEN w.first AND w.last
    {_JOINED}
"""
"""The same, for the rows of a table ``wanted (document_id, first, last)``."""

NEIGHBOURS_QUERY = """
    SELECT c.document_id, c.ordinal, c.char_start, c.char_end, c.heading_path FROM wanted w
    CROSS JOIN chunks c ON c.document_id = w.document_id AND c.ordinal BETWEEN w.first AND w.last
"""
"""Document id and ``Neighbour`` of passages, by ``wanted`` alike."""

TEXTS_QUERY = """
    SELECT t.document_id, t.part, t.text FROM wanted w CROSS JOIN document_texts t
    ON t.document_id = w.document_id AND t.part BETWEEN w.first AND w.last
"""
"""Parts of documents' texts, by ``wanted`` alike."""

# From each name to the next one in the index, past all values of a field.
FIELD_NAMES_QUERY = """
    WITH RECURSIVE names (name) AS (
        SELECT min(key) FROM metadata_values
        UNION ALL
        SELECT (SELECT min(key) FROM metadata_values WHERE key > name) FROM names
        WHERE name IS NOT NULL)
    SELECT name FROM names WHERE name IS NOT NULL LIMIT 10000
"""
"""The names of the fields that documents have in their metadata, in order; the first 10,000."""

_DOCUMENT_WIDTH = len(DOCUMENT_COLUMNS)
_ORDINAL = 4 + _DOCUMENT_WIDTH + CHUNK_COLUMNS.index("ordinal")


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


class StoredPassage(NamedTuple):
    """A passage as the tables hold it: all but its text."""

    content_key: bytes
    """SHA-256 of the text that was embedded."""
    document_id: int
    uri: str
    title: str
    metadata: str
    """JSON."""
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

    def embedded_text(self, text: str, *, context: bool) -> str:
        """What its vector was made of; see ``retrieval.domain.embedded_text``.

        Raises:
            IndexDamaged: a field is no JSON.
        """
        path = from_json(self.heading_path)
        return embedded_text(text, title=self.title, heading_path=path, context=context)

    def passage(self, text: str, score: float) -> Passage:
        """With its text, and its score if a search found it (else NaN).

        Raises:
            IndexDamaged: a field is no JSON.
        """
        return Passage(
            name=passage_name(self.document_id, self.ordinal),
            document_id=self.document_id,
            uri=self.uri,
            title=self.title,
            ordinal=self.ordinal,
            char_start=self.char_start,
            char_end=self.char_end,
            line_start=self.line_start,
            line_end=self.line_end,
            heading_path=tuple(from_json(self.heading_path)),
            text=text,
            token_count=self.token_count,
            metadata=from_json(self.metadata),
            score=score,
            page_start=self.page_start,
            page_end=self.page_end,
        )


def stored_passage(row: Sequence[Any]) -> StoredPassage:
    """A row of ``PASSAGE_QUERY``.

    Raises:
        IndexDamaged: it is not what was written.
    """
    content_key, document_id, chunk_sum, document_sum, *columns = row
    document, chunk = columns[:_DOCUMENT_WIDTH], columns[_DOCUMENT_WIDTH:]
    uri, title, metadata = document[0], document[2], document[5]
    _check_document(document_sum, document)
    if chunk_sum and chunk_digest(uri, *chunk) != chunk_sum:
        raise damaged_row(f"what it says of passage {chunk[0]} of {uri} has changed")
    return StoredPassage(content_key, document_id, uri, title, metadata, *chunk)


def passage_place(row: Sequence[Any]) -> tuple[int, int]:
    """(document id, ordinal) of a row of ``PASSAGE_QUERY``, not checked."""
    return row[1], row[_ORDINAL]


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


Rows = Callable[[str, Sequence[object]], list[tuple[Any, ...]]]
"""What a query gives; ``Snapshot.rows`` is one."""

Span = tuple[int, int, int]
"""Document id, and the first and last number of what is wanted of it."""


class TextPiece(NamedTuple):
    """A piece of a document's text, in characters."""

    document_id: int
    start: int
    end: int


def read_texts(rows: Rows, pieces: Sequence[TextPiece]) -> Iterator[str]:
    """Pieces of texts, in order; the parts that they lie in are read by one query, each once."""
    spans = [(one.document_id, *_parts_of(one)) for one in pieces]
    parts = {
        (document_id, part): text
        for document_id, part, text in read_spans(rows, TEXTS_QUERY, spans)
    }
    for one, (document_id, first, last) in zip(pieces, spans, strict=True):
        text = "".join(parts.get((document_id, part), "") for part in range(first, last + 1))
        offset = first * TEXT_PART_CHARS
        yield text[one.start - offset : one.end - offset]


def _parts_of(piece: TextPiece) -> tuple[int, int]:
    """The first and the last part that a piece lies in."""
    last = max(piece.start, piece.end - 1)
    return piece.start // TEXT_PART_CHARS, last // TEXT_PART_CHARS


def read_spans(rows: Rows, query: str, spans: Sequence[Span]) -> list[tuple[Any, ...]]:
    """The rows of one of the queries over ``wanted``, each once, by a single query."""
    return rows(
        f"""WITH wanted (document_id, first, last) AS
            (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'),
                    json_extract(value, '$[2]') FROM json_each(?))
            {query}""",
        [json.dumps(_united(spans))],
    )


def _united(spans: Sequence[Span]) -> list[Span]:
    """The same in spans that don't overlap."""
    united: list[Span] = []
    for document_id, of_document in groupby(sorted(spans), itemgetter(0)):
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
