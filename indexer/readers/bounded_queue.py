"""A way from one thread to another for things of different sizes; only so much may wait."""

from collections import deque
from collections.abc import Callable, Iterator
from threading import Condition
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Passage(Generic[Item]):
    """Items on their way; bounded by their sizes, where ``queue.Queue`` is by their number."""

    def __init__(self, size_of: Callable[[Item], int], most: int) -> None:
        """Start empty.

        Args:
            size_of: an item's size.
            most: sizes in all from which on ``put`` waits.
        """
        self.closed = False
        self._size_of = size_of
        self._most = most
        self._waiting: deque[Item] = deque()
        self._size = 0
        self._finished = False
        self._error: BaseException | None = None
        self._changed = Condition()

    def put(self, item: Item) -> bool:
        """Add an item, once there is room; False if nobody waits for it any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._size < self._most or self.closed)
            self._waiting.append(item)
            self._size += self._size_of(item)
            self._changed.notify_all()
            return not self.closed

    def finish(self, error: BaseException | None = None) -> None:
        """No more will come; ``error`` is why, if something went wrong."""
        with self._changed:
            self._finished, self._error = True, error
            self._changed.notify_all()

    def close(self) -> None:
        """Nobody waits for more."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    def take(self) -> Iterator[Item]:
        """Yield items as they come.

        Raises:
            BaseException: what ``finish`` was given.
        """
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._finished)
                if not self._waiting:
                    break
                item = self._waiting.popleft()
                self._size -= self._size_of(item)
                self._changed.notify_all()
            yield item
        if self._error:
            raise self._error
