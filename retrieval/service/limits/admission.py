"""Which requests are let in, and how many are under way."""

import asyncio

from retrieval.domain.wording import counted
from retrieval.errors import NotServing, Overloaded


class Admission:
    """Counts requests under way; lets none in before the server is ready or while it stops.

    Belongs to the event loop: not thread-safe.
    """

    def __init__(self, limit: int) -> None:
        """Start closed.

        Args:
            limit: most requests under way at once.
        """
        self._limit = limit
        self._closed_because = "the server is still loading"
        self._active = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def under_way(self) -> int:
        """Requests being answered now."""
        return self._active

    def open(self) -> None:
        """Let requests in from now on."""
        self._closed_because = ""

    def close(self) -> None:
        """Let no more requests in; those under way go on."""
        self._closed_because = "the server is shutting down"

    def check_open(self) -> None:
        """Refuse a request that comes too early or too late.

        Raises:
            NotServing: the server is not ready yet, or is shutting down.
        """
        if self._closed_because:
            raise NotServing(f"{self._closed_because}: try again in a moment")

    def enter(self) -> None:
        """Count a request, until ``leave``.

        Raises:
            NotServing: as ``check_open``.
            Overloaded: as many requests as are allowed are under way.
        """
        self.check_open()
        if self._active >= self._limit:
            raise Overloaded(
                f"{counted(self._limit, 'request')} under way is the most that this server takes: "
                "try again in a moment",
                limit="concurrent_requests",
            )
        self._active += 1
        self._idle.clear()

    def leave(self) -> None:
        """Undo one ``enter``: the request has its answer."""
        self._active -= 1
        if self._active == 0:
            self._idle.set()

    async def drained(self, timeout: float) -> bool:
        """Wait until no request is under way.

        Args:
            timeout: longest wait in seconds.

        Returns:
            False when the time was up first.
        """
        try:
            await asyncio.wait_for(self._idle.wait(), timeout)
        except TimeoutError:
            return False
        return True
