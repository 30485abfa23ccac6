"""Approximate search over one segment with exact scores; ``approximate_writer`` builds the index.

An approximate index only proposes rows. Their scores come from the segment's full vectors, which
stay memory-mapped on disk, so every result has its exact score. The only possible error is a row
that is not proposed. Recall@10 against exact search measures how often that happens. It is measured
on queries made from the segment itself, and ``tuning`` chooses the cheapest search that reaches the
target.

- ``ivf``: an inverted file (https://hal.inria.fr/inria-00514462) over product-quantised codes of 4
  bits, scanned in registers (https://arxiv.org/abs/1704.07355): 1/32 of the vectors' size.
- ``hnsw``: a navigable graph (https://arxiv.org/abs/1603.09320) over codes of 8 bits: about 1/3 of
  the vectors' size, slow to build, faster for very high recall.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from retrieval.errors import IndexDamaged
from retrieval.store.disk.files.vector_file import file_sha256, read_index, search_rows
from retrieval.store.records import AnnSettings

RECALL_K = 10
"""Number of nearest rows over which recall is measured: one page of results."""

LINKS = 32
"""Number of links of a graph's node (M): FAISS's default, good for 384 to 1,024 dimensions."""
MOST = 0.9
"""Above this fraction of eligible rows, don't widen the search for the filter."""


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
        """Propose rows that may be among the k nearest of each query.

        Args:
            queries: float32 [n, dim].
            k: number of results that the caller needs.
            selector: selects the eligible rows; None if all are.
            share: fraction of rows that are eligible; the smaller it is, the wider the search.

        Returns:
            rows, [n, ≥ k] if there are that many; -1 fills missing ones.
        """
        settings = self.settings
        count, effort = widened(settings, k, self.index.ntotal, share)
        if settings.kind == "ivf":
            parameters = faiss.SearchParametersIVF(nprobe=effort, sel=selector)
        else:
            breadth = min(max(effort, count), self.index.ntotal)
            parameters = faiss.SearchParametersHNSW(efSearch=breadth, sel=selector)
        rows: NDArray[np.int64] = self.index.search(queries, count, params=parameters)[1]
        return rows


def widened(settings: AnnSettings, k: int, rows: int, share: float) -> tuple[int, int]:
    """Return the number of candidates and the effort for a search.

    Args:
        settings: the settings, tuned for few results among all rows.
        k: number of results that the caller needs.
        rows: number of rows in the index.
        share: fraction of rows that are eligible; the smaller it is, the wider the search.
    """
    # Grow in steps, so that adjacent pages of results usually come from the same proposals.
    steps = math.ceil(4 * k / settings.candidates)
    count = min(settings.candidates * 2 ** (steps - 1).bit_length(), rows)
    effort = settings.effort if share > MOST else math.ceil(2 * settings.effort / share)
    if settings.kind != "ivf":
        return count, effort
    # The effort was tuned for few results; more results lie in more lists.
    more = (count - settings.candidates) / (share * rows)
    return count, min(effort + math.ceil(max(0.0, more) * settings.lists), settings.lists)


def open_ann(path: Path, *, sha256: str, settings: str, rows: int, dim: int) -> Ann:
    """Read an approximate index into memory after checking the hash of the whole file.

    Raises:
        FileNotFoundError: there is no file.
        IndexDamaged: the file does not match the index's record.
    """
    try:
        parsed = AnnSettings.from_json(settings)
        whole = file_sha256(path) == sha256
    except (ValueError, TypeError):
        whole = False
    if whole:
        index = read_index(path)
        if (index.ntotal, index.d) == (rows, dim):
            return Ann(index, parsed)
    raise IndexDamaged(
        f"{path} is damaged; make it anew with: indexer compact --index {path.parent}",
        file=path.name,
    )


def rescore(
    vectors: faiss.Index, queries: NDArray[np.float32], rows: NDArray[np.int64], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Score proposed rows by their full vectors.

    Args:
        vectors: flat index of the segment.
        queries: float32 [n, dim].
        rows: proposed rows, [n, m]; -1 is skipped.
        k: maximum number of results.

    Returns:
        inner products and rows, [n, min(k, m)] each, best first; equal scores in order of row.
    """
    k = min(k, rows.shape[1])
    scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
    best = np.full((len(queries), k), -1, dtype=np.int64)
    for number, proposed in enumerate(rows):
        query, known = queries[number : number + 1], proposed[proposed >= 0]
        if count := min(k, len(known)):
            found = search_rows(vectors, query, known, count)
            scores[number, :count], best[number, :count] = found
    order = np.lexsort((best, -scores), axis=1)
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(best, order, axis=1)
