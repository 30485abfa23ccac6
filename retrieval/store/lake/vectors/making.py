"""Make the approximate index of the vectors, and decide when it is due.

Rows that are appended stay beside the index, where every search compares all of them, until a
commit or maintenance adds them to it. They become a part of their own, with the same lists.
"""

import math
from dataclasses import replace
from typing import Any, Final, Literal

from retrieval.errors import InvalidArgument
from retrieval.store.disk.vectors.vector_index import EXACT_ROWS
from retrieval.store.disk.writing.maintenance import MAX_PLAIN_ROWS, MAX_SIDE_SHARE, MIN_ANN_ROWS
from retrieval.store.durable_files import sync
from retrieval.store.lake.place import TABLES, Place
from retrieval.store.lake.tables.pointer import AnnPart, AnnRecord, MissedAnn, Pointer
from retrieval.store.lake.tables.schema import VECTORS, TableChange, lance_errors
from retrieval.store.lake.vectors.codes import ANN_NAME, index_parts, segments
from retrieval.store.records import AnnSettings

TAIL_BYTES: Final = 64 << 20
"""Vectors beside the index up to this size are kept in memory. A commit that would leave more adds
them to the index."""
DIM_STEP: Final = 8
"""Lance makes codes of vectors whose length is a multiple of this."""

_MAX_PARTS: Final = 4
"""Number of parts above which the smaller ones are joined. A search looks into each: with four, it
takes about twice as long as with one."""
_INDICES: Final = "_indices"
"""Name of a table's folder of indexes."""
MAX_LISTS: Final = 8192
"""Maximum number of lists, as in the store on disk."""
_TRAIN_ROWS_PER_LIST: Final = 40
"""Number of training rows for each list. Lance's default of 256 takes four times as long, and
recall was the same."""


def check_type(dim: int, index_type: str) -> None:
    """Check that an index can have an approximate index of a type.

    Raises:
        InvalidArgument: it can't.
    """
    what = f"an index in Lance tables can't be of type {index_type}"
    if index_type == "hnsw":
        raise InvalidArgument(f"{what}: use --index-type ivf", field="index_type")
    if index_type == "ivf" and dim % DIM_STEP:
        raise InvalidArgument(
            f"{what}: the model's vectors have {dim} numbers, which is no multiple of {DIM_STEP}; "
            "use --index-type flat",
            field="index_type",
        )


def has_kind(pointer: Pointer) -> bool:
    """Whether a generation should have an index; otherwise it is searched exactly."""
    rows, dim = pointer.counts.vectors, pointer.model.dim
    if rows < MIN_ANN_ROWS or dim % DIM_STEP or pointer.index_type == "flat":
        return False
    return pointer.index_type == "ivf" or rows > EXACT_ROWS


Due = Literal["make", "extend", "tune", "drop"]


def due(pointer: Pointer) -> Due | None:
    """Return what is to be done about the index of a generation; usually nothing."""
    ann, missed = pointer.ann, pointer.missed
    if not has_kind(pointer):
        return "drop" if ann or missed else None
    if ann is None:
        return "make" if missed is None or _is_due_again(pointer, missed) else None
    if _is_outgrown(pointer, ann):
        return "make"
    if pointer.counts.vectors - ann.rows > MAX_PLAIN_ROWS:
        return "extend"
    if ann.settings.target != pointer.target_recall or not _is_enough(pointer, ann.settings):
        return "tune"
    return None


def _is_outgrown(pointer: Pointer, ann: AnnRecord) -> bool:
    """Whether too many vectors are outside of the part that the lists were made for."""
    side = pointer.counts.vectors - max((part.rows for part in ann.parts), default=0)
    return side > MAX_SIDE_SHARE * pointer.counts.vectors


def _is_due_again(pointer: Pointer, missed: MissedAnn) -> bool:
    """Whether an index that missed the target may reach it now."""
    new = abs(pointer.counts.vectors - missed.rows)
    return _is_enough(pointer, missed.settings) or new > MAX_SIDE_SHARE * missed.rows


def _is_enough(pointer: Pointer, settings: AnnSettings) -> bool:
    """Whether an index is kept: it reaches the target, or its type was asked for."""
    return settings.recall >= pointer.target_recall or pointer.index_type != "auto"


def with_settings(pointer: Pointer, record: AnnRecord) -> Pointer:
    """Record a tuned index, or that it was discarded."""
    if _is_enough(pointer, record.settings):
        return replace(pointer, ann=record, missed=None)
    return replace(pointer, ann=None, missed=MissedAnn(record.settings, pointer.counts.vectors))


def written_index(place: Place, table: Any) -> tuple[Any, int]:  # noqa: ANN401
    """Write the files of an index of all rows, which no version names yet, to the disk.

    Returns:
        Lance's record of the index, and its number of lists.

    Raises:
        StorageError, IndexDamaged: files can't be read or written.
    """
    with lance_errors(place):
        rows = table.count_rows()
        lists = min(MAX_LISTS, 2 ** round(math.log2(max(1.0, math.sqrt(rows)))))
        lists = max(1, min(lists, rows // _TRAIN_ROWS_PER_LIST))
        index = table.create_index_uncommitted(
            "vector",
            "IVF_RQ",
            name=ANN_NAME,
            metric="dot",
            replace=True,
            num_partitions=lists,
            num_bits=1,
            sample_rate=_TRAIN_ROWS_PER_LIST,
            fragment_ids=[one.fragment_id for one in table.get_fragments()],
        )
        if place.local is not None:
            folder = place.folder / TABLES / f"{VECTORS}.lance" / _INDICES / str(index.uuid)
            for path in (*folder.iterdir(), folder, folder.parent):
                sync(path)
    return index, lists


def put_index(change: TableChange, index: Any) -> None:  # noqa: ANN401
    """Put an index that was written in place of the one that the table has."""
    change.apply(lambda table: table.commit_existing_index_segments(ANN_NAME, "vector", [index]))


def drop_index(change: TableChange) -> None:
    """Drop the index if there is one, whatever state it is in."""
    if index_parts(change.table()):
        change.apply(lambda table: table.drop_index(ANN_NAME))


def extended(change: TableChange, ann: AnnRecord) -> AnnRecord:
    """Add the rows beside the index to it."""
    joined = len(ann.parts) - 1 if len(ann.parts) >= _MAX_PARTS else 0
    change.apply(
        lambda table: table.optimize.optimize_indices(
            num_indices_to_merge=joined, index_names=[ANN_NAME]
        )
    )
    return recorded(change.table(), ann.settings)


def refreshed(change: TableChange, pointer: Pointer) -> Pointer:
    """Record the parts of the index anew, after its table has been changed."""
    if pointer.ann is None:
        return pointer
    return replace(pointer, ann=recorded(change.table(), pointer.ann.settings))


def has_large_tail(pointer: Pointer) -> bool:
    """Whether so many vectors are beside the index that a commit adds them to it."""
    ann = pointer.ann
    return ann is not None and (
        (pointer.counts.vectors - ann.rows) * pointer.model.dim * 4 > TAIL_BYTES
    )


def recorded(table: Any, settings: AnnSettings) -> AnnRecord:  # noqa: ANN401
    """Return the record of the index that a table has; raise what Lance raises."""
    rows = {
        one.fragment_id: one.metadata.physical_rows - one.metadata.num_deletions
        for one in table.get_fragments()
    }
    parts = tuple(
        AnnPart(str(part.uuid), sum(rows.get(one, 0) for one in part.fragment_ids), part.size_bytes)
        for part in segments(table)
    )
    return AnnRecord(settings, parts)
