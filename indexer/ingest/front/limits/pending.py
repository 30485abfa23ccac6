"""The documents that wait to be written, within a limit of bytes."""

import asyncio
from collections import deque
from typing import Final

from retrieval.errors import Overloaded

_OVERHEAD_BYTES: Final = 4096
"""What a document counts beside its bytes: messages, tasks and calls are Python objects."""


class Pending:
    """Counts the bytes of documents that wait; belongs to the event loop.

    One document may always wait, whatever its size.
    """

    def __init__(self, limit: int) -> None:
        """Start with none.

        Args:
            limit: of bytes.
        """
        self.limit = limit
        """The limit of bytes."""
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        """Who waits for room, with how many bytes; first come, first served."""
        self.bytes = 0
        """Bytes that are counted now."""
        self.documents = 0
        """Documents that are counted now."""

    def enter(self, size: int) -> None:
        """Count a document.

        Raises:
            Overloaded: too much waits already.
        """
        if self._waiting or not self._has_room(size + _OVERHEAD_BYTES):
            raise Overloaded(
                f"documents of {self.bytes} bytes wait to be written already: try again in a "
                "moment, or use PutDocuments, which waits by itself",
                limit="pending_bytes",
            )
        self._count(size + _OVERHEAD_BYTES)

    async def wait(self, size: int) -> None:
        """Count a document as soon as there is room for it and for those that came before it."""
        size += _OVERHEAD_BYTES
        if not self._waiting and self._has_room(size):
            self._count(size)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, future))
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():  # it was let in just now
                self._uncount(size)
            self._let_in()
            raise

    def leave(self, size: int) -> None:
        """Undo ``enter`` or ``wait``: the document is written, or never will be."""
        self._uncount(size + _OVERHEAD_BYTES)
        self._let_in()

    def _has_room(self, size: int) -> bool:
        return not self.documents or self.bytes + size <= self.limit

    def _count(self, size: int) -> None:
        self.bytes += size
        self.documents += 1

    def _uncount(self, size: int) -> None:
        self.bytes -= size
        self.documents -= 1

    def _let_in(self) -> None:
        while self._waiting:
            size, future = self._waiting[0]
            if not future.done():
                if not self._has_room(size):
                    return
                self._count(size)
                future.set_result(None)
            self._waiting.popleft()
