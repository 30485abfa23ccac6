"""Documents' texts: stored in parts, read by pieces."""

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from retrieval.store.disk.tables.rows import TEXTS_QUERY
from retrieval.store.disk.tables.schema import TEXT_PART_CHARS

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
