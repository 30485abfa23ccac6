"""Keep an index fast as it grows: merge small segments, index large ones, drop unused vectors.

Segments never change. Maintenance writes new files, and one commit that names them in place of the
old ones. An interrupted run leaves the index as it was.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from retrieval.domain.records import IndexInfo
from retrieval.store.disk.files import vector_file
from retrieval.store.disk.files.vector_file import open_vector_file
from retrieval.store.disk.vectors.approximate import open_ann
from retrieval.store.disk.vectors.approximate_writer import write_ann
from retrieval.store.disk.vectors.tuning import tune
from retrieval.store.disk.vectors.vector_index import EXACT_ROWS
from retrieval.store.disk.writing.commit import DiskCommit
from retrieval.store.records import AnnKind, AnnSettings, Maintained, SegmentInfo

SMALL_SEGMENT_ROWS = 16_384
"""Segments with fewer rows are merged when there are many of them."""
MAX_SMALL_SEGMENTS = 8
"""Number of small segments above which they are merged: each adds some microseconds to a search."""

MAX_UNUSED_SHARE = 0.3
"""Fraction of unused vectors above which the index is compacted."""
MAX_SIDE_SHARE = 0.1
"""Fraction of vectors outside the largest approximate index above which all segments are merged.
The limit is relative, so each vector is moved only a few times while the index grows."""
MAX_PLAIN_ROWS = 4_096
"""Number of rows without an approximate index, in an index that has one, above which their segments
are merged and get an index of their own: every search reads all of these rows."""

MIN_ANN_ROWS = 1_000
"""Fewer rows are always searched exactly, because an index would gain nothing."""

_COPY_ROWS = 16_384
"""Number of rows copied at a time: 25 MB of vectors at 384 dimensions."""


class Maintainable(Protocol):
    """The part of a writer that maintenance needs; ``DiskWriter`` satisfies it."""

    folder: Path

    @property
    def info(self) -> IndexInfo | None:
        """Description and counts of the index."""
        ...

    @property
    def lexical_is_due(self) -> bool:
        """Whether the lexical index lags behind the passages; any commit then updates it."""
        ...

    def segments(self) -> list[SegmentInfo]:
        """Return every segment, oldest first."""
        ...

    def rows_of(self, segment_id: int) -> NDArray[np.int64]:
        """Return the rows of a segment whose vectors are still in the index, in order."""
        ...

    def commit(self) -> AbstractContextManager[DiskCommit]:
        """Stage changes; leaving the block commits them."""
        ...


def maintain(writer: Maintainable) -> Maintained:
    """Do the maintenance that is due after a build; usually none is.

    Raises:
        StorageError, IndexDamaged: a file can't be written or read. Its commit changes nothing.
    """
    if writer.lexical_is_due:  # an older version wrote it, or the language was changed
        with writer.commit():
            pass
    info, segments = writer.info, writer.segments()
    if info is None or not segments:
        return Maintained()
    total = sum(row.rows for row in segments)
    kind = _kind(info.index_type, total)
    if sum(row.unused for row in segments) > MAX_UNUSED_SHARE * total:
        return compact(writer)
    if kind is None:
        if any(row.ann or row.missed for row in segments):
            with writer.commit() as commit:
                for row in segments:
                    commit.remove_ann(row.id)
        due = _due_to_merge([row for row in segments if row.rows < SMALL_SEGMENT_ROWS])
    else:
        due = _due_to_index(segments, kind, info)
    if due:
        few = len(due) < len(segments) and sum(row.rows for row in due) <= MAX_PLAIN_ROWS
        return _into_one(writer, None if few else kind, info, due, drop_unused=False)
    return _tune_anew(writer, info, segments)


def _due_to_merge(small: Sequence[SegmentInfo]) -> Sequence[SegmentInfo]:
    """Return small segments to be merged, if there are many."""
    return small if len(small) > MAX_SMALL_SEGMENTS else ()


def _due_to_index(
    segments: Sequence[SegmentInfo], kind: AnnKind, info: IndexInfo
) -> Sequence[SegmentInfo]:
    """Return segments to merge into one with an approximate index; usually none.

    A segment whose index missed the target counts as indexed; enough new vectors trigger a retry.
    """
    total, half = sum(row.rows for row in segments), vector_file.MAX_SEGMENT_ROWS // 2
    indexed = [row for row in segments if row.ann_kind == kind or _in_vain(row, kind, info)]
    # A segment at least half full is left alone: a merge would only split it again.
    rest = [row for row in segments if row not in indexed or row.rows < half]
    indexed = [row for row in indexed if row.rows < half]
    main = max(indexed, key=lambda row: row.rows, default=None)
    side = [row for row in rest if row is not main]
    if sum(row.rows for row in side) > MAX_SIDE_SHARE * total:
        return rest
    plain = [row for row in side if row not in indexed]
    if len(side) - len(plain) > MAX_SMALL_SEGMENTS:
        return side
    if sum(row.rows for row in plain) > MAX_PLAIN_ROWS:
        return plain
    return _due_to_merge(plain)


def _in_vain(segment: SegmentInfo, kind: AnnKind, info: IndexInfo) -> bool:
    """Whether an approximate index of a segment is known to miss the target recall."""
    tried = segment.missed
    return (
        _must_reach(info)
        and tried is not None
        and tried.kind == kind
        and tried.recall < info.target_recall
    )


def _must_reach(info: IndexInfo) -> bool:
    """Whether a segment is searched exactly if an approximate index misses the target recall."""
    return info.index_type == "auto"


def compact(writer: Maintainable) -> Maintained:
    """Merge all segments, without the vectors that no chunk uses, and index the result.

    The result is several segments if one would be too large.

    Raises:
        StorageError, IndexDamaged: a file can't be written or read. Its commit changes nothing.
    """
    info, segments = writer.info, writer.segments()
    if info is None or not segments:
        return Maintained()
    with writer.commit() as commit:
        commit.forget_lexical()
    kind = _kind(info.index_type, sum(row.rows - row.unused for row in segments))
    return _into_one(writer, kind, info, segments, drop_unused=True)


def _kind(index_type: str, rows: int) -> AnnKind | None:
    """Return the kind of approximate index for a number of vectors; None for exact search."""
    if rows < MIN_ANN_ROWS:
        return None
    if index_type == "hnsw":
        return "hnsw"
    if index_type == "ivf" or (index_type == "auto" and rows > EXACT_ROWS):
        return "ivf"
    return None


def _into_one(
    writer: Maintainable,
    kind: AnnKind | None,
    info: IndexInfo,
    segments: Sequence[SegmentInfo],
    *,
    drop_unused: bool,
) -> Maintained:
    """Merge segments in one commit, and index the result in another.

    A run interrupted between the two leaves a segment that is searched exactly, which is correct
    but slower.
    """
    removed = 0
    merged, single = [segments[0].id], segments[0]
    if len(segments) > 1 or (drop_unused and single.unused):
        with writer.commit() as commit:
            if drop_unused:
                removed = commit.remove_unused_vectors()
            kept = [writer.rows_of(row.id) for row in segments]
            merged = commit.move_vectors(
                [row.id for row in segments],
                _kept_parts(writer, segments, kept, info.model.dim),
                info.model.dim,
                sum(map(len, kept)),
            )
    done = [_index_segment(writer, segment, kind, info) for segment in merged]
    return Maintained(
        merged=len(segments) if merged != [single.id] else 0,
        removed=removed,
        ann=min(filter(None, (one.ann for one in done)), key=_recall, default=None),
        missed=max(filter(None, (one.missed for one in done)), key=_recall, default=None),
    )


def _recall(settings: AnnSettings) -> float:
    return settings.recall


def _tune_anew(
    writer: Maintainable, info: IndexInfo, segments: Sequence[SegmentInfo]
) -> Maintained:
    """Tune the approximate indexes again that were tuned for another target recall.

    If the index type is ``auto``, indexes that miss the target are removed.
    """
    done = Maintained()
    for segment in segments:
        if segment.ann is None:
            continue
        tuned = segment.ann
        if anew := tuned.target != info.target_recall:
            tuned = _tuned(writer, segment, segment.ann, info)
        if _must_reach(info) and not tuned.reached:
            done = replace(done, missed=tuned)
            with writer.commit() as commit:
                commit.put_missed(segment.id, tuned)
        elif anew:
            done = replace(done, tuned=tuned)
            with writer.commit() as commit:
                commit.set_ann_settings(segment.id, tuned)
    return done


def _tuned(
    writer: Maintainable, segment: SegmentInfo, settings: AnnSettings, info: IndexInfo
) -> AnnSettings:
    """Return the settings that reach the target recall on a segment, or else the best ones."""
    rows, dim = segment.rows, info.model.dim
    vectors = open_vector_file(writer.folder / segment.file, rows=rows, dim=dim)
    ann = open_ann(
        writer.folder / segment.ann_file,
        sha256=segment.ann_sha256,
        settings=settings.as_json(),
        rows=rows,
        dim=dim,
    )
    return tune(ann, vectors, info.target_recall)


def _kept_parts(
    writer: Maintainable,
    segments: Sequence[SegmentInfo],
    kept: Sequence[NDArray[np.int64]],
    dim: int,
) -> Iterator[NDArray[np.float32]]:
    """Yield the kept vectors of some segments, in order, a few thousand at a time."""
    for segment, rows in zip(segments, kept, strict=True):
        index = open_vector_file(writer.folder / segment.file, rows=segment.rows, dim=dim)
        for start in range(0, len(rows), _COPY_ROWS):
            yield index.reconstruct_batch(rows[start : start + _COPY_ROWS])


def _index_segment(
    writer: Maintainable, segment_id: int, kind: AnnKind | None, info: IndexInfo
) -> Maintained:
    """Build a segment's approximate index; if ``kind`` is None, remove the one that it has."""
    (segment,) = [row for row in writer.segments() if row.id == segment_id]
    if kind is None:
        if segment.ann or segment.missed:
            with writer.commit() as commit:
                commit.remove_ann(segment_id)
        return Maintained()
    vectors = open_vector_file(writer.folder / segment.file, rows=segment.rows, dim=info.model.dim)
    written, settings = write_ann(
        writer.folder,
        vectors,
        kind,
        target_recall=info.target_recall,
        or_none=_must_reach(info),
    )
    with writer.commit() as commit:
        if written is None:
            commit.put_missed(segment_id, settings)
            return Maintained(missed=settings)
        commit.put_ann(segment_id, written, settings)
    return Maintained(ann=settings)
