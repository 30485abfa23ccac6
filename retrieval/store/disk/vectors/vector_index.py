"""The vectors of one generation: mapped files, search with or without a filter, and lookup."""

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Final, NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

from retrieval.errors import IndexDamaged, InvalidArgument
from retrieval.store.disk.files.shared_parts import FileStamp, Opened
from retrieval.store.disk.files.single_flight import Once
from retrieval.store.disk.files.vector_file import open_vector_file, search_rows
from retrieval.store.disk.filtering.evaluation import FilterEvaluator
from retrieval.store.disk.id_set import IdSet
from retrieval.store.disk.tables.rows import Rows, damaged_row
from retrieval.store.disk.vectors.approximate import MOST, Ann, open_ann, rescore
from retrieval.store.filters.language import Filter
from retrieval.store.records import VectorHits

EXACT_ROWS = 50_000
"""Search up to this many eligible rows exactly: at 384 dimensions that takes 10 ms on one core."""

_GATHER_SHARE = 0.1
"""If a filter leaves less than this fraction of a segment, read its rows one by one; else scan the
whole segment."""

_KEPT_BYTES: Final = 64 << 20
"""Maximum size of the filters that a generation caches. At a million vectors a filter takes 250 KB
(two bits for each vector) to 1 MB (if it leaves just under a tenth, at 8 bytes for each row)."""
_BYTES_BESIDE: Final = 2_000
"""Approximate size of a cached filter besides its arrays and its text, in bytes."""

_CENTRE_ROWS = 512
"""Number of rows to average for the centre; averaging all rows hardly changes hybrid scores."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The eligible rows of a segment, ready to be searched."""

    count: int
    bitmap: NDArray[np.uint8]
    """One bit for each row of the segment, in the order that FAISS expects."""
    rows: NDArray[np.int64] | None
    """The rows themselves, if they are few; else None."""

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.bitmap.nbytes + (0 if self.rows is None else self.rows.nbytes)

    @classmethod
    def from_mask(cls, mask: NDArray[np.bool_]) -> "Chosen":
        """Return the rows of a mask, bool [rows]."""
        count = int(np.count_nonzero(mask))
        few = count < _GATHER_SHARE * len(mask)
        rows = np.flatnonzero(mask) if few else None
        return cls(count, np.packbits(mask, bitorder="little"), rows)


@dataclass(frozen=True)
class RowIds:
    """The vector ids of a segment's rows."""

    vector_ids: NDArray[np.int64]
    """The vector id of each row, int64 [rows]."""

    @cached_property
    def order(self) -> NDArray[np.int64] | None:
        """The rows in order of their vector ids; None if the rows are in that order already."""
        ids = self.vector_ids
        return None if (ids[:-1] < ids[1:]).all() else np.argsort(ids)


