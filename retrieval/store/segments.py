"""Segments in memory: mapped vector files, and the exact search over them."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from retrieval.errors import IndexDamaged
from retrieval.store.vector_file import open_vector_file


@dataclass(frozen=True, slots=True)
class VectorHits:
    """The nearest vectors of each query, best first."""

    scores: NDArray[np.float32]
    """[n, k] inner products, higher is better; cosine similarity for unit vectors."""
    vector_ids: NDArray[np.int64]
    """[n, k]; -1 where there are fewer than k vectors."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A mapped vector file and what its rows stand for."""

    index: faiss.Index
    vector_ids: NDArray[np.int64]
    """[rows]: the id of each row's vector."""
    live: NDArray[np.uint8] | None
    """Bitmap of the rows that a chunk uses; None: all of them."""


def open_segments(folder: Path, connection: sqlite3.Connection, dim: int) -> list[Segment]:
    """Map every vector file that the connection's snapshot names.

    Raises:
        FileNotFoundError: a file is not there.
        IndexDamaged: a file is not what the snapshot recorded.
    """
    rows = connection.execute("SELECT id, file, rows FROM segments ORDER BY id").fetchall()
    return [
        _open_segment(folder, connection, segment_id, file, rows=count, dim=dim)
        for segment_id, file, count in rows
    ]


def _open_segment(
    folder: Path, connection: sqlite3.Connection, segment_id: int, file: str, *, rows: int, dim: int
) -> Segment:
    if Path(file).name != file:
        raise IndexDamaged(f"{folder} names a vector file outside itself: {file!r}")
    index = open_vector_file(folder / file, rows=rows, dim=dim)
    entries = np.array(
        connection.execute(
            """SELECT row, id, EXISTS (SELECT 1 FROM chunks c WHERE c.vector_id = v.id)
               FROM vectors v WHERE segment_id = ? ORDER BY row""",
            [segment_id],
        ).fetchall(),
        dtype=np.int64,
    ).reshape(-1, 3)
    if not np.array_equal(entries[:, 0], np.arange(rows)):
        raise IndexDamaged(f"{folder / file}: its rows and the index's records disagree", file=file)
    used = entries[:, 2].astype(bool)
    live = None if used.all() else np.packbits(used, bitorder="little")
    return Segment(index, np.ascontiguousarray(entries[:, 1]), live)


def search_segments(
    segments: Sequence[Segment], queries: NDArray[np.float32], k: int
) -> VectorHits:
    """Find each query's nearest vectors over all segments, exactly.

    Args:
        segments: where to search.
        queries: float32 [n, dim].
        k: how many, ≥ 1.

    Returns:
        [n, ≤ k] scores and vector ids, best first; equal scores in order of vector id.
    """
    scores = [np.empty((len(queries), 0), np.float32)]
    ids = [np.empty((len(queries), 0), np.int64)]
    for segment in segments:
        found, rows = _search_segment(segment, queries, k)
        scores.append(found)
        ids.append(np.where(rows >= 0, segment.vector_ids[rows], -1))
    return _best(np.concatenate(scores, axis=1), np.concatenate(ids, axis=1), k)


def _search_segment(
    segment: Segment, queries: NDArray[np.float32], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scores and rows, [n, min(k, rows)] each; row -1 where there are fewer."""
    k = min(k, segment.index.ntotal)
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    if segment.live is None:
        scores, rows = segment.index.search(queries, k)
    else:
        selector = faiss.IDSelectorBitmap(segment.live)
        scores, rows = segment.index.search(queries, k, params=faiss.SearchParameters(sel=selector))
    return scores, rows


def _best(scores: NDArray[np.float32], ids: NDArray[np.int64], k: int) -> VectorHits:
    """The k best of each row, best first, ties by vector id; missing ones (-1) last."""
    scores = np.where(ids >= 0, scores, -np.inf)
    order = np.lexsort((ids, -scores), axis=1)[:, :k]
    return VectorHits(
        np.take_along_axis(scores, order, axis=1), np.take_along_axis(ids, order, axis=1)
    )
