"""The vectors of one generation: mapped files, search with or without a filter, and look-up."""

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
"""Below this fraction of a segment, rows are read one by one; above, all in one sweep."""

_KEPT_BYTES: Final = 64 << 20
"""Maximum size of the filters that a generation remembers. At a million vectors a filter takes
250 KB (two bits a vector) to 1 MB (where it leaves just under a tenth: 8 bytes for each row)."""
_BYTES_BESIDE: Final = 2_000
"""Bytes that a remembered filter takes besides its arrays and its text, about."""

_CENTRE_ROWS = 512
"""Rows whose average stands for that of all; hybrid scores hardly differ between the two."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The rows of a segment that may be found, ready to be searched."""

    count: int
    bitmap: NDArray[np.uint8]
    """A bit a row, as FAISS takes it."""
    rows: NDArray[np.int64] | None
    """The rows themselves, if they are few; else None."""

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.bitmap.nbytes + (0 if self.rows is None else self.rows.nbytes)

    @classmethod
    def from_mask(cls, mask: NDArray[np.bool_]) -> "Chosen":
        """From bool [rows]."""
        count = int(np.count_nonzero(mask))
        few = count < _GATHER_SHARE * len(mask)
        rows = np.flatnonzero(mask) if few else None
        return cls(count, np.packbits(mask, bitorder="little"), rows)


@dataclass(frozen=True)
class RowIds:
    """Which vector each row of a segment is."""

    vector_ids: NDArray[np.int64]
    """[rows]."""

    @cached_property
    def order(self) -> NDArray[np.int64] | None:
        """The rows in order of their ids; None if they lie in that order."""
        ids = self.vector_ids
        return None if (ids[:-1] < ids[1:]).all() else np.argsort(ids)


