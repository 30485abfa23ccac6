"""Search by the approximate index of the vectors.

The index is Lance's ``IVF_RQ``: lists of similar vectors in RaBitQ codes of one bit for each number
(https://arxiv.org/abs/2405.12497). It only proposes rows. Their vectors are mapped into memory, or
come in the same read; scores are computed from these, so every result has its exact score.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import IndexDamaged
from retrieval.store.disk.vectors.approximate import widened
from retrieval.store.lake.place import TABLES, Place
from retrieval.store.lake.tables.generation import as_matrix
from retrieval.store.lake.tables.keyed import Ids, Mask
from retrieval.store.lake.tables.layout import Layout
from retrieval.store.lake.tables.mapped import MappedVectors
from retrieval.store.lake.tables.pointer import AnnRecord
from retrieval.store.lake.tables.schema import VECTORS, lance_errors
from retrieval.store.lake.vectors.row_sets import row_set
from retrieval.store.records import AnnSettings

ANN_NAME: Final = "vectors"
"""Name of the index among those of the table."""

Vectors = NDArray[np.float32]
Reading = Callable[[Callable[[Any], Any]], Any]
"""Gives a table to a function that reads from it, and returns what that returns."""


@dataclass(frozen=True, slots=True)
class Eligible:
    """The rows of an approximate index that a search may find."""

    count: int
    rows: bytes | None
    """The rows in the form that Lance takes; None for all rows of the index."""

    @property
    def size(self) -> int:
        """Size in bytes."""
        return len(self.rows or b"")


class Codes:
    """The approximate index of one version of the vectors; safe to share between threads."""

    def __init__(
        self,
        place: Place,
        read: Reading,
        layout: Layout,
        record: AnnRecord,
        mapped: Callable[[], MappedVectors | None] = lambda: None,
    ) -> None:
        """Open the index.

        Args:
            place: the index.
            read: reads from the table of vectors.
            layout: the layout of the table.
            record: what the generation records of the index.
            mapped: function that returns the vectors if they are mapped into memory.

        Raises:
            IndexDamaged: the table has no such index.
        """
        self._place = place
        self._read = read
        self._layout = layout
        self._settings = record.settings
        self._mapped = mapped
        with lance_errors(place):
            parts = read(index_parts)
        if set(parts) != {part.id for part in record.parts}:
            raise ann_damaged(place, "it is not the one that the newest commit names")
        fragments = {one for part in parts.values() for one in part}
        self.other_fragments = [
            one.number for one in layout.fragments if one.number not in fragments
        ]
        """Numbers of the fragments that are not in the index."""
        self.covered = layout.rows_in(fragments)
        """Whether each row is in the index, bool [rows]."""
        self.rows = int(self.covered.sum())
        """Number of rows in the index."""

    def eligible(self, mask: Mask) -> Eligible:
        """Return the rows of the index that a mask has, bool [rows of the table]."""
        inside = mask & self.covered
        count = int(np.count_nonzero(inside))
        return Eligible(count, None if count == self.rows else row_set(self._layout, inside))

    def propose(
        self,
        query: Vectors,
        k: int,
        eligible: Eligible | None = None,
        *,
        settings: AnnSettings | None = None,
    ) -> tuple[Ids, Vectors]:
        """Propose rows that may be among the k nearest of a query.

        Args:
            query: float32 [dim].
            k: number of results that the caller needs.
            eligible: the eligible rows, at least one; None for all rows.
            settings: settings to use instead of those that the index was tuned to.

        Returns:
            m rows and their vectors, float32 [m, dim], in no order; mostly at least k.

        Raises:
            IndexDamaged: the index can't be read.
        """
        settings = settings or self._settings
        share = eligible.count / self.rows if eligible else 1.0
        count, effort = widened(settings, k, self.rows, share)
        if mapped := self._mapped():
            rows = self._rows(self._nearest(query, count, effort, eligible, []))
            return rows, mapped.take(rows)
        found = self._nearest(query, count, effort, eligible, ["vector"])
        return self._rows(found), as_matrix(found.column("vector"))

    def listed(self) -> Ids:
        """Return all rows that are in the index's lists, in no order.

        Raises:
            IndexDamaged: the index can't be read.
        """
        query = np.zeros(self._read(_dim), np.float32)
        return self._rows(self._nearest(query, self.rows, self._settings.lists, None, []))

    def _rows(self, found: Any) -> Ids:  # noqa: ANN401
        return self._layout.rows_at(found.column("_rowid").to_numpy())

    def _nearest(
        self,
        query: Vectors,
        count: int,
        effort: int,
        eligible: Eligible | None,
        columns: Sequence[str],
    ) -> Any:  # noqa: ANN401
        """Read columns of the rows whose codes are nearest."""
        nearest = {
            "column": "vector",
            "q": query,
            "k": count,
            "minimum_nprobes": effort,
            "maximum_nprobes": effort,
        }

        def read(table: Any) -> Any:  # noqa: ANN401
            return table.scanner(
                columns=list(columns),
                nearest=nearest,
                prefilter=True,
                with_row_id=True,
                fast_search=True,  # rows outside the index are searched by the caller
                row_addr_allowlist=eligible.rows if eligible else None,
                disable_scoring_autoprojection=True,
            ).to_table()

        try:
            with lance_errors(self._place):
                return self._read(read)
        except IndexDamaged as error:
            raise ann_damaged(self._place, error.message) from error


def segments(table: Any) -> list[Any]:  # noqa: ANN401
    """Return Lance's records of the parts of a table's index; none if it has no index."""
    return [
        part
        for index in table.describe_indices()
        if index.name == ANN_NAME
        for part in index.segments
    ]


def _dim(table: Any) -> int:  # noqa: ANN401
    return int(table.schema.field("vector").type.list_size)


def index_parts(table: Any) -> Mapping[str, set[int]]:  # noqa: ANN401
    """Return the parts of the index of a table, and the fragments that each covers."""
    return {str(part.uuid): set(part.fragment_ids) for part in segments(table)}


def ann_damaged(place: Place, what: str) -> IndexDamaged:
    """Return the error for an approximate index that can't be used."""
    return IndexDamaged(
        f"the approximate index of {place.address} is damaged: {what}; make it anew with: "
        f"indexer compact --index {place.address}",
        file=f"{TABLES}/{VECTORS}.lance",
    )
