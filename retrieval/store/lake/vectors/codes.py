"""Search by the approximate index of the vectors.

The index is Lance's ``IVF_RQ``: lists of similar vectors in RaBitQ codes of one bit for each number
(https://arxiv.org/abs/2405.12497). It only proposes vectors, which come with it in one read. Their
scores are computed from the full vectors, so every result has its exact score.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retrieval.errors import IndexDamaged
from retrieval.store.disk.vectors.approximate import widened
from retrieval.store.lake.place import TABLES, Place
from retrieval.store.lake.tables.pointer import AnnRecord
from retrieval.store.lake.tables.schema import VECTORS, lance_errors
from retrieval.store.lake.vectors.addresses import RowAddresses
from retrieval.store.records import AnnSettings

ANN_NAME: Final = "vectors"
"""Name of the index among those of the table."""

Ids = NDArray[np.int64]
Mask = NDArray[np.bool_]
Vectors = NDArray[np.float32]


class Codes:
    """The approximate index of one version of the vectors; safe to share between threads."""

    def __init__(self, place: Place, table: Any, record: AnnRecord) -> None:  # noqa: ANN401
        """Open the index.

        Args:
            place: the index.
            table: the table of vectors.
            record: what the generation records of the index.

        Raises:
            IndexDamaged: the table has no such index.
        """
        self._place = place
        self._table = table
        self._settings = record.settings
        with lance_errors(place):
            parts = index_parts(table)
            self._addresses = RowAddresses.of(table)
        if set(parts) != {part.id for part in record.parts}:
            raise ann_damaged(place, "it is not the one that the newest commit names")
        self.covered = self._addresses.rows_in({one for part in parts.values() for one in part})
        """Whether each row is in the index, bool [rows]."""
        self.rows = int(self.covered.sum())
        """Number of rows in the index."""

    def eligible(self, mask: Mask) -> bytes:
        """Return eligible rows, bool [rows], in the form that ``propose`` takes."""
        return self._addresses.serialized(mask & self.covered)

    def propose(
        self,
        query: Vectors,
        k: int,
        *,
        eligible: bytes | None = None,
        share: float = 1.0,
        settings: AnnSettings | None = None,
    ) -> tuple[Ids, Vectors]:
        """Propose rows that may be among the k nearest of a query.

        Args:
            query: float32 [dim].
            k: number of results that the caller needs.
            eligible: see ``eligible``; None for all rows.
            share: fraction of rows that are eligible; the smaller it is, the wider the search.
            settings: settings to use instead of those that the index was tuned to.

        Returns:
            m rows and their vectors, float32 [m, dim], in no order; at least k if there are.

        Raises:
            IndexDamaged: the index can't be read.
        """
        settings = settings or self._settings
        count, effort = widened(settings, k, self.rows, share)
        nearest = {
            "column": "vector",
            "q": query,
            "k": count,
            "minimum_nprobes": effort,
            "maximum_nprobes": effort,
        }
        try:
            with lance_errors(self._place):
                found = self._table.scanner(
                    columns=["vector"],
                    nearest=nearest,
                    prefilter=True,
                    with_row_address=True,
                    fast_search=True,  # rows outside the index are searched by the caller
                    row_addr_allowlist=eligible,
                    disable_scoring_autoprojection=True,
                ).to_table()
        except IndexDamaged as error:
            raise ann_damaged(self._place, error.message) from error
        rows = self._addresses.rows(found.column("_rowaddr").to_numpy())
        return rows, _matrix(found.column("vector"), len(query))


def index_parts(table: Any) -> Mapping[str, set[int]]:  # noqa: ANN401
    """Return the parts of the index of a table, and the fragments that each covers."""
    return {
        str(part.uuid): set(part.fragment_ids)
        for index in table.describe_indices()
        if index.name == ANN_NAME
        for part in index.segments
    }


def ann_damaged(place: Place, what: str) -> IndexDamaged:
    """Return the error for an approximate index that can't be used."""
    return IndexDamaged(
        f"the approximate index of {place.address} is damaged: {what}; make it anew with: "
        f"indexer compact --index {place.address}",
        file=f"{TABLES}/{VECTORS}.lance",
    )


def _matrix(column: Any, dim: int) -> Vectors:  # noqa: ANN401
    """Return a column of vectors, float32 [n, dim]."""
    whole = column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = pa.concat_arrays(whole.chunks) if whole.chunks else whole
    flat: Vectors = whole.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(-1, dim)
