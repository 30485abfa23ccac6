"""Queue whose items take turns by the request that they are for.

First come, first served lets a stream of a thousand documents hold up a single one.
"""

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

_Item = TypeVar("_Item")


class TurnQueue(Generic[_Item]):
    """Items that wait, one of each request in turn. Not thread-safe."""

    def __init__(self) -> None:
        """Start empty."""
        self._items: dict[str, deque[_Item]] = {}
        """Items by their request; no queue is empty, and the requests are in order of turns."""
        self._count = 0

    def __len__(self) -> int:
        """Return how many items wait."""
        return self._count

    def __iter__(self) -> Iterator[_Item]:
        """Yield all items, those of one request after the other."""
        for items in self._items.values():
            yield from items

    def add(self, turn: str, item: _Item) -> None:
        """Add an item behind all others of its request.

        Args:
            turn: the request. A new one takes its turn after all others have had one.
            item: the item.
        """
        self._items.setdefault(turn, deque()).append(item)
        self._count += 1

    def peek(self) -> _Item:
        """Return the next item.

        Raises:
            StopIteration: there is none.
        """
        return next(iter(self._items.values()))[0]

    def take(self) -> _Item:
        """Remove and return the next item; the next turn of its request is the last.

        Raises:
            StopIteration: there is none.
        """
        turn = next(iter(self._items))
        items = self._items.pop(turn)
        if len(items) > 1:
            self._items[turn] = items
        self._count -= 1
        return items.popleft()
