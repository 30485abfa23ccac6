"""Make the approximate index of the vectors, tune it, and keep it up to date.

Rows that are appended stay beside the index, where every search compares all of them, until a
commit or maintenance adds them to it. They become a part of their own, with the same lists.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import faiss
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retrieval.store.disk.vectors.approximate import RECALL_K
from retrieval.store.disk.vectors.tuning import cheapest, made_queries, recall
from retrieval.store.disk.writing.maintenance import MAX_PLAIN_ROWS, MAX_SIDE_SHARE, MIN_ANN_ROWS
from retrieval.store.lake.place import Place
from retrieval.store.lake.tables.pointer import AnnPart, AnnRecord, MissedAnn, Pointer
from retrieval.store.lake.tables.schema import TableChange, lance_errors
from retrieval.store.lake.vectors.codes import ANN_NAME, Codes, index_parts
from retrieval.store.records import AnnSettings, Maintained

EXACT_BYTES: Final = 256 << 20
"""Vectors up to this size are kept in memory and searched exactly, unless an index is asked for."""
TAIL_BYTES: Final = 64 << 20
"""Vectors beside the index up to this size are kept in memory. A commit that would leave more adds
them to the index."""
DIM_STEP: Final = 8
"""Lance makes codes of vectors whose length is a multiple of this."""

_MAX_PARTS: Final = 4
"""Number of parts above which the smaller ones are joined. A search looks into each: with four, it
takes about twice as long as with one."""
_MAX_LISTS: Final = 8192
"""Maximum number of lists, as in the store on disk."""
_TRAIN_ROWS_PER_LIST: Final = 40
"""Number of training rows for each list. Lance's default of 256 takes four times as long, and
recall was the same."""
_CODES_A_CANDIDATE: Final = 600
"""Cost of reading a candidate's vector, relative to comparing a code: measured on a local disk."""


def chosen_kind(pointer: Pointer) -> str | None:
    """Return the kind of index that a generation should have; None for exact search."""
    rows, dim = pointer.counts.vectors, pointer.model.dim
    if rows < MIN_ANN_ROWS or dim % DIM_STEP or pointer.index_type == "flat":
        return None
    if pointer.index_type == "auto" and rows * dim * 4 <= EXACT_BYTES:
        return None
    return "ivf"


def extended(change: TableChange, pointer: Pointer) -> Pointer:
    """Add rows to the index if a commit would leave many beside it.

    Args:
        change: the change of the table of vectors.
        pointer: the next generation with its counts.
    """
    ann = pointer.ann
    if ann is None or (pointer.counts.vectors - ann.rows) * pointer.model.dim * 4 <= TAIL_BYTES:
        return pointer
    return replace(pointer, ann=_extend(change, ann))


def refreshed(change: TableChange, pointer: Pointer) -> Pointer:
    """Record the parts of the index anew, after its table has been compacted."""
    if pointer.ann is None:
        return pointer
    return replace(pointer, ann=_recorded(change, pointer.ann.settings))


def without_index(change: TableChange, pointer: Pointer) -> Pointer:
    """Drop the index, even a damaged one."""
    names = [one.name for one in change.table().describe_indices()]
    if ANN_NAME in names:
        change.apply(lambda table: table.drop_index(ANN_NAME))
    return replace(pointer, ann=None)


def maintained(
    place: Place, change: TableChange, pointer: Pointer
) -> tuple[Pointer, Maintained]:
    """Make, extend, tune or drop the index, whichever is due; usually nothing is.

    Args:
        place: the index.
        change: the change of the table of vectors.
        pointer: the next generation so far.

    Returns:
        the pointer with what it is to record of the index; and what was done.
    """
    kind, ann, missed = chosen_kind(pointer), pointer.ann, pointer.missed
    if kind is None:
        pointer = replace(pointer, missed=None)
        return (without_index(change, pointer) if ann else pointer), Maintained()
    if ann is None or _is_outgrown(pointer, ann):
        if ann is None and missed is not None and not _is_due_again(pointer, missed):
            return pointer, Maintained()
        return _made(place, change, pointer)
    if pointer.counts.vectors - ann.rows > MAX_PLAIN_ROWS:
        ann = _extend(change, ann)
    if ann.settings.target != pointer.target_recall:
        settings = tuned(place, change.table(), ann, pointer)
        return _kept(change, pointer, AnnRecord(settings, ann.parts), Maintained(tuned=settings))
    return replace(pointer, ann=ann), Maintained()


def _is_outgrown(pointer: Pointer, ann: AnnRecord) -> bool:
    """Whether too many vectors are outside of the part that the lists were made for."""
    side = pointer.counts.vectors - max(part.rows for part in ann.parts)
    return side > MAX_SIDE_SHARE * pointer.counts.vectors


def _is_due_again(pointer: Pointer, missed: MissedAnn) -> bool:
    """Whether an index that missed the target may reach it now."""
    new = pointer.counts.vectors - missed.rows
    return (
        pointer.index_type != "auto"
        or missed.settings.recall >= pointer.target_recall
        or abs(new) > MAX_SIDE_SHARE * missed.rows
    )


