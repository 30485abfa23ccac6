"""Cache bounded by cost: values that many queries need are read and checked once."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import Lock
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """Thread-safe LRU cache of values that never change, bounded by their total cost."""

    def __init__(self, most: int, cost: Callable[[Value], int]) -> None:
        """Start empty.

        Args:
            most: maximum total cost; the least recently used values are dropped first.
            cost: returns the cost of a value, which must not change.
        """
        self._most = most
        self._cost = cost
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._total = 0
        self._lock = Lock()

    def __len__(self) -> int:
        """Return the number of values."""
        return len(self._values)

    def get(self, keys: Iterable[Key]) -> dict[Key, Value]:
        """Return the cached values of those keys that have one."""
        found: dict[Key, Value] = {}
        with self._lock:
            for key in keys:
                if key in self._values:
                    self._values.move_to_end(key)
                    found[key] = self._values[key]
        return found

    def get_or_read(
        self, keys: Sequence[Key], read: Callable[[list[Key]], Mapping[Key, Value]]
    ) -> dict[Key, Value]:
        """Return the values of all keys.

        Args:
            keys: the keys.
            read: returns the values of the keys that are not cached; its errors pass through.
        """
        found = self.get(keys)
        if missing := [key for key in keys if key not in found]:
            values = read(missing)
            self.put(values)
            found.update(values)
        return found

    def put(self, values: Mapping[Key, Value]) -> None:
        """Add values; a value that another thread has added meanwhile stays."""
        with self._lock:
            for key, value in values.items():
                if key not in self._values:
                    self._values[key] = value
                    self._total += self._cost(value)
            while self._total > self._most:
                self._total -= self._cost(self._values.popitem(last=False)[1])
