"""Single flight: compute an expensive value once, even if many threads ask at the same time."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from retrieval.domain.bounded_cache import Recent
from retrieval.domain.deadline import holding

Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(slots=True)
class _Turn:
    """The right to compute a value."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    askers: int = 0
    """Number of threads that hold the turn or wait for it."""


class Once(Generic[Key, Value]):
    """Bounded cache in which only one thread at a time computes a given value; see ``Recent``."""

    def __init__(self, most: int, cost: Callable[[Value], int]) -> None:
        """Start empty; see ``Recent``."""
        self._recent = Recent[Key, Value](most, cost)
        self._guard = threading.Lock()
        self._turns: dict[Key, _Turn] = {}

    def __contains__(self, key: Key) -> bool:
        """Whether a value is in the cache."""
        return key in self._recent.get([key])

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """Return the value of a key.

        Args:
            key: key of the value.
            make: function that computes the value if it is not cached. If it fails, the error is
                raised here, and the next thread that waits for the value tries again.

        Raises:
            DeadlinePassed: another thread is computing the value, and no client of this thread
                waits for it any more.
        """
        found = self._recent.get([key])
        if found:
            return found[key]
        with self._turn(key):
            found = self._recent.get([key])
            if found:
                return found[key]
            value = make()
            self._recent.put({key: value})
            return value

    @contextmanager
    def _turn(self, key: Key) -> Iterator[None]:
        with self._guard:
            turn = self._turns.setdefault(key, _Turn())
            turn.askers += 1
        try:
            with holding(turn.lock):
                yield
        finally:
            with self._guard:
                turn.askers -= 1
                if not turn.askers:
                    del self._turns[key]
