"""Approximate search over one segment: trained, measured and tuned when written, exact at the top.

An approximate index only proposes rows. Their scores come from the segment's full vectors, which
stay memory-mapped on disk, so whatever is returned has its true score and is in true order; what
can go wrong is that a row is not proposed. How often that happens, recall@10 against exact search,
is measured on queries made from the segment itself, and the effort for a query is the least that
reaches the target.

- ``ivf``: an inverted file (https://hal.inria.fr/inria-00514462) over product-quantised codes of 4
  bits, scanned in registers (https://arxiv.org/abs/1704.07355): 1/32 of the vectors' size.
- ``hnsw``: a navigable graph (https://arxiv.org/abs/1603.09320) over codes of 8 bits: about 1/3 of
  the vectors' size, slow to build, faster for very high recall.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import faiss
import numpy as np
from numpy.typing import NDArray

from retrieval.errors import IndexDamaged
from retrieval.store.vector_file import ANN, WrittenFile, file_sha256, write_file

AnnKind = Literal["ivf", "hnsw"]

RECALL_K = 10
"""Recall is measured over so many nearest rows."""

_QUERIES = 200
_TRAIN_ROWS_PER_LIST = 40
_MAX_LISTS = 8192
_ADD_ROWS = 65_536
_LINKS = 32
_BUILD_EFFORT = 100
_CANDIDATES = (50, 100, 200, 400, 800)
MOST = 0.9
"""From this share of all rows on, a search need not go further than over all of them."""
_SEED = 20_240_801


@dataclass(frozen=True, slots=True)
class AnnSettings:
    """What an approximate index is, and how hard it is searched."""

    kind: AnnKind
    effort: int
    """Lists looked into (ivf: nprobe), or breadth of the search (hnsw: efSearch)."""
    candidates: int
    """Rows proposed for re-ranking, where at most that many are wanted."""
    lists: int
    """Lists there are (ivf), else 0."""
    recall: float
    """Recall@10 against exact search, as measured when it was written."""
    queries: int
    """Over how many queries."""

    def as_json(self) -> str:
        """As the database keeps it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "AnnSettings":
        """Read what ``as_json`` wrote.

        Raises:
            ValueError, TypeError: it is something else.
        """
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class Ann:
    """An open approximate index."""

    index: faiss.Index
    settings: AnnSettings

    def propose(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        selector: faiss.IDSelector | None = None,
        share: float = 1.0,
    ) -> NDArray[np.int64]:
        """Rows that may be among the k nearest of each query.

        Args:
            queries: float32 [n, dim].
            k: how many are wanted in the end.
            selector: the only rows that count.
            share: what part of all rows those are; the rarer, the further the search goes.

        Returns:
            [n, ≥ k] rows, -1 where there are fewer.
        """
        settings = self.settings
        # In steps, so that one more page of results comes from the same proposals as the last.
        steps = math.ceil(4 * k / settings.candidates)
        count = min(settings.candidates * 2 ** (steps - 1).bit_length(), self.index.ntotal)
        wider = settings.effort if share > MOST else math.ceil(2 * settings.effort / share)
        if settings.kind == "ivf":
            parameters = faiss.SearchParametersIVF(nprobe=min(wider, settings.lists), sel=selector)
        else:
            breadth = min(max(wider, count), self.index.ntotal)
            parameters = faiss.SearchParametersHNSW(efSearch=breadth, sel=selector)
        rows: NDArray[np.int64] = self.index.search(queries, count, params=parameters)[1]
        return rows


def write_ann(
    folder: Path, vectors: faiss.Index, kind: AnnKind, *, target_recall: float
) -> tuple[WrittenFile, AnnSettings]:
    """Build an approximate index over a segment, tune and measure it, and write it to the disk.

    Args:
        folder: the index.
        vectors: the segment's own flat, memory-mapped vectors.
        kind: which structure.
        target_recall: recall@10 to reach, if any effort reaches it.

    Raises:
        StorageError: the disk refused.
    """
    index, lists = _trained(vectors, kind)
    for part in _parts(vectors, _ADD_ROWS):
        index.add(part)
    plain = AnnSettings(kind, 1, _CANDIDATES[0], lists, 0.0, 0)
    settings = _tune(Ann(index, plain), vectors, target_recall)
    data = faiss.serialize_index(index)
    return write_file(folder, ANN, [data.data.cast("B")]), settings


