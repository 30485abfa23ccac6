"""Remembers the vectors of the latest queries.

The second page of a search must see the very vector that the first one saw: embedded again, in
other company, it may differ in the last bits, and two passages of nearly the same score would
swap places across the page's edge.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence

from retrieval.search import EmbeddedQuery
from retrieval.service.metrics import Metrics

EmbedQueries = Callable[[Sequence[str]], Awaitable[list[EmbeddedQuery]]]
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
        self._size = size
        self._known: OrderedDict[str, EmbeddedQuery] = OrderedDict()

    async def __call__(self, texts: Sequence[str]) -> list[EmbeddedQuery]:
        """Embed n query texts.

        Returns:
            n embedded queries in the texts' order.
        """
        found = {text: self._known[text] for text in texts if text in self._known}
        new = [text for text in dict.fromkeys(texts) if text not in found]
        self._metrics.looked_up(hits=len(found), misses=len(new))
        if new:
            found.update(zip(new, await self._embed_queries(new), strict=True))
        self._remember(found)
        return [found[text] for text in texts]

    def _remember(self, queries: Mapping[str, EmbeddedQuery]) -> None:
        for text, query in queries.items():
            self._known[text] = query
            self._known.move_to_end(text)
        while len(self._known) > self._size:
            self._known.popitem(last=False)
