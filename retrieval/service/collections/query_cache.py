"""Remembers the vectors of the latest queries, and embeds a query once that comes twice at a time.

The second page of a search must see the very vector that the first one saw: embedded again, in
other company, it may differ in the last bits, and two passages of nearly the same score would
swap places across the page's edge.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress

from retrieval.domain.bounded_cache import Recent
from retrieval.errors import RetrievalError
from retrieval.search import EmbeddedText
from retrieval.service.observability.metrics import Metrics

EmbedQueries = Callable[[Sequence[str]], Awaitable[list[EmbeddedText]]]
"""Embeds query texts with an index's model, in order."""

_MOST_NUMBERS = 4 << 20
"""Numbers of all vectors that are remembered: 16 MiB, 10,000 queries of 384 numbers."""


class QueryCache:
    """Embeds query texts, those that it knows by looking them up; belongs to the event loop."""

    def __init__(
        self,
        embed_queries: EmbedQueries,
        *,
        size: int = _MOST_NUMBERS,
        metrics: Metrics | None = None,
    ) -> None:
        """Start empty.

        Args:
            embed_queries: embeds what isn't known.
            size: most numbers of all vectors that are remembered; the query that has not come for
                longest is forgotten first.
            metrics: told how many were known, or on their way.
        """
        self._metrics = metrics or Metrics()
        self._embed_queries = embed_queries
        self._known = Recent[str, EmbeddedText](size, _numbers)
        self._flights: dict[str, _Flight] = {}

    async def __call__(self, texts: Sequence[str]) -> list[EmbeddedText]:
        """Embed n query texts; one that another request is embedding now is waited for.

        Returns:
            n embedded queries in the texts' order.

        Raises:
            RetrievalError: what the embedding of this call's own texts raised.
        """
        found = self._known.get(texts)
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        flights = {text: self._flights[text] for text in missing if self._is_flying(text)}
        own = [text for text in missing if text not in flights]
        self._metrics.looked_up(hits=len(found) + len(missing) - len(own), misses=len(own))
        if own:
            found.update(await self._fly(own).joined())
        for flight in set(flights.values()):
            # What ended it may be its own alone, such as its deadline: its texts are tried again.
            with suppress(RetrievalError):
                found.update(await flight.joined())
        if left := [text for text in missing if text not in found]:
            found.update(await self._fly(left).joined())
        return [found[text] for text in texts]

    def _is_flying(self, text: str) -> bool:
        flight = self._flights.get(text)
        return flight is not None and flight.is_open

    def _fly(self, texts: Sequence[str]) -> "_Flight":
        flight = _Flight(self._embed(texts))

        def landed(task: asyncio.Task[dict[str, EmbeddedText]]) -> None:
            if not task.cancelled():
                task.exception()  # whoever still waits raises it; it is no news if nobody does
            for text in texts:
                if self._flights.get(text) is flight:
                    del self._flights[text]

        flight.task.add_done_callback(landed)
        self._flights.update(dict.fromkeys(texts, flight))
        return flight

    async def _embed(self, texts: Sequence[str]) -> dict[str, EmbeddedText]:
        embedded = dict(zip(texts, await self._embed_queries(texts), strict=True))
        self._known.put(embedded)
        return embedded


class _Flight:
    """An embedding under way, for everybody who waits for it; dropped once nobody does."""

    def __init__(self, embedding: Coroutine[None, None, dict[str, EmbeddedText]]) -> None:
        self.task = asyncio.create_task(embedding)
        self._waiting = 0
        self._dropped = False

    @property
    def is_open(self) -> bool:
        """Whether it can be waited for."""
        return not self._dropped and not self.task.done()

    async def joined(self) -> dict[str, EmbeddedText]:
        """Wait for it; a caller that is cancelled meanwhile leaves the others waiting."""
        self._waiting += 1
        try:
            return await asyncio.shield(self.task)
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._dropped = True
                self.task.cancel()


def _numbers(embedded: EmbeddedText) -> int:
    return max(1, embedded.vector.size)
