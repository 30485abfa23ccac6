"""What a search can be asked for, and within which limits."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.domain.passages import DENSE_WEIGHT, Fusion, Mode
from retrieval.errors import InvalidArgument
from retrieval.store import Filter, parse_filter

Place = tuple[int, int]
"""(document id, ordinal) of a passage."""

DEFAULT_K = 10
MAX_K = 1_000
"""Most passages of one result."""
MAX_OFFSET = 10_000
"""Furthest that a result can start from the best passage."""
MAX_RERANK = 200
"""Most passages that are reranked: each costs about as much as to embed it."""
MAX_GROUP_SIZE = 20
"""Most passages of one document, where they are grouped."""
MAX_ARRANGED = 1_000
"""How deep a list can go that is collapsed or diverse."""
MAX_CONTEXT = 10
"""Most passages before, and after, a passage."""
MAX_SECTION_CHARS = 65_536
"""Longest text around a passage, in characters."""
MAX_QUERY_CHARS = 65_536
"""Longest query, in characters."""


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked; exactly one of ``text``, ``vector`` and ``passage`` is given."""

    text: str | None = None
    vector: NDArray[np.float32] | None = None
    """[dim]; normalised before it is used, so that scores are cosines."""
    passage: Place | None = None
    """Passages like this one, itself left out."""
    mode: Mode = "auto"
    """How passages are compared with it."""
    fusion: Fusion = "weighted"
    """How hybrid search makes one ranking of two."""
    dense_weight: float = DENSE_WEIGHT
    """Of the dense score in a weighted one, between 0 and 1; the lexical score has the rest."""
    rerank_top: int = 0
    """How many of the best a cross-encoder puts in its own order, to ``MAX_RERANK``; the list ends
    with them. 0: none."""
    k: int = DEFAULT_K
    """How many passages, 1 to ``MAX_K``."""
    offset: int = 0
    """How many of the best to leave out (for pages), 0 to ``MAX_OFFSET``."""
    min_score: float | None = None
    """Leave out passages whose score, of whatever kind, is lower."""
    filter: str = ""
    """Only passages of documents that pass, see ``language``; empty: of all."""
    exact: bool = False
    """Compare with every vector, also where there is an approximate index."""
    group_by_document: bool = False
    """List documents, each by its best passage; ``k`` and ``offset`` count documents then."""
    group_size: int = 1
    """Most passages of a document, where they are grouped, 1 to ``MAX_GROUP_SIZE``."""
    collapse: float | None = None
    """Leave out passages whose vector has at least this cosine with a better passage's."""
    mmr: float | None = None
    """Make the best passages diverse: share of the score, from 0 to 1, against newness."""
    highlight: bool = False
    """Say which words of a passage are the query's."""
    context_before: int = 0
    """How many passages before each to answer with it, up to ``MAX_CONTEXT``."""
    context_after: int = 0
    """How many after it."""
    section_chars: int = 0
    """Most characters of the section to go with a passage, up to ``MAX_SECTION_CHARS``; 0: none."""

    @property
    def where(self) -> Filter | None:
        """The filter, parsed; None: there is none."""
        return parse_filter(self.filter) if self.filter else None

    @property
    def needs_embedding(self) -> bool:
        """Whether its text must go through the model."""
        return self.text is not None and self.mode != "lexical"


def check_query(query: Query, *, with_filter: bool = True) -> None:
    """Refuse values that are out of range, naming the field.

    Args:
        query: what is asked.
        with_filter: whether to read the filter, too, which may take 30 ms.

    Raises:
        InvalidArgument: the first value at fault.
    """
    given = [part for part in (query.text, query.vector, query.passage) if part is not None]
    if len(given) != 1:
        raise InvalidArgument("give exactly one of text, vector and passage", field="query")
    if query.text is not None:
        _check_text(query.text)
    elif query.mode in ("lexical", "hybrid"):
        raise InvalidArgument(
            f"{query.mode} search compares words: give it a text, or use dense mode", field="mode"
        )
    if not 0 < query.dense_weight < 1:
        raise InvalidArgument(
            f"dense_weight must be between 0 and 1, not {query.dense_weight}; "
            "for one search alone, use dense or lexical mode",
            field="dense_weight",
        )
    _check_range("k", query.k, 1, MAX_K, field="page_size")
    _check_range("the offset", query.offset, 0, MAX_OFFSET, field="page_token")
    _check_range("context_before", query.context_before, 0, MAX_CONTEXT, field="context_before")
    _check_range("context_after", query.context_after, 0, MAX_CONTEXT, field="context_after")
    _check_range("section_chars", query.section_chars, 0, MAX_SECTION_CHARS, field="section_chars")
    _check_range("rerank_top", query.rerank_top, 0, MAX_RERANK, field="rerank_top")
    if query.rerank_top and query.text is None:
        raise InvalidArgument(
            "a reranker compares texts: give the query a text", field="rerank_top"
        )
    _check_list(query)
    if query.filter and with_filter:
        parse_filter(query.filter)
    if query.min_score is not None:
        _check_min_score(query, query.min_score)


def _check_list(query: Query) -> None:
    """Refuse what can't be listed so."""
    _check_range("group_size", query.group_size, 1, MAX_GROUP_SIZE, field="group_size")
    if query.group_size > 1 and not query.group_by_document:
        raise InvalidArgument("group_size goes with group_by_document", field="group_size")
    _check_range("k times group_size", query.k * query.group_size, 1, MAX_K, field="group_size")
    for name, value in (("collapse", query.collapse), ("mmr", query.mmr)):
        if value is None:
            continue
        if not 0 <= value <= 1:
            raise InvalidArgument(f"{name} must be from 0 to 1, not {value}", field=name)
        if query.offset + query.k > MAX_ARRANGED:
            raise InvalidArgument(
                f"with {name}, a list goes {MAX_ARRANGED} passages deep; this asks for "
                f"{query.offset + query.k}",
                field="page_size",
            )


def _check_text(text: str) -> None:
    if not text.strip():
        raise InvalidArgument("the query is empty; give it some text", field="text")
    if len(text) > MAX_QUERY_CHARS:
        raise InvalidArgument(
            f"the query has {len(text)} characters; at most {MAX_QUERY_CHARS} are taken",
            field="text",
        )


def _check_range(name: str, value: int, least: int, most: int, *, field: str) -> None:
    if not least <= value <= most:
        raise InvalidArgument(f"{name} must be from {least} to {most}, not {value}", field=field)


def _check_min_score(query: Query, score: float) -> None:
    if query.mode == "dense" and not -1 <= score <= 1:
        raise InvalidArgument(
            f"min_score is a cosine, from -1 to 1, not {score}", field="min_score"
        )
    if not math.isfinite(score):
        raise InvalidArgument(f"min_score must be finite, not {score}", field="min_score")
