"""The addresses by which Lance knows rows, and sets of them in the form that its searches take."""

import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

_ROW_BITS: Final = 32
"""Number of bits of a row's address that tell its place in the fragment."""
_COOKIE: Final = 12_346
"""Begins a Roaring bitmap without runs (https://github.com/RoaringBitmap/RoaringFormatSpec)."""
_CONTAINER_BITS: Final = 16
_MOST_IN_ARRAY: Final = 4_096
"""A container of a Roaring bitmap with more members is a bitmap, otherwise an array."""

Ids = NDArray[np.int64]
Mask = NDArray[np.bool_]


class _Fragment(NamedTuple):
    number: int
    places: NDArray[np.uint32] | None
    """Places of its rows; None if none was deleted, so that they are 0, 1, 2 and so on."""


class RowAddresses:
    """Converts the rows of one version of a table, numbered in order, from and to addresses."""

    def __init__(self, fragments: Sequence[_Fragment], rows: Sequence[int]) -> None:
        """Use ``of``."""
        self._fragments = fragments
        self._starts = np.cumsum([0, *rows])
        self._numbers = np.array([one.number for one in fragments], np.int64)
        self._order = np.argsort(self._numbers)

    @classmethod
    def of(cls, table: Any) -> Self:  # noqa: ANN401 -- Lance has no types
        """Read the fragments of a table; raise what Lance raises."""
        fragments, rows = [], []
        for one in table.get_fragments():
            places = None
            if one.metadata.num_deletions:
                scan = table.scanner(columns=[], with_row_address=True, fragments=[one])
                addresses = scan.to_table().column("_rowaddr").to_numpy()
                places = (addresses & ((1 << _ROW_BITS) - 1)).astype(np.uint32)
            fragments.append(_Fragment(one.fragment_id, places))
            rows.append(one.metadata.physical_rows if places is None else len(places))
        return cls(fragments, rows)

    @property
    def count(self) -> int:
        """Number of rows."""
        return int(self._starts[-1])

    def rows_in(self, numbers: set[int]) -> Mask:
        """Return whether each row is in one of some fragments, bool [rows]."""
        inside = np.isin(self._numbers, list(numbers))
        return np.repeat(inside, np.diff(self._starts))

    def rows(self, addresses: NDArray[np.uint64]) -> Ids:
        """Return the rows at some addresses, all of which exist."""
        numbers = (addresses >> np.uint64(_ROW_BITS)).astype(np.int64)
        places = (addresses & np.uint64((1 << _ROW_BITS) - 1)).astype(np.int64)
        at = self._order[np.searchsorted(self._numbers, numbers, sorter=self._order)]
        for one in np.unique(at).tolist():
            live = self._fragments[one].places
            if live is not None:
                mine = at == one
                places[mine] = np.searchsorted(live, places[mine])
        found: Ids = self._starts[at] + places
        return found

    def serialized(self, mask: Mask) -> bytes:
        """Return the addresses of some rows, bool [rows], as Lance's searches take them."""
        parts = [one for one in self._sets(mask) if len(one[1])]
        written = [struct.pack("<I", len(parts))]
        for number, places in sorted(parts, key=lambda one: one[0]):
            bitmap = _roaring(places)
            written.append(struct.pack("<II", number, len(bitmap)) + bitmap)
        return b"".join(written)

    def _sets(self, mask: Mask) -> Iterator[tuple[int, NDArray[np.uint32]]]:
        for at, (number, live) in enumerate(self._fragments):
            chosen = np.flatnonzero(mask[self._starts[at] : self._starts[at + 1]])
            yield number, chosen.astype(np.uint32) if live is None else live[chosen]


def _roaring(members: NDArray[np.uint32]) -> bytes:
    """Return ascending numbers as a Roaring bitmap."""
    low = (members & ((1 << _CONTAINER_BITS) - 1)).astype("<u2")
    keys, starts, counts = np.unique(
        members >> _CONTAINER_BITS, return_index=True, return_counts=True
    )
    containers = [
        _container(low[start : start + count])
        for start, count in zip(starts, counts, strict=True)
    ]
    head = np.stack([keys, counts - 1], axis=1).astype("<u2").tobytes()
    # Each container's offset follows the head, then come the containers.
    first = 8 + len(head) + 4 * len(keys)
    offsets = first + np.cumsum([0, *map(len, containers[:-1])])
    return b"".join(
        [struct.pack("<II", _COOKIE, len(keys)), head, offsets.astype("<u4").tobytes(), *containers]
    )


def _container(low: NDArray[np.uint16]) -> bytes:
    if len(low) <= _MOST_IN_ARRAY:
        return low.tobytes()
    bits = np.zeros(1 << _CONTAINER_BITS, bool)
    bits[low] = True
    return np.packbits(bits, bitorder="little").tobytes()
