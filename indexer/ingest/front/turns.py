"""The order of operations on one URI: each begins once the one before it has ended."""

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from typing import Final


class Turns:
    """Lets operations with the same key go on one after the other; belongs to the event loop."""

    def __init__(self) -> None:
        """Start with none."""
        self._last: Final[dict[Hashable, asyncio.Future[None]]] = {}
        """Key → the end of the operation that came last."""

    def take(self, key: Hashable) -> "Turn":
        """Take the next place in the order of a key."""
        before = self._last.get(key)
        turn = Turn(before)
        self._last[key] = turn.over

        def forget(over: "asyncio.Future[None]") -> None:
            if self._last.get(key) is over:
                del self._last[key]

        turn.over.add_done_callback(forget)
        return turn

    @asynccontextmanager
    async def taking(self, key: Hashable) -> AsyncIterator[None]:
        """Take the next place, and keep it while the block runs."""
        turn = self.take(key)
        try:
            await turn.comes()
            yield
        finally:
            turn.end()

    def __len__(self) -> int:
        """Return the number of keys with operations under way."""
        return len(self._last)


class Turn:
    """One operation's place in the order."""

    def __init__(self, before: "asyncio.Future[None] | None") -> None:
        """Come after another one, which may have ended; None for none."""
        self._before = before
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once the operation and all before it have ended."""

    async def comes(self) -> None:
        """Wait until the operation may begin."""
        if self._before is not None:
            await asyncio.wait([self._before])  # cancelling this leaves the other one alone

    def end(self) -> None:
        """Let the next operation begin, at once or, if this one never began, in its place."""
        if self._before is None or self._before.done():
            if not self.over.done():
                self.over.set_result(None)
        else:
            self._before.add_done_callback(lambda _before: self.end())
