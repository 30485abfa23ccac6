"""Measure the recall of the approximate index, and tune it, as in the store on disk."""

from dataclasses import replace
from typing import Any, Final

import faiss
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retrieval.store.disk.vectors.approximate import RECALL_K
from retrieval.store.disk.vectors.tuning import cheapest, made_queries, recall
from retrieval.store.lake.place import Place
from retrieval.store.lake.tables.generation import as_matrix
from retrieval.store.lake.tables.layout import Layout
from retrieval.store.lake.tables.pointer import AnnRecord
from retrieval.store.lake.tables.schema import lance_errors
from retrieval.store.lake.vectors.codes import Codes
from retrieval.store.records import AnnSettings

_CODES_A_CANDIDATE: Final = 600
"""Cost of reading a candidate's vector, relative to comparing a code: measured on a local disk."""
_BLOCK_ROWS: Final = 1 << 16
"""Number of vectors to score at a time: 100 MB at 384 dimensions."""

Vectors = NDArray[np.float32]


class Measurement:
    """Queries made from the vectors of a table, and what exact search finds for them."""

    def __init__(self, place: Place, table: Any, record: AnnRecord) -> None:  # noqa: ANN401
        """Make the queries and search exactly, which reads all vectors.

        Raises:
            IndexDamaged: a file can't be read.
        """
        self._place = place
        self._table = table
        with lance_errors(place):
            layout = Layout.of(table)
        self._codes = Codes(place, lambda read: read(table), layout, record)
        self.rows = layout.rows
        self.queries = made_queries(self.rows, self._read)
        self._exact = self._search_exactly(min(RECALL_K, self.rows))

    def recall(self, settings: AnnSettings) -> float:
        """Return the recall of the index with some settings."""
        k = self._exact.shape[1]
        scores = np.full((len(self.queries), k), -np.inf, np.float32)
        for at, query in enumerate(self.queries):
            _, vectors = self._codes.propose(query, k, settings=settings)
            best = np.sort(vectors @ query)[::-1][:k]
            scores[at, : len(best)] = best
        return recall(scores, self._exact)

    def _read(self, rows: NDArray[np.int64]) -> Vectors:
        """Return the vectors of some rows, which may repeat."""
        distinct, at = np.unique(rows, return_inverse=True)
        with lance_errors(self._place):
            found = self._table.take(distinct.tolist(), columns=["vector"])
            return as_matrix(found.column("vector"))[at]

    def _search_exactly(self, k: int) -> Vectors:
        """Return the best scores of each query, [n, k], best first."""
        best = faiss.ResultHeap(len(self.queries), k, keep_max=True)
        with lance_errors(self._place):
            for batch in self._table.to_batches(columns=["vector"], batch_size=_BLOCK_ROWS):
                block = as_matrix(pa.chunked_array([batch.column(0)]))
                count = min(k, len(block))
                best.add_result(
                    *faiss.knn(self.queries, block, count, metric=faiss.METRIC_INNER_PRODUCT)
                )
        best.finalize()
        scores: Vectors = best.D
        return scores


def tuned(place: Place, table: Any, record: AnnRecord, target: float) -> AnnSettings:  # noqa: ANN401
    """Return the cheapest settings that reach the target recall, or else the best ones."""
    measurement = Measurement(place, table, record)

    def cost(tried: AnnSettings) -> float:
        """Estimate the cost of a query as a number of codes."""
        lists = tried.effort / tried.lists * measurement.rows
        return tried.candidates * _CODES_A_CANDIDATE + lists

    start = replace(record.settings, queries=len(measurement.queries), target=target)
    return cheapest(start, measurement.recall, cost)
