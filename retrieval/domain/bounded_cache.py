"""What was read last, kept in memory: what many queries find is read and checked once."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import Lock
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """A bounded memory of values that never change; safe to share between threads."""

    def __init__(self, most: int, cost: Callable[[Value], int]) -> None:
        """Start empty.

        Args:
            most: what all values together may cost; those not used for longest go first.
            cost: what one costs, always the same.
        """
        self._most = most
        self._cost = cost
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._total = 0
        self._lock = Lock()

    def __len__(self) -> int:
        """How many values are remembered."""
        return len(self._values)

    def get(self, keys: Iterable[Key]) -> dict[Key, Value]:
        """Those of the keys that are remembered, with their values."""
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
        """The values of all keys.

        Args:
            keys: whose values are wanted.
            read: gives the values of those that are not remembered; what it raises is raised.
        """
        found = self.get(keys)
        if missing := [key for key in keys if key not in found]:
            values = read(missing)
            self.put(values)
            found.update(values)
        return found

    def put(self, values: Mapping[Key, Value]) -> None:
        """Remember values; what another thread has remembered meanwhile stays."""
        with self._lock:
            for key, value in values.items():
                if key not in self._values:
                    self._values[key] = value
                    self._total += self._cost(value)
            while self._total > self._most:
                self._total -= self._cost(self._values.popitem(last=False)[1])
