"""Keep the approximate index of the vectors up to date, beside other writers.

To make and tune an index takes minutes for millions of vectors. Both is done outside commits: one
commit puts the index into the table, and another one records how it is to be searched.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Protocol

import numpy as np

from retrieval.errors import IndexDamaged, NotAnIndex
from retrieval.store.lake.place import Place
from retrieval.store.lake.tables.generation import Generation
from retrieval.store.lake.tables.pointer import Pointer, boot_time, following
from retrieval.store.lake.tables.schema import VECTORS, TableChange
from retrieval.store.lake.vectors.codes import Codes
from retrieval.store.lake.vectors.making import (
    drop_index,
    due,
    extended,
    has_kind,
    put_index,
    recorded,
    with_settings,
    written_index,
)
from retrieval.store.lake.vectors.tuning import tuned
from retrieval.store.records import AnnSettings, Maintained

Step = Callable[[TableChange, Pointer], Pointer]
"""Changes the table of vectors, and returns the pointer with what it is to record."""


class Indexable(Protocol):
    """The part of a writer that an index needs; ``LakeWriter`` satisfies it."""

    place: Place

    def newest(self) -> Generation | None:
        """Return the newest generation; None if there is none yet."""
        ...

    def locked(self) -> AbstractContextManager[Generation]:
        """Exclude other commits; yield the newest generation."""
        ...

    def publish(self, base: Generation, pointer: Pointer, started: float) -> None:
        """Publish the generation that follows another one.

        Args:
            base: the generation before it.
            pointer: the generation.
            started: time of ``boot_time`` before its first table or file of words was written.
        """
        ...


def keep_index(writer: Indexable, *, anew: bool = False) -> Maintained:
    """Make, extend, tune or drop the index, whichever is due; usually nothing is.

    Args:
        writer: the writer, which does maintenance alone.
        anew: whether to make the index again even if that is not due.

    Raises:
        StorageError, IndexDamaged: a file can't be written or read. Its commit changes nothing.
        IndexLocked: another writer did not finish its commit.
    """
    base = writer.newest()
    if base is None:
        return Maintained()
    what = due(base.pointer)
    if anew and has_kind(base.pointer):
        what = "make"
    match what:
        case "make":
            return _tuned(writer, _made(writer, base), is_new=True)
        case "tune" if base.pointer.ann:
            return _tuned(writer, base.pointer.ann.settings.lists, is_new=False)
        case "extend":
            _commit(writer, _extended)
        case "drop":
            _commit(writer, _dropped)
    return Maintained()


def has_whole_index(base: Generation) -> bool:
    """Whether the index of a generation, if it has one, has all of its rows."""
    ann = base.pointer.ann
    if ann is None:
        return True
    try:
        layout = base.layout(VECTORS)
        codes = Codes(base.place, lambda read: read(base.table(VECTORS)), layout, ann)
        return np.array_equal(np.sort(codes.listed()), np.flatnonzero(codes.covered))
    except IndexDamaged:
        return False


def forget_index(writer: Indexable) -> None:
    """Drop the index, whatever state it is in."""
    _commit(writer, _dropped)


def _dropped(change: TableChange, pointer: Pointer) -> Pointer:
    drop_index(change)
    return replace(pointer, ann=None, missed=None)


def _extended(change: TableChange, pointer: Pointer) -> Pointer:
    return replace(pointer, ann=extended(change, pointer.ann)) if pointer.ann else pointer


def _made(writer: Indexable, base: Generation) -> int:
    """Make the index outside commits, and put it into the table; return its number of lists."""
    index, lists = written_index(writer.place, base.table(VECTORS))

    def put(change: TableChange, pointer: Pointer) -> Pointer:
        put_index(change, index)
        if pointer.ann is None:
            return pointer  # vectors are searched exactly until the index is tuned
        # Search with the settings of the index before it. Their target of 0 makes tuning due.
        settings = replace(pointer.ann.settings, lists=lists, target=0.0)
        return replace(pointer, ann=recorded(change.table(), settings))

    _commit(writer, put)
    return lists


def _tuned(writer: Indexable, lists: int, *, is_new: bool) -> Maintained:
    """Tune the index outside commits, and record the result, or drop an index of no use.

    Args:
        writer: the writer.
        lists: number of lists of the index.
        is_new: whether the index was just made.

    Returns:
        what was done; nothing if another writer has dropped or replaced the index meanwhile.
    """
    base = writer.newest()
    if base is None:
        raise NotAnIndex(f"{writer.place.address} is not an index any more")
    table = base.table(VECTORS)
    start = AnnSettings("ivf", effort=1, candidates=1, lists=lists, recall=0.0, queries=0)
    record, done = recorded(table, start), Maintained()
    if not record.parts:
        return done
    # Commits may add parts with the same lists, and join those, but not this one.
    largest = max(record.parts, key=lambda part: part.rows).id
    settings = tuned(writer.place, table, record, base.pointer.target_recall)

    def put(change: TableChange, pointer: Pointer) -> Pointer:
        nonlocal done
        now = recorded(change.table(), settings)
        if all(part.id != largest for part in now.parts):
            return pointer
        pointer = with_settings(pointer, now)
        if pointer.ann is None:
            drop_index(change)
            done = Maintained(missed=settings)
        else:
            done = Maintained(ann=settings) if is_new else Maintained(tuned=settings)
        return pointer

    _commit(writer, put)
    return done


def _commit(writer: Indexable, step: Step) -> Pointer:
    """Change the table of vectors in one commit; return the pointer that was published."""
    with writer.locked() as now:
        started = boot_time()
        named = now.pointer.tables[VECTORS]
        change = TableChange(writer.place, VECTORS, named, now.schema(VECTORS))
        pointer = step(change, now.pointer)
        tables = {**pointer.tables, VECTORS: change.version or named}
        if (made := replace(pointer, tables=tables)) == now.pointer:
            return made
        pointer = following(made)
        writer.publish(now, pointer, started)
    return pointer
