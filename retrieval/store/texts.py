"""Documents' texts: stored in parts, read by stretches."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

from retrieval.store.database import LOOKUP_BATCH
from retrieval.store.rows import WANTED_TEXTS_QUERY
from retrieval.store.schema import TEXT_PART_CHARS

Rows = Callable[[str, Sequence[object]], list[tuple[Any, ...]]]
"""What a query gives; ``Snapshot.rows`` is one."""


class Stretch(NamedTuple):
    """A piece of a document's text, in characters."""

    document_id: int
    start: int
    end: int


def read_text(rows: Rows, stretch: Stretch) -> str:
    """One piece, however long."""
    first, last = stretch.start // TEXT_PART_CHARS, max(stretch.start, stretch.end - 1)
    found = rows(
        "SELECT text FROM document_texts WHERE document_id = ? AND part BETWEEN ? AND ? "
        "ORDER BY part",
        [stretch.document_id, first, last // TEXT_PART_CHARS],
    )
    offset = first * TEXT_PART_CHARS
    return "".join(row[0] for row in found)[stretch.start - offset : stretch.end - offset]


def read_texts(rows: Rows, stretches: Sequence[Stretch]) -> Iterator[str]:
    """Many pieces in order: the parts that they lie in are read together."""
    keys = {(one.document_id, one.start // TEXT_PART_CHARS) for one in stretches}
    parts = {
        (document_id, part): text
        for document_id, part, text in read_wanted(rows, WANTED_TEXTS_QUERY, sorted(keys))
    }
    for one in stretches:
        part, start = divmod(one.start, TEXT_PART_CHARS)
        end = start + one.end - one.start
        if end <= TEXT_PART_CHARS:
            yield parts.get((one.document_id, part), "")[start:end]
        else:
            yield read_text(rows, one)


def read_wanted(
    rows: Rows, query: str, pairs: Sequence[tuple[int, int]]
) -> Iterator[tuple[Any, ...]]:
    """The rows of one of the queries over ``wanted``, for pairs of document id and number."""
    for start in range(0, len(pairs), LOOKUP_BATCH // 2):
        batch = pairs[start : start + LOOKUP_BATCH // 2]
        marks = ", ".join(["(?, ?)"] * len(batch))
        yield from rows(
            f"WITH wanted (document_id, number) AS (VALUES {marks}) {query}",
            list(chain.from_iterable(batch)),
        )
