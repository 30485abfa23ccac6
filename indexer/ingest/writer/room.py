"""Bound on the size of all documents that are being read or wait for their commit."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from indexer.readers.turns import TurnQueue


class Held:
    """The room that one document takes."""

    def __init__(self, room: "Room", size: int) -> None:
        """Use ``Room.hold``."""
        self._room = room
        self.size = size

    def grow(self, size: int) -> None:
        """Take more room, without waiting: the document turned out to be larger."""
        self._room.taken += max(0, size - self.size)
        self.size = max(size, self.size)


class Room:
    """Room for documents, in bytes; those that find none take turns. For one event loop."""

    def __init__(self, size: int) -> None:
        """Start empty.

        Args:
            size: total size from which documents wait. A larger document is let in alone.
        """
        self._size = size
        self.taken = 0
        self._waiting = TurnQueue[tuple[int, asyncio.Future[None]]]()

    @asynccontextmanager
    async def hold(self, size: int, turn: str = "") -> AsyncIterator[Held]:
        """Wait until there is room, and hold it for the block.

        Args:
            size: of the document.
            turn: the request that it is of; those of one request share its turns.
        """
        if self._waiting or not self._fits(size):
            let_in = asyncio.get_running_loop().create_future()
            self._waiting.add(turn, (size, let_in))
            try:
                await let_in  # which takes the room
            except asyncio.CancelledError:
                if let_in.done() and not let_in.cancelled():
                    self._leave(size)
                raise
        else:
            self.taken += size
        held = Held(self, size)
        try:
            yield held
        finally:
            self._leave(held.size)

    def _fits(self, size: int) -> bool:
        return not self.taken or self.taken + size <= self._size

    def _leave(self, size: int) -> None:
        self.taken -= size
        while self._waiting:
            size, let_in = self._waiting.peek()
            if let_in.done():  # cancelled
                self._waiting.take()
            elif self._fits(size):
                self._waiting.take()
                self.taken += size
                let_in.set_result(None)
            else:
                return
