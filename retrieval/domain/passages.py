"""Passages that a search finds, how they were scored, and their form in JSON."""

import math
from array import array
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

from retrieval.domain.metadata import Metadata

Mode = Literal["auto", "dense", "lexical", "hybrid"]
"""How to search. ``auto`` is hybrid for a text query on an index with words, otherwise dense."""


Fusion = Literal["weighted", "rrf"]
"""How hybrid search fuses two rankings: see ``retrieval.search.ranking``."""


DENSE_WEIGHT: Final = 0.6
"""Weight of the dense score in a weighted sum: the best on average over six collections of texts,
each with one vector per document."""


ScoreKind = Literal["cosine", "bm25", "weighted", "rrf", "rerank"]
"""What a passage's score measures: see ``retrieval.search.ranking``."""


class StageScores(NamedTuple):
    """The parts of a passage's score, by stage of the search."""

    kind: ScoreKind
    """What the score measures."""
    dense: float | None = None
    """Cosine similarity of query and passage, in [-1, 1]; None if they were not compared."""
    lexical: float | None = None
    """BM25, ≥ 0; None if the words were not compared."""
    dense_rank: int | None = None
    """Rank in the dense search, from 1; None if the passage is not in its candidates."""
    lexical_rank: int | None = None
    """Rank in the lexical search, from 1; None if the passage is not in its candidates."""
    fused: float | None = None
    """Fused score of hybrid search; None in other modes."""
    rerank: float | None = None
    """Probability that the passage answers the query, from 0 to 1; None if not reranked."""


class Hit(NamedTuple):
    """A passage that a search has found, before its text is read."""

    score: float
    """Higher is better; NaN if not scored."""
    document_id: int
    ordinal: int
    vector_id: int
    """The vector by which it was found."""
    scores: StageScores | None = None
    """None if not scored."""


def passage_name(document_id: int, ordinal: int) -> str:
    """Return a passage's resource name within a collection."""
    return f"documents/{document_id}/passages/{ordinal}"


class Span(NamedTuple):
    """Characters ``start`` (inclusive) to ``end`` (exclusive) of a passage's text."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Highlights:
    """Where a passage matches the words of a query."""

    terms: tuple[Span, ...]
    """Words of the passage that match a word of the query, in order."""
    sentence: Span | None
    """The sentence with the most distinct query words; None if no word matches."""


@dataclass(frozen=True, slots=True)
class SectionText:
    """Text of a passage and of its neighbours under the same headings."""

    text: str
    char_start: int
    """Offset of the first character in the document's text."""
    char_end: int
    """Offset after the last character."""
    complete: bool
    """Whether it is the whole section, rather than as much as was asked for."""


class Passage(NamedTuple):
    """A chunk as a search returns it.

    It is a named tuple because a search copies each passage to set its score, and copying a frozen
    dataclass takes several times as long.
    """

    name: str
    """Resource name ``documents/<document id>/passages/<ordinal>`` within a collection."""
    document_id: int
    uri: str
    title: str
    ordinal: int
    char_start: int
    char_end: int
    line_start: int
    line_end: int
    heading_path: tuple[str, ...]
    text: str
    token_count: int
    metadata: Metadata
    score: float
    """Higher is better; ``scores.kind`` says what it measures. NaN if not scored."""
    page_start: int = 0
    """Page of the first character, from 1; 0 if the format has no pages."""
    page_end: int = 0
    """Page of the last character."""
    scores: StageScores | None = None
    """The parts of the score; None if not scored."""
    similar: tuple[str, ...] = ()
    """Names of near-duplicates that were left out, the best 100 of them."""
    highlights: Highlights | None = None
    """Where it matches the words of the query, if asked for."""
    before: tuple["Passage", ...] = ()
    """The passages before it in the document, in order, if asked for."""
    after: tuple["Passage", ...] = ()
    """The passages after it in the document, in order, if asked for."""
    section: SectionText | None = None
    """The text around it, if asked for, unless a better passage has the same."""
    similar_count: int = 0
    """Number of near-duplicates that were left out."""
    table_header: str = ""
    """Names of the columns, on one line, if the passage begins in a table below the rows that name
    them; it is embedded and found with them."""
    omitted: tuple[Span, ...] = ()
    """Places in ``text`` that are neither embedded nor found by their words: comments, encoded
    data."""
    format: str = ""
    """Format of its document; see ``Document.format``."""
    media_type: str = ""
    """Media type of its document; empty if the format is unknown."""
    size_bytes: int = 0
    """Size of its document's file."""
    modified_at: datetime | None = None
    """Modification time of its document's file, in UTC."""
    vector: "array[float] | None" = None
    """Its embedding as float32, if asked for; ``numpy.asarray`` copies nothing."""


def rfc3339(moment: datetime) -> str:
    """Return a point in time, given in UTC, in the form of RFC 3339."""
    return moment.isoformat().replace("+00:00", "Z")


def passage_as_json(passage: Passage) -> dict[str, Any]:
    """Return a passage as a JSON object; ``score`` is null if it has none."""
    return {
        "name": passage.name,
        "uri": passage.uri,
        "title": passage.title,
        "heading_path": list(passage.heading_path),
        "score": None if math.isnan(passage.score) else passage.score,
        "scores": passage.scores._asdict() if passage.scores else None,
        "line_start": passage.line_start,
        "line_end": passage.line_end,
        "page_start": passage.page_start or None,
        "page_end": passage.page_end or None,
        "char_start": passage.char_start,
        "char_end": passage.char_end,
        "token_count": passage.token_count,
        "format": passage.format,
        "media_type": passage.media_type,
        "size_bytes": passage.size_bytes,
        "modified_at": rfc3339(passage.modified_at) if passage.modified_at else None,
        "metadata": dict(passage.metadata),
        "table_header": passage.table_header or None,
        "text": passage.text,
        "omitted": [list(span) for span in passage.omitted],
        "similar": list(passage.similar),
        "similar_count": passage.similar_count,
        "highlights": _highlights_as_json(passage.highlights),
        "before": [passage_as_json(one) for one in passage.before],
        "after": [passage_as_json(one) for one in passage.after],
        "section": asdict(passage.section) if passage.section else None,
        "vector": None if passage.vector is None else _numbers(passage.vector),
    }


def _numbers(vector: "array[float]") -> list[float]:
    """Return float32 numbers with the digits that tell them apart, not those of a double."""
    return [float(f"{value:.9g}") for value in vector]


def _highlights_as_json(highlights: Highlights | None) -> dict[str, Any] | None:
    if highlights is None:
        return None
    return {
        "terms": [list(span) for span in highlights.terms],
        "sentence": list(highlights.sentence) if highlights.sentence else None,
    }
