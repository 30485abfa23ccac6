"""Sets of rows in the form that Lance's searches take them."""

import struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

from retrieval.store.lake.tables.keyed import Mask
from retrieval.store.lake.tables.layout import Layout

_COOKIE: Final = 12_346
"""Begins a Roaring bitmap without runs (https://github.com/RoaringBitmap/RoaringFormatSpec)."""
_CONTAINER_BITS: Final = 16
_MOST_IN_ARRAY: Final = 4_096
"""A container of a Roaring bitmap with more members is a bitmap, otherwise an array."""


def row_set(layout: Layout, mask: Mask) -> bytes:
    """Return some rows of a table, bool [rows], as a bitmap of places for each fragment.

    Lance's own ``serialize_row_addrs`` returns the same from a list of numbers, ten times slower.
    """
    parts = sorted(layout.places(mask), key=lambda part: part[0])
    written = [struct.pack("<I", len(parts))]
    for number, places in parts:
        bitmap = _roaring(places)
        written.append(struct.pack("<II", number, len(bitmap)) + bitmap)
    return b"".join(written)


def _roaring(members: NDArray[np.uint32]) -> bytes:
    """Return ascending numbers as a Roaring bitmap."""
    low = (members & ((1 << _CONTAINER_BITS) - 1)).astype("<u2")
    keys, starts, counts = np.unique(
        members >> _CONTAINER_BITS, return_index=True, return_counts=True
    )
    containers = [
        _container(low[start : start + count]) for start, count in zip(starts, counts, strict=True)
    ]
    head = np.stack([keys, counts - 1], axis=1).astype("<u2").tobytes()
    # The head is followed by the places of the containers, then by these.
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
