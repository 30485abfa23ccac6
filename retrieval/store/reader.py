"""Reading an index: one generation, whole, for as long as the reader is open."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import IndexDamaged
from retrieval.records import IndexInfo
from retrieval.store.contents import Contents
from retrieval.store.filters import Filter
from retrieval.store.rows import stored_passage
from retrieval.store.segments import Segment, VectorHits
from retrieval.store.snapshot import Snapshot, open_snapshot
from retrieval.store.vector_index import VectorIndex


class IndexReader(Contents):
    """One generation of an index; a context manager, safe to share between threads."""

    def __init__(self, snapshot: Snapshot, info: IndexInfo, segments: Sequence[Segment]) -> None:
        """Use ``open``."""
        super().__init__(snapshot, info)
        self._vectors = VectorIndex(segments, info.model.dim, snapshot.rows)

    @classmethod
    def open(cls, folder: Path) -> "IndexReader":
        """Open the last committed generation.

        A build may go on beside it: the reader holds a snapshot of the database and maps the
        vector files, which never change.

        Raises:
            NotAnIndex: no index there, or nothing was committed yet.
            IndexVersionError: it was written by a newer version.
            IndexDamaged: a file is missing or not what the index recorded.
        """
        return cls(*open_snapshot(folder))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the snapshot and the files."""
        self._snapshot.close()

    def search_vectors(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        where: Filter | None = None,
        exact: bool = False,
    ) -> VectorHits:
        """Find each query's nearest vectors.

        Args:
            queries: float32 [n, dim].
            k: how many, ≥ 1.
            where: only vectors of documents that pass this filter.
            exact: look at every vector, also where there is an approximate index.

        Returns:
            [n, k] scores and vector ids, best first; equal scores in order of vector id.

        Raises:
            InvalidArgument: queries of another shape.
        """
        return self._vectors.search(queries, k, where=where, exact=exact)

    @property
    def is_exact(self) -> bool:
        """Whether there is no approximate index: every search looks at every vector."""
        return self._vectors.is_exact

    def passage_vector(self, document_id: int, ordinal: int) -> NDArray[np.float32]:
        """A passage's own vector, float32 [dim].

        Raises:
            NotFound: no such document or passage.
        """
        row = self._passage_row(document_id, ordinal)
        vector = self._vectors.vector(stored_passage(row).vector_id)
        if vector is not None:
            return vector
        raise IndexDamaged(f"{self.folder} names a vector that is in none of its files")
