"""Search: a query → its nearest passages in one index; no grpc."""

from retrieval.search.searcher import (
    DEFAULT_K,
    MAX_K,
    MAX_OFFSET,
    MAX_QUERY_CHARS,
    MAX_SECTION_CHARS,
    EmbeddedQuery,
    Query,
    Searcher,
    SearchResult,
    Timings,
    check_query,
)

__all__ = [
    "DEFAULT_K",
    "MAX_K",
    "MAX_OFFSET",
    "MAX_QUERY_CHARS",
    "MAX_SECTION_CHARS",
    "EmbeddedQuery",
    "Query",
    "SearchResult",
    "Searcher",
    "Timings",
    "check_query",
]