@dataclass(frozen=True, slots=True)
class Segment:
    """A mapped vector file and the records of its rows."""

    index: faiss.Index
    """Flat index over the file's own pages."""
    ids: RowIds
    used: NDArray[np.bool_] | None
    """Whether a chunk uses each row, bool [rows]; None if all are used."""
    ann: Ann | None
    """The approximate index, if there is one."""

    @property
    def vector_ids(self) -> NDArray[np.int64]:
        """The vector id of each row, int64 [rows]."""
        return self.ids.vector_ids

    def rows_of(self, vector_ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Find the rows of given vectors.

        Returns:
            the rows of the vectors that are in this segment; and whether each of the n vectors is
            in it, bool [n].
        """
        order = self.ids.order
        at = np.searchsorted(self.vector_ids, vector_ids, sorter=order)
        at = np.minimum(at, len(self.vector_ids) - 1)
        rows = at if order is None else order[at]
        inside = self.vector_ids[rows] == vector_ids
        return rows[inside].astype(np.int64), inside

    def choose(self, allowed: NDArray[np.bool_] | None) -> Chosen | None:
        """Return the eligible rows; None if all are.

        Args:
            allowed: whether each vector is eligible, indexed by vector id; None if all are.
        """
        mask = self.used
        if allowed is not None:
            mask = allowed[self.vector_ids]
            mask = mask if self.used is None else mask & self.used
        return None if mask is None else Chosen.from_mask(mask)


def open_segments(
    folder: Path, connection: sqlite3.Connection, dim: int, opened: Opened
) -> list[Segment]:
    """Map every vector file that the connection's snapshot names.

    Args:
        folder: the index.
        connection: connection in a read transaction.
        dim: length of a vector.
        opened: files that are open already.

    Raises:
        FileNotFoundError: a file is missing.
        IndexDamaged: a file does not match the snapshot's record.
    """
    rows = connection.execute(
        """SELECT s.id, s.file, s.rows, s.sample_sha256, s.ids_sha256, a.file, a.sha256, a.settings
           FROM segments s LEFT JOIN ann_files a ON a.segment_id = s.id ORDER BY s.id"""
    ).fetchall()
    unused = _unused_rows(connection)
    segments = []
    for segment_id, file, count, sample, ids_sha256, ann_file, ann_sha256, settings in rows:
        index = opened.take(
            ("vectors", file, count, dim, sample, _stamp(folder, file)),
            partial(open_vector_file, folder / file, rows=count, dim=dim, sample=sample),
        )
        read_ids = partial(_read_ids, connection, segment_id, folder / file, count, ids_sha256)
        # Older versions recorded no checksum of the ids; those can't be shared by key.
        ids = opened.take(("ids", file, count, ids_sha256), read_ids) if ids_sha256 else read_ids()
        ann = None
        if ann_file is not None:
            ann = opened.take(
                ("ann", ann_file, ann_sha256, settings, count, dim, _stamp(folder, ann_file)),
                partial(
                    open_ann,
                    folder / ann_file,
                    sha256=ann_sha256,
                    settings=settings,
                    rows=count,
                    dim=dim,
                ),
            )
        used = None
        if (dead := unused.get(segment_id)) is not None:
            if dead.max() >= count:
                raise _records_disagree(folder / file)
            used = np.ones(count, dtype=bool)
            used[dead] = False
        segments.append(Segment(index, ids, used, ann))
    return segments


def _stamp(folder: Path, name: str) -> FileStamp:
    """Return the stamp of a file that an index names.

    Raises:
        IndexDamaged: the name points outside the index's folder.
        FileNotFoundError: there is no file.
    """
    if Path(name).name != name:
        raise IndexDamaged(f"{folder} names a vector file outside itself: {name!r}")
    return FileStamp.of(folder / name)


def _read_ids(
    connection: sqlite3.Connection, segment_id: int, path: Path, rows: int, sha256: str
) -> RowIds:
    """Read the vector ids of a segment's rows.

    Raises:
        IndexDamaged: the ids do not match their checksum or the number of rows.
    """
    (blob,) = connection.execute(
        "SELECT vector_ids FROM segments WHERE id = ?", [segment_id]
    ).fetchone()
    vector_ids = row_ids(blob)
    if (sha256 and hashlib.sha256(blob).hexdigest() != sha256) or len(vector_ids) != rows:
        raise _records_disagree(path)
    return RowIds(vector_ids)


def _records_disagree(path: Path) -> IndexDamaged:
    return IndexDamaged(f"{path}: its rows and the index's records disagree", file=path.name)


def row_ids(blob: bytes) -> NDArray[np.int64]:
    """Decode the stored vector ids of a segment's rows; empty if the value is truncated."""
    return np.frombuffer(blob if len(blob) % 8 == 0 else b"", "<i8").astype(np.int64, copy=False)


def _unused_rows(connection: sqlite3.Connection) -> dict[int, NDArray[np.int64]]:
    """Return the rows that no chunk uses by segment id, without segments that have none.

    Raises:
        IndexDamaged: a chunk uses one of these rows.
    """
    used = connection.execute(
        """SELECT 1 FROM unused_vectors u
           WHERE EXISTS (SELECT 1 FROM chunks c WHERE c.vector_id = u.vector_id) LIMIT 1"""
    ).fetchone()
    if used:
        raise damaged_row("it takes a vector for unused that a passage uses")
    pairs = np.array(
        connection.execute(
            """SELECT v.segment_id, v.row FROM unused_vectors u JOIN vectors v ON v.id = u.vector_id
               ORDER BY v.segment_id"""
        ).fetchall(),
        dtype=np.int64,
    ).reshape(-1, 2)
    segments, starts = np.unique(pairs[:, 0], return_index=True)
    parts = np.split(pairs[:, 1], starts[1:])
    return dict(zip(segments.tolist(), parts, strict=True)) if len(segments) else {}


def search_segments(
    segments: Sequence[Segment],
    queries: NDArray[np.float32],
    k: int,
    *,
    chosen: Sequence[Chosen | None],
    exact: bool = False,
) -> VectorHits:
    """Find each query's nearest vectors over all segments.

    Args:
        segments: segments to search.
        queries: float32 [n, dim].
        k: maximum number of results for each query, ≥ 1.
        chosen: eligible rows of each segment; None for all rows.
        exact: score every row, even if there is an approximate index.

    Returns:
        scores and vector ids, [n, ≤ k] each, best first; equal scores in order of vector id.
    """
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    scores = [np.empty((len(queries), 0), np.float32)]
    ids = [np.empty((len(queries), 0), np.int64)]
    for segment, some in zip(segments, chosen, strict=True):
        found, rows = _search_segment(segment, queries, k, some, exact=exact)
        scores.append(found)
        ids.append(np.where(rows >= 0, segment.vector_ids[rows], -1))
    return _best(np.concatenate(scores, axis=1), np.concatenate(ids, axis=1), k)


def _search_segment(
    segment: Segment,
    queries: NDArray[np.float32],
    k: int,
    chosen: Chosen | None,
    *,
    exact: bool,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Search one segment; return scores and rows, [n, ≤ k] each, with row -1 for missing ones."""
    total = segment.index.ntotal
    count = total if chosen is None else chosen.count
    k = min(k, count)
    if k == 0:
        return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    selector = None if chosen is None else faiss.IDSelectorBitmap(chosen.bitmap)
    share = count / total
    # Search exactly if a filter leaves few rows, but not because a few rows are unused.
    if segment.ann is not None and not exact and (count > EXACT_ROWS or share > MOST):
        rows = segment.ann.propose(queries, k, selector=selector, share=share)
        if (np.count_nonzero(rows >= 0, axis=1) >= k).all():
            return rescore(segment.index, queries, rows, k)
        # The index proposed fewer than k rows, so search exactly.
    if chosen is None:
        scores, rows = segment.index.search(queries, k)
    elif chosen.rows is not None:
        scores, rows = search_rows(segment.index, queries, chosen.rows, k)
    else:
        parameters = faiss.SearchParameters(sel=selector)
        scores, rows = segment.index.search(queries, k, params=parameters)
    return scores, rows


def _best(scores: NDArray[np.float32], ids: NDArray[np.int64], k: int) -> VectorHits:
    """Return the k best of each row, best first; ties by vector id, missing ones (-1) last."""
    scores = np.where(ids >= 0, scores, -np.inf)
    order = np.lexsort((ids, -scores), axis=1)[:, :k]
    return VectorHits(
        np.take_along_axis(scores, order, axis=1), np.take_along_axis(ids, order, axis=1)
    )


class Choice(NamedTuple):
    """The vectors and texts that a search may find."""

    rows: Sequence[Chosen | None]
    """Eligible rows of each segment; None for all rows."""
    texts: IdSet | None
    """Ids of the eligible texts; None for all texts."""


class _Kept(NamedTuple):
    """The cached result of a filter."""

    choice: Choice
    size: int
    """Size in bytes, including the filter's text."""


class VectorIndex:
    """The segments of one generation; safe to share between threads."""

    def __init__(self, segments: Sequence[Segment], dim: int, rows: Rows) -> None:
        """Take over open segments.

        Args:
            segments: all segments of the generation.
            dim: length of a vector.
            rows: function that runs a query on the generation's tables.
        """
        self._segments = segments
        self._dim = dim
        self._evaluator = FilterEvaluator(rows)
        self._unfiltered = Choice([segment.choose(None) for segment in segments], None)
        self._filtered = Once[str, _Kept](_KEPT_BYTES, lambda kept: kept.size)

    @property
    def is_exact(self) -> bool:
        """Whether every search is exact because there is no approximate index."""
        return all(segment.ann is None for segment in self._segments)

    def search(
        self, queries: NDArray[np.float32], k: int, *, filter: Filter | None, exact: bool
    ) -> VectorHits:
        """Find each query's nearest vectors; see ``Reader.search_vectors``."""
        if queries.shape[1:] != (self._dim,):
            raise InvalidArgument(
                f"query vectors must be [n, {self._dim}], not {list(queries.shape)}",
                field="vector",
            )
        choice = self._unfiltered if filter is None else self._choose(filter)
        return search_segments(self._segments, queries, k, chosen=choice.rows, exact=exact)

    def allowed_texts(self, filter: Filter | None) -> IdSet | None:
        """Return the texts of passages that pass a filter; None for all texts."""
        return (self._unfiltered if filter is None else self._choose(filter)).texts

    def scores(
        self, query: NDArray[np.float32], vector_ids: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return the inner products of a query and some vectors; see ``Reader.score_vectors``."""
        scores = np.full(len(vector_ids), -np.inf, dtype=np.float32)
        for inside, part in self._read(vector_ids):
            scores[inside] = part @ query
        return scores

    def vectors(self, vector_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return vectors by id, float32 [n, dim]; zeros for ids that do not exist."""
        found = np.zeros((len(vector_ids), self._dim), dtype=np.float32)
        for inside, part in self._read(vector_ids):
            found[inside] = part
        return found

    def _read(
        self, vector_ids: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.float32]]]:
        """Yield for each segment whether it has each of n vectors, bool [n], and those, [m, dim].

        Segments that have none of the vectors are skipped.
        """
        for segment in self._segments:
            rows, inside = segment.rows_of(vector_ids)
            if len(rows):
                yield inside, segment.index.reconstruct_batch(rows)

    @cached_property
    def centre(self) -> NDArray[np.float32]:
        """The average of a sample of the vectors, float32 [dim]."""
        total = sum(segment.index.ntotal for segment in self._segments)
        sums = np.zeros(self._dim)
        taken = 0
        for segment in self._segments:
            rows = segment.index.ntotal
            some = np.linspace(0, rows - 1, max(1, min(rows, _CENTRE_ROWS * rows // total)))
            sums += segment.index.reconstruct_batch(some.astype(np.int64)).sum(axis=0)
            taken += len(some)
        return (sums / max(1, taken)).astype(np.float32)

    def vector(self, vector_id: int) -> NDArray[np.float32] | None:
        """Return one vector, float32 [dim]; None if no segment has it."""
        return next((part[0] for _, part in self._read(np.array([vector_id]))), None)

    def knows(self, filter_text: str) -> bool:
        """Whether the result of a filter is cached."""
        return filter_text in self._filtered

    def prepare(self, filter: Filter) -> None:
        """Evaluate a filter and cache the result for searches; see ``Reader.prepare``."""
        self._choose(filter)

    def _choose(self, filter: Filter) -> Choice:
        """Return the rows and texts that pass a filter, from the cache if possible.

        Raises:
            DeadlinePassed: no client waits for the answer any more.
        """
        return self._filtered.get(filter.text, lambda: self._evaluate(filter)).choice

    def _evaluate(self, filter: Filter) -> _Kept:
        vector_ids, text_ids = self._evaluator.passages(filter.tree)
        most = max((int(segment.vector_ids.max()) for segment in self._segments), default=0)
        vectors = _mask(vector_ids, most)
        texts = IdSet.from_mask(_mask(text_ids, int(text_ids.max(initial=0))))
        rows = [segment.choose(vectors) for segment in self._segments]
        size = sum(chosen.size for chosen in rows if chosen) + texts.bits.nbytes
        return _Kept(Choice(rows, texts), size + len(filter.text) + _BYTES_BESIDE)


def _mask(ids: NDArray[np.int64], most: int) -> NDArray[np.bool_]:
    """Return ids as a mask, bool [most + 1]."""
    mask = np.zeros(most + 1, dtype=bool)
    mask[ids] = True
    return mask
