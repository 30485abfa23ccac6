"""A set of vector ids, a bit each."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class IdSet:
    """Which vectors may be found."""

    count: int
    bits: NDArray[np.uint8]
    """By vector id, the lowest bit first."""

    @classmethod
    def from_mask(cls, mask: NDArray[np.bool_]) -> "IdSet":
        """From bool [highest id + 1]."""
        return cls(int(np.count_nonzero(mask)), np.packbits(mask, bitorder="little"))

    def contains(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of n ids are in the set, bool [n]."""
        byte = ids >> 3
        inside = byte < len(self.bits)
        found = self.bits[np.where(inside, byte, 0)] >> (ids & 7).astype(np.uint8) & 1
        both: NDArray[np.bool_] = inside & found.astype(bool)
        return both

    def ids(self) -> NDArray[np.int64]:
        """Return the ids, int64 [count], ascending."""
        return np.flatnonzero(np.unpackbits(self.bits, bitorder="little"))
