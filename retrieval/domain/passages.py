"""What a search finds, and how it came to it; plain data, no behaviour."""

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from retrieval.domain.metadata import Metadata

Mode = Literal["auto", "dense", "lexical", "hybrid"]
"""How to search; ``auto``: hybrid where the query is a text and the index has its words, else
dense."""


Fusion = Literal["weighted", "rrf"]
"""How hybrid search makes one ranking of two: see ``retrieval.search.ranking``."""


DENSE_WEIGHT: Final = 0.6
"""Share of the dense score in a weighted one: the best on average over six collections of texts,
each with one vector a document."""


ScoreKind = Literal["cosine", "bm25", "weighted", "rrf", "rerank"]
"""What a passage's score is: see ``retrieval.search.ranking``."""


class StageScores(NamedTuple):
    """How a passage came to its score."""

    kind: ScoreKind
    """What the score is."""
    dense: float | None = None
    """Cosine similarity of query and passage, in [-1, 1]; None: not compared."""
    lexical: float | None = None
    """BM25, ≥ 0; None: not compared."""
    dense_rank: int | None = None
    """Place in the dense search, from 1; None: not compared, or further down than was looked."""
    lexical_rank: int | None = None
    """The same of the lexical search."""
    fused: float | None = None
    """What hybrid search made of both; None: it was none."""
    rerank: float | None = None
    """Probability that it answers the query, from 0 to 1; None: not reranked."""


class Hit(NamedTuple):
    """A passage that a search has found, before it is read."""

    score: float
    """NaN when not scored."""
    document_id: int
    ordinal: int
    vector_id: int
    """The vector that it was found by."""
    scores: StageScores | None = None
    """None when not scored."""


def passage_name(document_id: int, ordinal: int) -> str:
    """A passage's resource name within a collection."""
    return f"documents/{document_id}/passages/{ordinal}"


class Span(NamedTuple):
    """Characters ``start`` to ``end`` of a passage's text."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Highlights:
    """Where a passage fits the words of a query."""

    terms: tuple[Span, ...]
    """Each word that is one of the query's, in order."""
    sentence: Span | None
    """The sentence with most different ones of them; None: there are none."""


@dataclass(frozen=True, slots=True)
class SectionText:
    """A passage with those around it that are under the same headings."""

    text: str
    char_start: int
    """Of the first character, in the document's text."""
    char_end: int
    """After the last."""
    complete: bool
    """Whether it is the whole section, or as much of it as was asked for."""


class Passage(NamedTuple):
    """A chunk as a search returns it.

    A named tuple: a search gives each of its passages a score, and of a frozen dataclass a copy
    with another value takes several times as long.
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
    """Higher is better; ``scores`` says what it is. NaN when not scored."""
    page_start: int = 0
    """Page of the first character, from 1; 0 where the format has no pages."""
    page_end: int = 0
    """Page of the last character."""
    scores: StageScores | None = None
    """How it came to its score; None when not scored."""
    similar: tuple[str, ...] = ()
    """Names of passages that were left out, as they say nearly the same; the best 100 of them."""
    highlights: Highlights | None = None
    """Where it fits the words of the query, where that was asked for."""
    before: tuple["Passage", ...] = ()
    """The passages before it, where they were asked for, in order."""
    after: tuple["Passage", ...] = ()
    """The passages after it."""
    section: SectionText | None = None
    """The text around it, where it was asked for, and no better passage has the same."""
    similar_count: int = 0
    """How many passages were left out, as they say nearly the same."""
