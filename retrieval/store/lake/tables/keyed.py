"""Find rows by a key, from arrays in memory that a later generation carries on.

To sort a column of a million rows takes longer than a small commit. So what is sorted once is kept:
the next generation takes out the rows that were deleted and inserts the new ones, which only copies
arrays.
"""

from bisect import bisect_left
from typing import Any, Self

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Mask = NDArray[np.bool_]
Order = NDArray[np.int32]
"""Row numbers in order of their keys. A table of more rows than int32 counts does not fit into
memory."""

_FEW = 16
"""To sort a million URIs takes about as long as to find the places of a sixteenth of them."""


class Keyed:
    """Finds rows by a number, such as an id; several rows may have the same."""

    def __init__(self, keys: Ids) -> None:
        """Sort the keys, int64 [rows]."""
        in_order = bool((keys[:-1] <= keys[1:]).all())
        self._order: Order | None = (
            None if in_order else np.argsort(keys, kind="stable").astype(np.int32)
        )
        self._sorted: Ids = keys if self._order is None else keys[self._order]

    def carried(self, kept: Mask | None, keys: Ids) -> Self:
        """Return the same for a later generation.

        Args:
            kept: whether each row is still there, bool [rows]; None if all are.
            keys: all keys of the later generation, int64: those of the kept rows, then new ones.
        """
        sorted_, order = self._sorted, self._order
        if kept is not None and order is not None:
            stays = kept[order]
            sorted_, order = sorted_[stays], numbered(kept)[order[stays]]
        elif kept is not None:
            sorted_ = keys[: int(kept.sum())]
        first = len(sorted_)
        new = keys[first:]
        made = type(self).__new__(type(self))
        if order is None and is_sorted(keys[max(0, first - 1) :]):
            made._sorted, made._order = keys, None
            return made
        if order is None:
            order = np.arange(first, dtype=np.int32)
        by_key = np.argsort(new, kind="stable").astype(np.int32)
        at = np.searchsorted(sorted_, new[by_key], side="right")
        made._sorted = np.insert(sorted_, at, new[by_key])
        made._order = np.insert(order, at, by_key + np.int32(first))
        return made

    @property
    def distinct(self) -> int:
        """Number of distinct keys."""
        return int((self._sorted[1:] != self._sorted[:-1]).sum()) + bool(len(self._sorted))

    def rows(self, key: int) -> Ids:
        """Return the rows with a key, in order."""
        first, end = np.searchsorted(self._sorted, [key, key + 1])
        return self._at(np.arange(first, end))

    @property
    def every(self) -> Ids:
        """All rows in order of their keys."""
        return self._at(np.arange(len(self._sorted)))

    def rows_of(self, keys: Ids) -> Ids:
        """Return the rows with any of some distinct keys, key by key."""
        first = np.searchsorted(self._sorted, keys)
        counts = np.searchsorted(self._sorted, keys, side="right") - first
        starts = np.cumsum(counts) - counts
        return self._at(np.arange(counts.sum()) + np.repeat(first - starts, counts))

    def counts(self, keys: Ids) -> Ids:
        """Return the numbers of rows with each of n keys, int64 [n]."""
        first = np.searchsorted(self._sorted, keys)
        found: Ids = np.searchsorted(self._sorted, keys, side="right") - first
        return found

    def find(self, keys: Ids) -> tuple[Ids, Mask]:
        """Return a row with each of n keys that there are, and whether each key is there."""
        if not len(self._sorted):
            return np.empty(0, np.int64), np.zeros(len(keys), bool)
        at = np.minimum(np.searchsorted(self._sorted, keys), len(self._sorted) - 1)
        inside = self._sorted[at] == keys
        return self._at(at[inside]), inside

    def _at(self, positions: Ids) -> Ids:
        if self._order is None:
            return positions
        return self._order[positions].astype(np.int64)


class KeyedTexts:
    """Finds rows by a text, such as a URI, and lists them in order of their texts."""

    def __init__(self, texts: Any) -> None:  # noqa: ANN401 -- pyarrow has no types
        """Sort the texts, an array of Arrow."""
        self._texts = texts
        self._order: Order = pc.sort_indices(texts).to_numpy().astype(np.int32)

    def carried(self, kept: Mask | None, texts: Any) -> Self:  # noqa: ANN401
        """Return the same for a later generation; see ``Keyed.carried``."""
        order = self._order
        if kept is not None:
            order = numbered(kept)[order[kept[order]]]
        made = type(self).__new__(type(self))
        made._texts, made._order = texts, order
        first = len(order)
        new = texts.slice(first)
        if len(new) * _FEW > first:
            return type(self)(texts)
        by_text = pc.sort_indices(new).to_numpy().astype(np.int32)
        at = [made._first_at(new[row].as_py()) for row in by_text.tolist()]
        made._order = np.insert(order, np.array(at, np.int64), by_text + np.int32(first))
        return made

    def find(self, text: str) -> int | None:
        """Return a row with a text; None if there is none."""
        at = self._first_at(text)
        if at < len(self._order) and self._texts[self._order[at]].as_py() == text:
            return int(self._order[at])
        return None

    def between(self, first: str, end: str | None) -> Ids:
        """Return the rows from one text up to before another or the last, in order of texts."""
        last = None if end is None else self._first_at(end)
        return self._order[self._first_at(first) : last].astype(np.int64)

    def _first_at(self, text: str) -> int:
        """Return the position of the first text that is not before a given one."""
        order, texts = self._order, self._texts
        return bisect_left(range(len(order)), text, key=lambda at: texts[order[at]].as_py())


def numbered(kept: Mask) -> Order:
    """Return the number that each kept row has among the kept ones, int32 [rows]."""
    return np.cumsum(kept, dtype=np.int32) - np.int32(1)


def is_sorted(keys: Ids) -> bool:
    """Whether keys are in ascending order; equal ones may follow each other."""
    return bool((keys[:-1] <= keys[1:]).all())
