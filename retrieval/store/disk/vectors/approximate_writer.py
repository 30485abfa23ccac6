"""Build approximate indexes: train on a sample of a segment, add its rows, tune, and write."""

import math
from collections.abc import Iterator
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from retrieval.store.disk.files.vector_file import ANN, WrittenFile, write_file
from retrieval.store.disk.vectors.approximate import LINKS, Ann
from retrieval.store.disk.vectors.tuning import tune
from retrieval.store.records import AnnKind, AnnSettings

_TRAIN_ROWS_PER_LIST = 40
"""Number of training rows for each list. FAISS warns below 39, and more hardly move the centres."""
_MAX_LISTS = 8192
"""Maximum number of lists; enough for 16 million rows at twice their square root. With more lists,
choosing among them costs more than they save."""
_ADD_ROWS = 65_536
"""Number of rows added at a time: 100 MB of vectors at 384 dimensions."""
_BUILD_EFFORT = 100
"""Breadth of the search for a new node's neighbours (efConstruction)."""
_SEED = 20_240_801
"""The seed is fixed, so the same vectors give the same index."""


def write_ann(
    folder: Path, vectors: faiss.Index, kind: AnnKind, *, target_recall: float, or_none: bool
) -> tuple[WrittenFile | None, AnnSettings]:
    """Build an approximate index over a segment, tune and measure it, and write it to the disk.

    Args:
        folder: the index.
        vectors: the segment's own flat, memory-mapped vectors.
        kind: kind of index to build.
        target_recall: recall@10 to reach.
        or_none: whether to discard an index that misses the target.

    Returns:
        the file, a pending one, or None if the index was discarded; and the cheapest setting that
        reaches the target, or else the one with the best recall.

    Raises:
        StorageError: the file can't be written.
    """
    index, lists = _trained(vectors, kind)
    for part in _parts(vectors, _ADD_ROWS):
        index.add(part)
    ann = Ann(index, AnnSettings(kind, effort=1, candidates=1, lists=lists, recall=0.0, queries=0))
    settings = tune(ann, vectors, target_recall)
    if or_none and not settings.reached:
        return None, settings
    data = faiss.serialize_index(index)
    return write_file(folder, ANN, [data.data.cast("B")], pending=True), settings


def _trained(vectors: faiss.Index, kind: AnnKind) -> tuple[faiss.Index, int]:
    """Return an empty index ready for rows, and its number of lists."""
    rows, dim = vectors.ntotal, vectors.d
    if kind == "hnsw":
        coder = faiss.ScalarQuantizer.QT_8bit
        graph = faiss.IndexHNSWSQ(dim, coder, LINKS, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = _BUILD_EFFORT
        graph.train(_sample(vectors, 100_000))
        return graph, 0
    # Scanning codes is so fast that more lists would only add to the time of choosing among them.
    # A graph over the lists misses too many of the right ones (benchmarks/store/codes.py).
    lists = min(_MAX_LISTS, 2 ** round(math.log2(max(1.0, 2 * math.sqrt(rows)))))
    lists = max(1, min(lists, rows // _TRAIN_ROWS_PER_LIST))
    codes = f"PQ{dim // 4}x4fs" if dim % 4 == 0 else "SQ8"
    index = faiss.index_factory(dim, f"IVF{lists},{codes}", faiss.METRIC_INNER_PRODUCT)
    index.cp.seed = _SEED
    index.train(_sample(vectors, max(lists * _TRAIN_ROWS_PER_LIST, 20_000)))
    return index, lists


def _sample(vectors: faiss.Index, count: int) -> NDArray[np.float32]:
    """Return a sample of rows, evenly spread and in order, so the disk reads them in one sweep."""
    count = min(count, vectors.ntotal)
    rows = np.linspace(0, vectors.ntotal - 1, count).astype(np.int64)
    sampled: NDArray[np.float32] = vectors.reconstruct_batch(rows)
    return sampled


def _parts(vectors: faiss.Index, rows: int) -> Iterator[NDArray[np.float32]]:
    """Yield all vectors in order, ``rows`` at a time."""
    for start in range(0, vectors.ntotal, rows):
        yield vectors.reconstruct_n(start, min(rows, vectors.ntotal - start))
