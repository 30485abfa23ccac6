"""Fragments of one version of a table, and which rows of an older version they still hold.

Lance never changes the files of a fragment. It deletes rows by naming another file of deletions,
and numbers fragments in the order in which they were made, which is also the order of their rows.
So the rows of a version are what is left of those of an older one, followed by those of new
fragments.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from retrieval.store.lake.tables.keyed import Ids, Mask

_ROW_BITS = 32
"""Number of bits of a row's address that tell its place in the fragment."""


@dataclass(frozen=True, slots=True, eq=False)
class Fragment:
    """A fragment in one state of its deletions."""

    number: int
    files: tuple[str, ...]
    """Names of its data files, which are unique."""
    deletions: str
    """Name of its file of deletions; empty if no row was deleted."""
    written: int
    """Number of its rows with the deleted ones."""
    deleted: NDArray[np.uint32]
    """Places of the deleted rows in the fragment, in order."""

    @property
    def rows(self) -> int:
        """Number of its rows without the deleted ones."""
        return self.written - len(self.deleted)

    @property
    def live(self) -> Mask:
        """Whether each row is there, bool [written]."""
        live = np.ones(self.written, bool)
        live[self.deleted] = False
        return live


class Carried(NamedTuple):
    """What a version of a table has of an older one."""

    kept: Mask | None
    """Whether each row of the older version is there, bool [rows]; None if all are."""
    new: Sequence[int]
    """Numbers of the fragments that the older version does not have; their rows come last."""


class Layout:
    """The fragments of one version of a table."""

    def __init__(self, fragments: Sequence[Fragment]) -> None:
        """Use ``of``."""
        self.fragments = fragments
        self._starts = np.array([0, *accumulate(one.rows for one in fragments)], np.int64)

    @classmethod
    def of(cls, table: Any, before: Self | None = None) -> Self:  # noqa: ANN401
        """Read the layout of an open table; raise what Lance raises.

        Args:
            table: the table.
            before: layout of an older version. What both have is not read again.
        """
        known = {(one.files, one.deletions): one for one in before.fragments} if before else {}
        found = []
        for one in table.get_fragments():
            meta, number = one.metadata, one.fragment_id
            files = tuple(file.path for file in meta.files)
            deletions = meta.deletion_file.path(number) if meta.deletion_file else ""
            same = known.get((files, deletions))
            if same is None:
                deleted = _deleted(table, one) if deletions else np.empty(0, np.uint32)
                same = Fragment(number, files, deletions, meta.physical_rows, deleted)
            found.append(same)
        return cls(found)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self._starts[-1])

    def since(self, before: "Layout") -> Carried:
        """Return what is left of an older version, and what is new."""
        now = {one.files: one for one in self.fragments}
        masks, same = [], []
        for old in before.fragments:
            one = now.pop(old.files, None)
            mask = np.zeros(old.rows, bool) if one is None else one.live[old.live]
            if one is not None:
                same.append(one)
            masks.append(mask)
        kept = np.concatenate([np.empty(0, bool), *masks])
        new = [one.number for one in now.values()]
        # Only a version that follows the older one has its rows in its order, and none of those
        # that were deleted.
        follows = same == self.fragments[: len(same)]
        if not follows or kept.sum() != sum(one.rows for one in same):
            return Carried(np.zeros(before.rows, bool), [one.number for one in self.fragments])
        return Carried(None if kept.all() else kept, new)

    def rows_in(self, numbers: Collection[int]) -> Mask:
        """Return whether each row is in one of some fragments, bool [rows]."""
        parts = [np.full(one.rows, one.number in numbers) for one in self.fragments]
        return np.concatenate(parts) if parts else np.zeros(0, bool)

    def places(self, mask: Mask) -> Iterator[tuple[int, NDArray[np.uint32]]]:
        """Yield the fragments of some rows, bool [rows], and the rows' places in each."""
        for start, one in zip(self._starts.tolist(), self.fragments, strict=False):
            chosen = mask[start : start + one.rows]
            if chosen.any():
                places = np.flatnonzero(one.live)[chosen] if one.deletions else chosen.nonzero()[0]
                yield one.number, places.astype(np.uint32)

    def rows_at(self, addresses: NDArray[np.uint64]) -> Ids:
        """Return the rows at some addresses, which must exist; see ``addresses``."""
        numbers = (addresses >> np.uint64(_ROW_BITS)).astype(np.int64)
        found = (addresses & np.uint64((1 << _ROW_BITS) - 1)).astype(np.int64)
        for start, one in zip(self._starts.tolist(), self.fragments, strict=False):
            mine = numbers == one.number
            if mine.any():
                found[mine] += start - np.searchsorted(one.deleted, found[mine])
        return found

    def addresses(self, rows: Ids) -> list[int]:
        """Return the addresses by which Lance knows some rows, fragment by fragment."""
        found = []
        for one, _, places in self.places_of(rows):
            found += ((one.number << _ROW_BITS) + places).tolist()
        return found

    def places_of(self, rows: Ids) -> Iterator[tuple[Fragment, Ids, Ids]]:
        """Yield the fragments of some rows, which of the rows each has, and their places in it."""
        at = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(at).tolist():
            one = self.fragments[number]
            (chosen,) = (at == number).nonzero()
            places = rows[chosen] - self._starts[number]
            # A row comes after as many deleted ones as there are gaps before it.
            gaps = one.deleted.astype(np.int64) - np.arange(len(one.deleted))
            places += np.searchsorted(gaps, places, side="right")
            yield one, chosen, places


def _deleted(table: Any, fragment: Any) -> NDArray[np.uint32]:  # noqa: ANN401
    """Read which rows of a fragment were deleted."""
    scan = table.scanner(columns=[], with_row_address=True, fragments=[fragment])
    live = scan.to_table().column("_rowaddr").to_numpy() & ((1 << _ROW_BITS) - 1)
    there = np.zeros(fragment.metadata.physical_rows, bool)
    there[live] = True
    return np.flatnonzero(~there).astype(np.uint32)