def open_ann(path: Path, *, sha256: str, settings: str, rows: int, dim: int) -> Ann:
    """Read an approximate index into memory; every byte is checked before FAISS sees it.

    Raises:
        FileNotFoundError: no such file.
        IndexDamaged: it is not what the index recorded.
    """
    try:
        parsed = AnnSettings.from_json(settings)
        whole = file_sha256(path) == sha256
    except (ValueError, TypeError):
        whole = False
    if whole:
        index = faiss.read_index(str(path))
        if (index.ntotal, index.d) == (rows, dim):
            return Ann(index, parsed)
    raise IndexDamaged(
        f"{path} is damaged; make it anew with: indexer compact --index {path.parent}",
        file=path.name,
    )


def _trained(vectors: faiss.Index, kind: AnnKind) -> tuple[faiss.Index, int]:
    """An empty index ready for rows, and its number of lists."""
    rows, dim = vectors.ntotal, vectors.d
    if kind == "hnsw":
        coder = faiss.ScalarQuantizer.QT_8bit
        graph = faiss.IndexHNSWSQ(dim, coder, _LINKS, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = _BUILD_EFFORT
        graph.train(_sample(vectors, 100_000))
        return graph, 0
    lists = min(_MAX_LISTS, 2 ** round(math.log2(max(1.0, 4 * math.sqrt(rows)))))
    lists = max(1, min(lists, rows // _TRAIN_ROWS_PER_LIST))
    codes = f"PQ{dim // 4}x4fs" if dim % 4 == 0 else "SQ8"
    index = faiss.index_factory(dim, f"IVF{lists},{codes}", faiss.METRIC_INNER_PRODUCT)
    index.cp.seed = _SEED
    index.train(_sample(vectors, max(lists * _TRAIN_ROWS_PER_LIST, 20_000)))
    return index, lists


def _tune(ann: Ann, vectors: faiss.Index, target: float) -> AnnSettings:
    """The least effort that reaches the target; the best there is, if none does."""
    queries = _queries(vectors)
    k = min(RECALL_K, vectors.ntotal)
    exact: NDArray[np.int64] = vectors.search(queries, k)[1]
    most = ann.settings.lists or 4096
    best = ann.settings
    for candidates in _CANDIDATES:
        effort = 1 if ann.settings.kind == "ivf" else candidates
        while effort <= most:
            tried = replace(
                ann.settings, effort=effort, candidates=candidates, queries=len(queries)
            )
            rows = rerank(vectors, queries, replace(ann, settings=tried).propose(queries, k), k)[1]
            found = (rows[:, :, None] == exact[:, None, :]).any(axis=1).mean()
            tried = replace(tried, recall=round(float(found), 4))
            if tried.recall >= target:
                return tried
            if tried.recall > best.recall:
                best = tried
            effort *= 2
    return best


def rerank(
    vectors: faiss.Index, queries: NDArray[np.float32], rows: NDArray[np.int64], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Score proposed rows by their full vectors.

    Args:
        vectors: flat index of the segment.
        queries: float32 [n, dim].
        rows: [n, m] proposed rows; -1 is none.
        k: how many to keep.

    Returns:
        [n, min(k, m)] inner products and rows, best first, equal scores in order of row.
    """
    scores = np.full(rows.shape, -np.inf, dtype=np.float32)
    for query, proposed, row_scores in zip(queries, rows, scores, strict=True):
        known = proposed >= 0
        row_scores[known] = vectors.reconstruct_batch(proposed[known]) @ query
    order = np.lexsort((rows, -scores), axis=1)[:, :k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)


def _queries(vectors: faiss.Index) -> NDArray[np.float32]:
    """Queries near the segment's own vectors, but none of them.

    A row plus the difference of two others, which is a direction the data varies in; about as far
    from its row as a question is from the passage that answers it (cosine about 0.7).
    """
    generator = np.random.default_rng(_SEED)
    count = min(_QUERIES, vectors.ntotal)
    own, one, other = (
        vectors.reconstruct_batch(generator.integers(vectors.ntotal, size=count)) for _ in range(3)
    )
    away = one - other
    away /= np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-9)
    queries = own + away
    queries /= np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), 1e-9)
    return np.ascontiguousarray(queries, dtype=np.float32)


def _sample(vectors: faiss.Index, count: int) -> NDArray[np.float32]:
    """Some of the rows, spread evenly, in order: a disk reads them in one sweep."""
    count = min(count, vectors.ntotal)
    rows = np.linspace(0, vectors.ntotal - 1, count).astype(np.int64)
    sampled: NDArray[np.float32] = vectors.reconstruct_batch(rows)
    return sampled


def _parts(vectors: faiss.Index, rows: int) -> Iterator[NDArray[np.float32]]:
    """All rows in order, some at a time."""
    for start in range(0, vectors.ntotal, rows):
        yield vectors.reconstruct_n(start, min(rows, vectors.ntotal - start))
