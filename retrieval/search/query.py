"""A search query, and the rules between its parts; its options are in ``domain.search_options``."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.domain.records import ModelIdentity
from retrieval.domain.search_options import MAX_K, QueryOptions, check_values
from retrieval.errors import InvalidArgument, UnexpectedModel
from retrieval.store import Filter, PassageKey, parse_filter

MAX_ARRANGED = 1_000
"""Passages of a list without near-duplicates, or of a diverse one: every page arranges the list
from its beginning, and compares each passage with those before it."""
MAX_QUERY_CHARS = 65_536
"""Characters of a query; about twice what a model of 8,192 tokens reads of an English text."""


@dataclass(frozen=True, slots=True)
class Query(QueryOptions):
    """What is asked; exactly one of ``text``, ``vector`` and ``passage`` is given."""

    text: str | None = None
    vector: NDArray[np.float32] | None = None
    """[dim]; normalised before it is used, so that scores are cosines."""
    passage: PassageKey | None = None
    """Find passages like this one, and leave out the passage itself."""
    seen: frozenset[PassageKey] = frozenset()
    """Entries of the pages before, which this page leaves out; ``offset`` is their number. Where
    passages are grouped, the entry of a document has the ordinal 0."""

    @property
    def parsed_filter(self) -> Filter | None:
        """The filter, parsed; None if there is none."""
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
    check_values(query)
    if query.rerank_top and query.text is None:
        raise InvalidArgument(
            "a reranker compares texts: give the query a text", field="rerank_top"
        )
    _check_list(query)
    if query.filter and with_filter:
        parse_filter(query.filter)
    if query.min_score is not None:
        _check_min_score(query, query.min_score)


def check_model(query: Query, model: ModelIdentity) -> None:
    """Refuse a query that expects another model than the index's.

    Raises:
        UnexpectedModel: the fingerprints differ.
    """
    expected = query.expected_model_fingerprint
    if expected and expected != model.fingerprint:
        raise UnexpectedModel(
            f"the vectors here are of {model.name} (fingerprint {model.fingerprint[:12]}), not of "
            f"the expected model (fingerprint {expected[:12]}): embed the query with this "
            "collection's model",
            expected_model_fingerprint=expected,
            model_fingerprint=model.fingerprint,
        )


def _check_list(query: Query) -> None:
    """Refuse what can't be listed so."""
    if query.group_size > 1 and not query.group_by_document:
        raise InvalidArgument("group_size goes with group_by_document", field="group_size")
    if query.k * query.group_size > MAX_K:
        raise InvalidArgument(
            f"k times group_size must be from 1 to {MAX_K}, not {query.k * query.group_size}",
            field="group_size",
        )
    depth = query.offset + query.k
    for name, value in (("collapse", query.collapse), ("mmr", query.mmr)):
        if value is not None and depth > MAX_ARRANGED:
            raise InvalidArgument(
                f"with {name}, a list goes {MAX_ARRANGED} passages deep; this asks for {depth}",
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


def _check_min_score(query: Query, score: float) -> None:
    if query.mode == "dense" and not -1 <= score <= 1:
        raise InvalidArgument(
            f"min_score is a cosine, from -1 to 1, not {score}", field="min_score"
        )
    if not math.isfinite(score):
        raise InvalidArgument(f"min_score must be finite, not {score}", field="min_score")
