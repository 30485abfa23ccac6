"""A set of ids as a bitmap."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class IdSet:
    """Ids of the vectors or texts that a search may find."""

    count: int
    bits: NDArray[np.uint8]
    """One bit for each id, the lowest bit first."""

    @classmethod
    def from_mask(cls, mask: NDArray[np.bool_]) -> "IdSet":
        """Return the set of a mask, bool [highest id + 1]."""
        return cls(int(np.count_nonzero(mask)), np.packbits(mask, bitorder="little"))

    def contains(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return for each of n ids whether it is in the set, bool [n]."""
        byte = ids >> 3
        inside = byte < len(self.bits)
        found = self.bits[np.where(inside, byte, 0)] >> (ids & 7).astype(np.uint8) & 1
        both: NDArray[np.bool_] = inside & found.astype(bool)
        return both

    def ids(self) -> NDArray[np.int64]:
        """Return the ids, int64 [count], ascending."""
        return np.flatnonzero(np.unpackbits(self.bits, bitorder="little"))
