"""A search from what an adapter has understood to the page that it is answered with."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from retrieval.domain.records import IndexInfo
from retrieval.search import EmbeddedText, Query, SearchResult, check_model, check_query
from retrieval.service.collections.open_collections import OpenCollection
from retrieval.service.page_tokens import PageScope

Shown = TypeVar("Shown")
"""An adapter's answer."""


@dataclass(frozen=True, slots=True)
class Search:
    """One search, as an adapter has understood it."""

    collection: str
    query: Query
    """Its ``k`` is the page's size; its offset comes from ``page_token``."""
    same: bytes
    """The request without its page, in bytes that are equal for equal requests. A page token is
    good only for requests with the same bytes."""
    page_token: str = ""


@dataclass(frozen=True, slots=True)
class SearchPage:
    """A page of passages, or a part of a stream."""

    collection: str
    info: IndexInfo
    """Of the generation that was searched."""
    result: SearchResult
    next_page_token: str
    """Empty on the last page, and in a stream."""
    seconds: float
    """Since the engine was asked."""


@dataclass(frozen=True, slots=True)
class Plan(Generic[Shown]):
    """A search that has been checked, of one generation of its collection."""

    collection: OpenCollection
    query: Query
    scope: PageScope
    """Makes the token of the next page."""
    started: float
    """``time.perf_counter()`` when the engine was asked."""
    present: Callable[[SearchPage], Shown]

    def answer(
        self, embedded: EmbeddedText | None, embed_seconds: float
    ) -> tuple[SearchResult, Shown]:
        """Search, and present the page; blocking.

        Args:
            embedded: the query's text; None if it has none.
            embed_seconds: how long embedding took.
        """
        searcher, query = self.collection.searcher, self.query
        result = searcher.search(query, embedded, embed_seconds=embed_seconds)
        token = self.scope.token_after(query.seen | {*result.entries}) if result.more else ""
        seconds = time.perf_counter() - self.started
        page = SearchPage(self.collection.name, self.collection.info, result, token, seconds)
        return result, self.present(page)


def plan_search(
    search: Search,
    collection: OpenCollection,
    started: float,
    present: Callable[[SearchPage], Shown],
) -> Plan[Shown]:
    """Check a search, and find out where its page starts.

    Raises:
        InvalidArgument: a value is out of range, or the page token is of another request.
        UnexpectedModel: the query expects another model than the collection's.
        StaleGeneration: the page token is of another index.
    """
    scope = PageScope(search.same, collection.info.index_id)
    query = search.query
    if search.page_token:
        seen = scope.entries(search.page_token)
        query = replace(query, offset=len(seen), seen=seen)
    check_query(query, with_filter=False)
    check_model(query, collection.info.model)
    return Plan(collection, query, scope, started, present)
