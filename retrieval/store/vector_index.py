"""All vectors of one generation: search, with or without a filter, and look-up."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import InvalidArgument
from retrieval.store.filters import Filter
from retrieval.store.segments import Segment, VectorHits, search_segments

_KEPT_FILTERS = 32
"""Filters whose vectors are remembered: a byte for each vector."""

Rows = Callable[[str, Sequence[object]], list[tuple[Any, ...]]]
"""SQL and its parameters → the rows that it gives."""


class VectorIndex:
    """The segments of one generation; safe to share between threads."""

    def __init__(self, segments: Sequence[Segment], dim: int, rows: Rows) -> None:
        """Take over open segments.

        Args:
            segments: of the generation.
            dim: length of a vector.
            rows: reads the generation's tables.
        """
        self._segments = segments
        self._dim = dim
        self._rows = rows
        self._filtered: OrderedDict[str, NDArray[np.bool_]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def is_exact(self) -> bool:
        """Whether there is no approximate index: every search looks at every vector."""
        return all(segment.ann is None for segment in self._segments)

    def search(
        self, queries: NDArray[np.float32], k: int, *, where: Filter | None, exact: bool
    ) -> VectorHits:
        """Find each query's nearest vectors; see ``IndexReader.search_vectors``."""
        if queries.shape[1:] != (self._dim,):
            raise InvalidArgument(
                f"query vectors must be [n, {self._dim}], not {list(queries.shape)}",
                field="vector",
            )
        allowed = None if where is None else self._allowed(where)
        return search_segments(self._segments, queries, k, allowed=allowed, exact=exact)

    def vector(self, vector_id: int) -> NDArray[np.float32] | None:
        """One vector, float32 [dim]; None: it is in none of the segments."""
        for segment in self._segments:
            matches = np.flatnonzero(segment.vector_ids == vector_id)
            if matches.size:
                vector: NDArray[np.float32] = segment.index.reconstruct(int(matches[0]))
                return vector
        return None

    def _allowed(self, where: Filter) -> NDArray[np.bool_]:
        """By vector id: whether a passage of a document that passes has that vector."""
        with self._lock:
            if where.text in self._filtered:
                self._filtered.move_to_end(where.text)
                return self._filtered[where.text]
        rows = self._rows(
            f"""SELECT DISTINCT c.vector_id FROM documents d JOIN chunks c ON c.document_id = d.id
                WHERE {where.condition}""",
            where.parameters,
        )
        most = max((int(segment.vector_ids.max()) for segment in self._segments), default=0)
        allowed = np.zeros(most + 1, dtype=bool)
        allowed[np.fromiter((row[0] for row in rows), dtype=np.int64, count=len(rows))] = True
        with self._lock:
            self._filtered[where.text] = allowed
            while len(self._filtered) > _KEPT_FILTERS:
                self._filtered.popitem(last=False)
        return allowed
