"""Cache of the vectors of recent queries; concurrent requests for a text embed it once.

The second page of a search needs the very vector of the first: embedded again in another batch, it
may differ in the last bits, and two passages with nearly the same score would swap places across
the page boundary.
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

_MAX_NUMBERS = 4 << 20
"""Numbers in all cached vectors: 16 MiB, or 10,000 queries of 384 dimensions."""


class QueryCache:
    """Embeds query texts, from the cache where possible; belongs to the event loop."""

    def __init__(
        self,
        embed_queries: EmbedQueries,
        *,
        size: int = _MAX_NUMBERS,
        metrics: Metrics | None = None,
    ) -> None:
        """Start empty.

        Args:
            embed_queries: embeds texts that are not cached.
            size: limits the numbers in all cached vectors; the least recently used go first.
            metrics: count hits and misses.
        """
        self._metrics = metrics or Metrics()
        self._embed_queries = embed_queries
        self._known = Recent[str, EmbeddedText](size, _numbers)
        self._flights: dict[str, _Flight] = {}

    async def __call__(self, texts: Sequence[str]) -> list[EmbeddedText]:
        """Embed n query texts; wait for those that another request is embedding now.

        Returns:
            n embedded queries, in the texts' order.

        Raises:
            RetrievalError: what embedding this call's own texts raises.
        """
        found = self._known.get(texts)
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        flights = {text: self._flights[text] for text in missing if self._is_flying(text)}
        own = [text for text in missing if text not in flights]
        self._metrics.looked_up(hits=len(found) + len(missing) - len(own), misses=len(own))
        if own:
            found.update(await self._fly(own).joined())
        for flight in set(flights.values()):
            # It may fail for a reason of its own, such as its deadline: try its texts again.
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
                task.exception()  # marks it as seen; tasks that still wait raise it
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
    """An embedding in progress, shared by all that wait for it; dropped once nobody does."""

    def __init__(self, embedding: Coroutine[None, None, dict[str, EmbeddedText]]) -> None:
        self.task = asyncio.create_task(embedding)
        self._waiting = 0
        self._dropped = False

    @property
    def is_open(self) -> bool:
        """Whether it can still be joined."""
        return not self._dropped and not self.task.done()

    async def joined(self) -> dict[str, EmbeddedText]:
        """Wait for the result; cancelling one waiting task does not affect the others."""
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
