"""Remembers the vectors of the latest queries.

The second page of a search must see the very vector that the first one saw: embedded again, in
other company, it may differ in the last bits, and two passages of nearly the same score would
swap places across the page's edge.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence

from retrieval.search import EmbeddedQuery, EmbedQueries
from retrieval.service.metrics import Metrics


class QueryCache:
    """Embeds query texts, those that it knows by looking them up; may be called in any thread."""

    def __init__(
        self, embed_queries: EmbedQueries, *, size: int = 256, metrics: Metrics | None = None
    ) -> None:
        """Start empty.

        Args:
            embed_queries: embeds what isn't known.
            size: most texts remembered; the one not used for longest goes first.
            metrics: told how many were known.
        """
        self._metrics = metrics or Metrics()
        self._embed_queries = embed_queries
        self._size = size
        self._known: OrderedDict[str, EmbeddedQuery] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, texts: Sequence[str]) -> list[EmbeddedQuery]:
        """Embed n query texts.

        Returns:
            n embedded queries in the texts' order.
        """
        found = {text: self._recall(text) for text in texts}
        new = [text for text, query in found.items() if query is None]
        self._metrics.looked_up(hits=len(found) - len(new), misses=len(new))
        if new:
            found.update(zip(new, self._embed_queries(new), strict=True))
        queries = [query for text in texts if (query := found[text]) is not None]
        self._remember(texts, queries)
        return queries

    def _recall(self, text: str) -> EmbeddedQuery | None:
        with self._lock:
            return self._known.get(text)

    def _remember(self, texts: Sequence[str], queries: Sequence[EmbeddedQuery]) -> None:
        with self._lock:
            for text, query in zip(texts, queries, strict=True):
                self._known[text] = query
                self._known.move_to_end(text)
            while len(self._known) > self._size:
                self._known.popitem(last=False)
