"""Search: a query → the passages that fit it best in one index; no grpc."""

from retrieval.domain.search_options import DEFAULT_K, MAX_K
from retrieval.search.query import MAX_ARRANGED, MAX_QUERY_CHARS, Query, check_model, check_query
from retrieval.search.reranked import PairScorer
from retrieval.search.searcher import (
    EmbeddedText,
    Searcher,
    SearchResult,
    Timings,
    filter_warnings,
)

__all__ = [
    "DEFAULT_K",
    "MAX_ARRANGED",
    "MAX_K",
    "MAX_QUERY_CHARS",
    "EmbeddedText",
    "PairScorer",
    "Query",
    "SearchResult",
    "Searcher",
    "Timings",
    "check_model",
    "check_query",
    "filter_warnings",
]
