"""Keep an index fast as it grows: merge small segments, index large ones, drop unused vectors.

Segments never change. Maintenance writes new files outside commits, so that other writers go on,
and one short commit names them in place of the old ones. Another writer's commit in between may add
documents, leave vectors unused, or use them again; it never replaces a segment, because only the
holder of the maintenance lock does that. An interrupted run leaves the index as it was.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from retrieval.errors import IndexLocked
from retrieval.store.disk.files import vector_file
from retrieval.store.disk.files.vector_file import (
    open_vector_file,
    remove_pending_files,
    write_vector_file,
)
from retrieval.store.disk.lexical.lexical_merge import Prepared as PreparedLexical
from retrieval.store.disk.lexical.lexical_merge import due_to_merge as due_lexical
from retrieval.store.disk.lexical.lexical_merge import merged
from retrieval.store.disk.lexical.segment_files import LexicalRecord, segments_of
from retrieval.store.disk.tables.locks import (
    MAINTENANCE_WAIT_SECONDS,
    claimed_segments,
    is_building,
    maintenance_lock,
)
from retrieval.store.disk.vectors.approximate import open_ann
from retrieval.store.disk.vectors.approximate_writer import write_ann
from retrieval.store.disk.vectors.tuning import tune
from retrieval.store.disk.vectors.vector_index import EXACT_ROWS
from retrieval.store.disk.writing.commit import DiskCommit, Merged, Outdated, read_rows
from retrieval.store.disk.writing.lookups import SearchSettings, SegmentRows
from retrieval.store.records import AnnKind, AnnSettings, Maintained, SegmentInfo

SMALL_SEGMENT_ROWS = 16_384
"""Segments with fewer rows are merged when there are many of them."""
MAX_SMALL_SEGMENTS = 8
"""Number of small segments above which some are merged: each adds some microseconds to a search."""

TINY_SEGMENT_ROWS = 4_096
"""Segments with up to this many rows are merged within commits, too. To merge so many takes some
50 ms, most of it for the rows of the database."""
MAX_TINY_SEGMENTS = 6
"""Number of tiny segments above which a commit merges some. It is less than ``MAX_SMALL_SEGMENTS``,
so that few are left at the end of a stream, of which maintenance may be behind."""

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

COMPACT_WAIT_SECONDS = 60.0
"""How long a compaction waits for another process's maintenance. Merging small segments takes less
than a second; building a large approximate index takes minutes."""


class Maintainable(Protocol):
    """The part of a writer that maintenance needs; ``DiskWriter`` satisfies it."""

    folder: Path
    shared: bool

    def search_settings(self) -> SearchSettings | None:
        """Return how vectors are to be searched; None if the index has no model yet."""
        ...

    @property
    def lexical_is_due(self) -> bool:
        """Whether the lexical index lags behind the passages; any commit then updates it."""
        ...

    def segments(self) -> list[SegmentInfo]:
        """Return every segment, oldest first."""
        ...

    def lexical_segments(self) -> LexicalRecord | None:
        """Return the record of the lexical index; None if there is none, or if it is damaged."""
        ...

    def lexical_anew(self) -> AbstractContextManager[PreparedLexical]:
        """Index all texts anew, outside a commit."""
        ...

    def rows_of(self, segment_id: int, *, used: bool) -> SegmentRows:
        """Return the rows of a segment whose vectors are still in the index, in order."""
        ...

    def commit(self) -> AbstractContextManager[DiskCommit]:
        """Stage changes; leaving the block commits them."""
        ...


def maintain(writer: Maintainable) -> Maintained:
    """Do the maintenance that is due after a build or some commits; usually none is.

    If another process does maintenance, the work is left to that process.

    Raises:
        StorageError, IndexDamaged: a file can't be written or read. Its commit changes nothing.
        IndexLocked: another writer did not finish its commit.
    """
    if writer.lexical_is_due:  # an older version wrote it, or the language was changed
        with writer.commit():
            pass
    with _alone(writer.folder) as claim:
        return _unless_outdated(_maintain, writer, claim) if claim else Maintained()


Claim = Callable[[int], None]
"""Claims the segments up to an id; see ``claimed_segments``."""


@contextmanager
def _alone(folder: Path, seconds: float = MAINTENANCE_WAIT_SECONDS) -> Iterator[Claim | None]:
    """Hold the maintenance lock, if possible; see ``maintenance_lock``."""
    with maintenance_lock(folder, seconds) as claim:
        if claim:
            remove_pending_files(folder)
        yield claim


def _claimed(writer: Maintainable, claim: Claim) -> list[SegmentInfo]:
    """Return every segment; commits leave these alone until the maintenance lock is released."""
    claim(max((row.id for row in writer.segments()), default=0))
    return writer.segments()


def _maintain(writer: Maintainable, claim: Claim) -> Maintained:
    """Do the maintenance that is due; the caller holds the maintenance lock."""
    while _merge_words(writer):
        pass
    info, segments = writer.search_settings(), _claimed(writer, claim)
    if info is None or not segments:
        return Maintained()
    total = sum(row.rows for row in segments)
    kind = _kind(info.index_type, total)
    if sum(row.unused for row in segments) > MAX_UNUSED_SHARE * total and not (
        # A build commits vectors ahead of their documents.
        writer.shared and is_building(writer.folder)
    ):
        return _compact(writer, claim)
    if kind is None:
        if any(row.ann or row.missed for row in segments):
            with writer.commit() as commit:
                for row in segments:
                    commit.remove_ann(row.id)
        due = due_to_merge([row for row in segments if row.rows < SMALL_SEGMENT_ROWS])
    else:
        due = _due_to_index(segments, kind, info)
    if due:
        few = len(due) < len(segments) and sum(row.rows for row in due) <= MAX_PLAIN_ROWS
        return _into_one(writer, None if few else kind, info, due, drop_unused=False)
    return _tune_anew(writer, info, segments)


def due_to_merge(small: Sequence[SegmentInfo], most: int | None = None) -> Sequence[SegmentInfo]:
    """Return small segments to be merged into one, if there are many.

    These are the smallest ones, and with them each larger one that is not larger than those before
    it together, so that sizes are kept in a geometric series. A row that came in the first of
    20,000 commits is moved about 9 times.

    Args:
        small: the segments.
        most: how many may stay; None for ``MAX_SMALL_SEGMENTS``.
    """
    most = MAX_SMALL_SEGMENTS if most is None else most
    if len(small) <= most:
        return ()
    by_size = sorted(small, key=lambda row: row.rows)
    count, rows = 1, by_size[0].rows
    while count < len(by_size) and (
        by_size[count].rows <= rows or len(by_size) - count >= most - 2
    ):
        rows += by_size[count].rows
        count += 1
    return sorted(by_size[:count], key=lambda row: row.id)


def merge_tiny(commit: DiskCommit) -> None:
    """Merge tiny segments within the commit that adds another, if there are many of them.

    Commits can come faster than maintenance, which leaves most of the processor to searches. What
    maintenance works on is left to it.

    Raises:
        StorageError, IndexDamaged: a file can't be written or read.
    """
    info = commit.search_settings()
    tiny = commit.plain_segments(TINY_SEGMENT_ROWS, claimed_segments(commit.folder))
    if info is not None and (due := due_to_merge(tiny, MAX_TINY_SEGMENTS)):
        commit.merge_segments(due, info.dim)


def _due_to_index(
    segments: Sequence[SegmentInfo], kind: AnnKind, info: SearchSettings
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
    return due_to_merge(plain)


def _in_vain(segment: SegmentInfo, kind: AnnKind, info: SearchSettings) -> bool:
    """Whether an approximate index of a segment is known to miss the target recall."""
    tried = segment.missed
    return (
        _must_reach(info)
        and tried is not None
        and tried.kind == kind
        and tried.recall < info.target_recall
    )


def _must_reach(info: SearchSettings) -> bool:
    """Whether a segment is searched exactly if an approximate index misses the target recall."""
    return info.index_type == "auto"


def merge_words(writer: Maintainable) -> None:
    """Merge segments of the lexical index if that is due; leave it to another process that does.

    Raises:
        StorageError, IndexDamaged, IndexLocked: see ``maintain``.
    """
    with _alone(writer.folder) as alone:
        while alone and _merge_words(writer):
            pass


def _merge_words(writer: Maintainable) -> bool:
    """Merge some segments of the lexical index; return whether there were any to merge."""
    state = writer.lexical_segments()
    due = due_lexical(segments_of(state.meta)) if state else []
    if state is None or not due:
        return False
    with merged(writer.folder, state, due) as made:
        if made is None:
            return False
        try:
            with writer.commit() as commit:
                commit.replace_lexical(made)
        except Outdated:
            return False
    return True


def compact(writer: Maintainable) -> Maintained:
    """Merge all segments, without the vectors that no chunk uses, and index the result.

    The result is several segments if one would be too large.

    Raises:
        StorageError, IndexDamaged: a file can't be written or read. Its commit changes nothing.
        IndexLocked: another process does maintenance and does not finish.
    """
    with _alone(writer.folder, COMPACT_WAIT_SECONDS) as claim:
        if not claim:
            raise IndexLocked(
                f"another process is merging or indexing vectors of {writer.folder}; "
                f"try again when it is done"
            )
        if writer.search_settings() is None or not writer.segments():
            return Maintained()
        with writer.lexical_anew() as made, writer.commit() as commit:
            commit.replace_lexical(made)
        return _unless_outdated(_compact, writer, claim)


def _unless_outdated(
    work: Callable[[Maintainable, Claim], Maintained], writer: Maintainable, claim: Claim
) -> Maintained:
    """Do maintenance; leave it to the next time if somebody else has replaced a segment."""
    try:
        return work(writer, claim)
    except Outdated:
        return Maintained()


def _compact(writer: Maintainable, claim: Claim) -> Maintained:
    """Merge all segments; the caller holds the maintenance lock."""
    info, segments = writer.search_settings(), _claimed(writer, claim)
    if info is None or not segments:
        return Maintained()
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
    info: SearchSettings,
    segments: Sequence[SegmentInfo],
    *,
    drop_unused: bool,
) -> Maintained:
    """Merge segments with one commit, and index the result with another.

    A run interrupted between the two leaves a segment that is searched exactly, which is correct
    but slower.
    """
    removed = 0
    single = segments[0]
    merged: Sequence[int] = [single.id]
    if len(segments) > 1 or (drop_unused and single.unused):
        written = _write_merged(writer, segments, info.dim, drop_unused=drop_unused)
        with writer.commit() as commit:
            merged, removed = commit.replace_segments(segments, written, info.dim)
    done = [_index_segment(writer, segment, kind, info) for segment in merged]
    return Maintained(
        merged=len(segments) if list(merged) != [single.id] else 0,
        removed=removed,
        ann=min(filter(None, (one.ann for one in done)), key=_recall, default=None),
        missed=max(filter(None, (one.missed for one in done)), key=_recall, default=None),
    )


def _recall(settings: AnnSettings) -> float:
    return settings.recall


def _tune_anew(
    writer: Maintainable, info: SearchSettings, segments: Sequence[SegmentInfo]
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
    writer: Maintainable, segment: SegmentInfo, settings: AnnSettings, info: SearchSettings
) -> AnnSettings:
    """Return the settings that reach the target recall on a segment, or else the best ones."""
    rows, dim = segment.rows, info.dim
    vectors = open_vector_file(writer.folder / segment.file, rows=rows, dim=dim)
    ann = open_ann(
        writer.folder / segment.ann_file,
        sha256=segment.ann_sha256,
        settings=settings.as_json(),
        rows=rows,
        dim=dim,
    )
    return tune(ann, vectors, info.target_recall)


def _write_merged(
    writer: Maintainable, segments: Sequence[SegmentInfo], dim: int, *, drop_unused: bool
) -> list[Merged]:
    """Write the vectors of some segments, in order, as pending files.

    Returns:
        one new segment, or several with similar sizes if one would be too large; empty if there are
        no vectors.
    """
    sources = [(row, writer.rows_of(row.id, used=drop_unused)) for row in segments]
    ids = np.concatenate([rows.ids for _, rows in sources])
    count = -(-len(ids) // vector_file.MAX_SEGMENT_ROWS)
    pieces = np.array_split(ids, count) if count else []
    merged, done = [], 0
    for piece in pieces:
        parts = read_rows(writer.folder, _cut(sources, done, done + len(piece)), dim)
        written = write_vector_file(writer.folder, parts, rows=len(piece), dim=dim, pending=True)
        merged.append(Merged(written, piece))
        done += len(piece)
    return merged


def _cut(
    sources: Sequence[tuple[SegmentInfo, SegmentRows]], start: int, end: int
) -> list[tuple[SegmentInfo, SegmentRows]]:
    """Return the rows from ``start`` to ``end`` of those of all segments together."""
    cut = []
    for segment, (ids, rows) in sources:
        part = slice(max(0, start), max(0, end))
        cut.append((segment, SegmentRows(ids[part], rows[part])))
        start, end = start - len(rows), end - len(rows)
    return cut


def _index_segment(
    writer: Maintainable, segment_id: int, kind: AnnKind | None, info: SearchSettings
) -> Maintained:
    """Build a segment's approximate index; if ``kind`` is None, remove the one that it has."""
    segment = next((row for row in writer.segments() if row.id == segment_id), None)
    if segment is None:
        return Maintained()
    if kind is None:
        if segment.ann or segment.missed:
            with writer.commit() as commit:
                commit.remove_ann(segment_id)
        return Maintained()
    vectors = open_vector_file(writer.folder / segment.file, rows=segment.rows, dim=info.dim)
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
        else:
            commit.put_ann(segment_id, written, settings)
    return Maintained(missed=settings) if written is None else Maintained(ann=settings)