def _made(
    place: Place, change: TableChange, pointer: Pointer
) -> tuple[Pointer, Maintained]:
    """Make the index of all rows, tune it, and keep it if it reaches the target."""
    rows = pointer.counts.vectors
    lists = min(_MAX_LISTS, 2 ** round(math.log2(math.sqrt(rows))))
    lists = max(1, min(lists, rows // _TRAIN_ROWS_PER_LIST))
    change.apply(
        lambda table: table.create_index(
            "vector",
            "IVF_RQ",
            name=ANN_NAME,
            metric="dot",
            replace=True,
            num_partitions=lists,
            num_bits=1,
            sample_rate=_TRAIN_ROWS_PER_LIST,
        )
    )
    start = AnnSettings("ivf", effort=1, candidates=1, lists=lists, recall=0.0, queries=0)
    record = _recorded(change, start)
    settings = tuned(place, change.table(), record, pointer)
    return _kept(change, pointer, replace(record, settings=settings), Maintained(ann=settings))


def _kept(
    change: TableChange, pointer: Pointer, record: AnnRecord, done: Maintained
) -> tuple[Pointer, Maintained]:
    """Keep an index, unless it misses the target and another type may be chosen."""
    if record.settings.reached or pointer.index_type != "auto":
        return replace(pointer, ann=record, missed=None), done
    missed = MissedAnn(record.settings, pointer.counts.vectors)
    return (
        without_index(change, replace(pointer, missed=missed)),
        Maintained(missed=record.settings),
    )


def _extend(change: TableChange, ann: AnnRecord) -> AnnRecord:
    """Add the rows beside the index to it."""
    joined = len(ann.parts) - 1 if len(ann.parts) >= _MAX_PARTS else 0
    change.apply(
        lambda table: table.optimize.optimize_indices(
            num_indices_to_merge=joined, index_names=[ANN_NAME]
        )
    )
    return _recorded(change, ann.settings)


def _recorded(change: TableChange, settings: AnnSettings) -> AnnRecord:
    """Return the record of the index that a table has."""
    table = change.table()
    rows = {
        one.fragment_id: one.metadata.physical_rows - one.metadata.num_deletions
        for one in table.get_fragments()
    }
    sizes = {
        str(part.uuid): part.size_bytes or 0
        for index in table.describe_indices()
        for part in index.segments
    }
    parts = tuple(
        AnnPart(uuid, sum(rows.get(one, 0) for one in fragments), sizes[uuid])
        for uuid, fragments in index_parts(table).items()
    )
    return AnnRecord(settings, parts)


def tuned(place: Place, table: Any, record: AnnRecord, pointer: Pointer) -> AnnSettings:  # noqa: ANN401
    """Return the cheapest settings that reach the target recall, or else the best ones."""
    codes = Codes(place, table, record)
    dim, rows = pointer.model.dim, pointer.counts.vectors
    queries = made_queries(rows, lambda some: _read(place, table, some, dim))
    exact = _exact(place, table, queries, min(RECALL_K, rows))
    k = exact.shape[1]

    def measure(tried: AnnSettings) -> float:
        scores = np.full((len(queries), k), -np.inf, np.float32)
        for at, query in enumerate(queries):
            _, vectors = codes.propose(query, k, settings=tried)
            best = np.sort(vectors @ query)[::-1][:k]
            scores[at, : len(best)] = best
        return recall(scores, exact)

    def cost(tried: AnnSettings) -> float:
        """Estimate the cost of a query as a number of codes."""
        return tried.candidates * _CODES_A_CANDIDATE + tried.effort / tried.lists * rows

    target = pointer.target_recall
    start = replace(record.settings, queries=len(queries), target=target)
    return cheapest(start, measure, cost)


def _read(place: Place, table: Any, rows: NDArray[np.int64], dim: int) -> NDArray[np.float32]:  # noqa: ANN401
    """Return the vectors of some rows, which may repeat."""
    distinct, at = np.unique(rows, return_inverse=True)
    with lance_errors(place):
        found = table.take(distinct.tolist(), columns=["vector"])
    return _flat(found.column("vector").combine_chunks(), dim)[at]


def _exact(
    place: Place,
    table: Any,  # noqa: ANN401
    queries: NDArray[np.float32],
    k: int,
) -> NDArray[np.float32]:
    """Return the scores of exact search, [n, k], best first."""
    best = faiss.ResultHeap(len(queries), k, keep_max=True)
    with lance_errors(place):
        for block in _blocks(table, queries.shape[1]):
            scores, found = faiss.knn(
                queries, block, min(k, len(block)), metric=faiss.METRIC_INNER_PRODUCT
            )
            best.add_result(scores, found)
    best.finalize()
    scores: NDArray[np.float32] = best.D
    return scores


def _blocks(table: Any, dim: int) -> Iterator[NDArray[np.float32]]:  # noqa: ANN401
    for batch in table.to_batches(columns=["vector"], batch_size=1 << 16):
        yield _flat(batch.column(0), dim)


def _flat(column: Any, dim: int) -> NDArray[np.float32]:  # noqa: ANN401
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks)
    flat: NDArray[np.float32] = column.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(-1, dim)
