"""Remembers the vectors of the latest queries.

The second page of a search must see the very vector that the first one saw: embedded again, in
other company, it may differ in the last bits, and two passages of nearly the same score would
swap places across the page's edge.
"""

from collections.abc import Awaitable, Callable, Sequence

from retrieval.recent import Recent
from retrieval.search import EmbeddedText
from retrieval.service.metrics import Metrics

EmbedQueries = Callable[[Sequence[str]], Awaitable[list[EmbeddedText]]]
"""Embeds query texts with an index's model, in order."""


class QueryCache:
    """Embeds query texts, those that it knows by looking them up; belongs to the event loop."""

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
        self._known = Recent[str, EmbeddedText](size, lambda _query: 1)

    async def __call__(self, texts: Sequence[str]) -> list[EmbeddedText]:
        """Embed n query texts.

        Returns:
            n embedded queries in the texts' order.
        """
        found = self._known.get(texts)
        new = [text for text in dict.fromkeys(texts) if text not in found]
        self._metrics.looked_up(hits=len(found), misses=len(new))
        if new:
            found.update(zip(new, await self._embed_queries(new), strict=True))
            self._known.put(found)
        return [found[text] for text in texts]