@dataclass(frozen=True, slots=True)
class Segment:
    """A mapped vector file and what its rows stand for."""

    index: faiss.Index
    """Flat, over the file's own pages."""
    ids: RowIds
    used: NDArray[np.bool_] | None
    """[rows]: which rows a chunk uses; None for all of them."""
    ann: Ann | None
    """For search that does not look at every row."""

    @property
    def vector_ids(self) -> NDArray[np.int64]:
        """[rows]: the id of each row's vector."""
        return self.ids.vector_ids

    def rows_of(self, vector_ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Find some vectors.

        Returns:
            the rows of those that are in this segment, and bool [n]: which they are.
        """
        order = self.ids.order
        at = np.searchsorted(self.vector_ids, vector_ids, sorter=order)
        at = np.minimum(at, len(self.vector_ids) - 1)
        rows = at if order is None else order[at]
        inside = self.vector_ids[rows] == vector_ids
        return rows[inside].astype(np.int64), inside

    def choose(self, allowed: NDArray[np.bool_] | None) -> Chosen | None:
        """Return which rows may be found; None for all of them.

        Args:
            allowed: by vector id: whether it may be found; None if all may.
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
        connection: has begun to read.
        dim: length of a vector.
        opened: what is open already.

    Raises:
        FileNotFoundError: a file is not there.
        IndexDamaged: a file is not what the snapshot recorded.
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
        # An older version recorded no checksum.
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
    """Return which file it is that an index names.

    Raises:
        IndexDamaged: it lies elsewhere.
        FileNotFoundError: it is not there.
    """
    if Path(name).name != name:
        raise IndexDamaged(f"{folder} names a vector file outside itself: {name!r}")
    return FileStamp.of(folder / name)


def _read_ids(
    connection: sqlite3.Connection, segment_id: int, path: Path, rows: int, sha256: str
) -> RowIds:
    """Read which vectors the rows of a segment are.

    Raises:
        IndexDamaged: these are not what was recorded.
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
    """Return the vector ids of a segment's rows from the database's form; none if it is cut."""
    return np.frombuffer(blob if len(blob) % 8 == 0 else b"", "<i8").astype(np.int64, copy=False)


def _unused_rows(connection: sqlite3.Connection) -> dict[int, NDArray[np.int64]]:
    """Return the rows that no chunk uses, by segment id, for the segments that have any.

    Raises:
        IndexDamaged: a chunk uses one of them.
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
        segments: where to search.
        queries: float32 [n, dim].
        k: how many, ≥ 1.
        chosen: of each segment, which rows may be found; None for all of them.
        exact: look at every row, also where there is an approximate index.

    Returns:
        [n, ≤ k] scores and vector ids, best first; equal scores in order of vector id.
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
    """Search one segment: scores and rows, [n, ≤ k] each; row -1 where there are fewer."""
    total = segment.index.ntotal
    count = total if chosen is None else chosen.count
    k = min(k, count)
    if k == 0:
        return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    selector = None if chosen is None else faiss.IDSelectorBitmap(chosen.bitmap)
    share = count / total
    # A filter that leaves few rows is searched exactly; a few deleted rows change nothing.
    if segment.ann is not None and not exact and (count > EXACT_ROWS or share > MOST):
        rows = segment.ann.propose(queries, k, selector=selector, share=share)
        if (np.count_nonzero(rows >= 0, axis=1) >= k).all():
            return rescore(segment.index, queries, rows, k)
        # The index proposed fewer rows than wanted: search exactly.
    if chosen is None:
        scores, rows = segment.index.search(queries, k)
    elif chosen.rows is not None:
        scores, rows = search_rows(segment.index, queries, chosen.rows, k)
    else:
        parameters = faiss.SearchParameters(sel=selector)
        scores, rows = segment.index.search(queries, k, params=parameters)
    return scores, rows


def _best(scores: NDArray[np.float32], ids: NDArray[np.int64], k: int) -> VectorHits:
    """Return the k best of each row, best first, ties by vector id, missing ones (-1) last."""
    scores = np.where(ids >= 0, scores, -np.inf)
    order = np.lexsort((ids, -scores), axis=1)[:, :k]
    return VectorHits(
        np.take_along_axis(scores, order, axis=1), np.take_along_axis(ids, order, axis=1)
    )


class Choice(NamedTuple):
    """What may be found."""

    rows: Sequence[Chosen | None]
    """For each segment, which rows; None for all of them."""
    texts: IdSet | None
    """Which texts; None for all of them."""


class _Kept(NamedTuple):
    """A filter that was evaluated."""

    choice: Choice
    size: int
    """In bytes, its text included."""


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
        self._evaluator = FilterEvaluator(rows)
        self._unfiltered = Choice([segment.choose(None) for segment in segments], None)
        self._filtered = Once[str, _Kept](_KEPT_BYTES, lambda kept: kept.size)

    @property
    def is_exact(self) -> bool:
        """Whether there is no approximate index: every search looks at every vector."""
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
        """Return some vectors, float32 [n, dim]."""
        found = np.zeros((len(vector_ids), self._dim), dtype=np.float32)
        for inside, part in self._read(vector_ids):
            found[inside] = part
        return found

    def _read(
        self, vector_ids: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.float32]]]:
        """Yield for each segment which of n vectors are in it, bool [n], and these, [m, dim]."""
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
        """Return one vector, float32 [dim]; None if it is in none of the segments."""
        return next((part[0] for _, part in self._read(np.array([vector_id]))), None)

    def knows(self, filter_text: str) -> bool:
        """Whether a filter's result is remembered."""
        return filter_text in self._filtered

    def prepare(self, filter: Filter) -> None:
        """Evaluate a filter and remember the result for searches; see ``Reader.prepare``."""
        self._choose(filter)

    def _choose(self, filter: Filter) -> Choice:
        """Return which rows of each segment pass a filter; recent filters are remembered.

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
    """Return some ids as a mask, bool [most + 1]."""
    mask = np.zeros(most + 1, dtype=bool)
    mask[ids] = True
    return mask
