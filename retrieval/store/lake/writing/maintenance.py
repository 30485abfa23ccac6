"""Keep an index fast as it grows: join files, merge words, drop unused vectors, index the others.

Joining takes time in proportion to what is joined. So new files are written outside commits, while
other writers go on, and one short commit names them in place of the old ones. If another commit has
changed the old ones in between, what was written is dropped, and a later run tries again.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import replace
from itertools import takewhile
from typing import Final, Protocol

import numpy as np

from retrieval.errors import IndexLocked
from retrieval.store.disk.lexical.lexical_merge import TOO_MANY_SEGMENTS
from retrieval.store.disk.lexical.segment_files import segments_of
from retrieval.store.disk.tables.locks import (
    MAINTENANCE_WAIT_SECONDS,
    is_building,
    maintenance_lock,
)
from retrieval.store.disk.writing.maintenance import COMPACT_WAIT_SECONDS, MAX_UNUSED_SHARE
from retrieval.store.lake.local.word_files import WordFiles, WrittenWords
from retrieval.store.lake.place import Place
from retrieval.store.lake.tables.generation import Generation
from retrieval.store.lake.tables.joining import joined_files
from retrieval.store.lake.tables.layout import Layout
from retrieval.store.lake.tables.pointer import Pointer, boot_time, following
from retrieval.store.lake.tables.schema import VECTORS, Joined, TableChange
from retrieval.store.lake.vectors.making import refreshed
from retrieval.store.lake.words import (
    changed_words,
    is_current,
    made_words,
    merging,
    put_merged,
    send_merged,
)
from retrieval.store.lake.writing.cleaning import clean, is_due
from retrieval.store.lake.writing.indexing import (
    Indexable,
    forget_index,
    has_whole_index,
    keep_index,
)
from retrieval.store.lake.writing.texts import stored_texts
from retrieval.store.records import Maintained

MANY_FILES: Final = 16
"""Number of fragments of a table above which maintenance joins the newest ones. Each adds a request
to a search."""
TOO_MANY_FILES: Final = 48
"""Number of fragments above which a writer joins some right after its commit, because maintenance
does not come. It is that of segments of words, for the same reason."""
_SMALL_ROWS: Final = 65_536
"""Maximum number of rows of a fragment that is joined right after a commit: larger ones would make
the commit wait for seconds, and are left to maintenance."""
_MANY_DELETED: Final = 4_096
_DELETED_SHARE: Final = 0.1
"""Fragments with more deleted rows than both of these, a number and a fraction, are written anew.
Fewer take little room, and fragments of few rows are joined anyway."""


class Maintainable(Indexable, Protocol):
    """The part of a writer that maintenance needs; ``LakeWriter`` satisfies it."""

    shared: bool

    def turn(self) -> AbstractContextManager[None]:
        """Exclude other commits."""
        ...

    def word_files(self, base: Generation) -> WrittenWords:
        """Return the files of words of the index of a generation."""
        ...


def maintain(writer: Maintainable) -> Maintained:
    """Do the maintenance that is due; usually none is.

    If another process does maintenance, the work is left to that process.

    Raises:
        StorageError, IndexDamaged: a file can't be written or read. Its commit changes nothing.
        IndexLocked: another writer did not finish its commit.
    """
    base = writer.newest()
    if base is None:
        return Maintained()
    counts = base.pointer.counts
    unused = counts.unused_vectors > MAX_UNUSED_SHARE * counts.vectors
    with _alone(writer.place, MAINTENANCE_WAIT_SECONDS) as alone:
        if not alone:
            return Maintained()
        if unused and not _may_be_building(writer):
            return _compact(writer)
        merged = _join(writer, lambda layout: due_to_join(layout, MANY_FILES))
        done = replace(keep_index(writer), merged=merged)
        _clean_if_due(writer)
        return done


def compact(writer: Maintainable) -> Maintained:
    """Drop unused vectors, join all files, and make damaged or outdated words anew.

    Raises:
        StorageError, IndexDamaged: a file can't be written or read. Its commit changes nothing.
        IndexLocked: another process does maintenance, or commits, and does not finish.
    """
    if writer.newest() is None:
        return Maintained()
    with _alone(writer.place, COMPACT_WAIT_SECONDS) as alone:
        if not alone:
            raise IndexLocked(
                f"another process is joining files of {writer.place.address}; try again when it "
                "is done"
            )
        return _compact(writer)


def is_crowded(base: Generation, pointer: Pointer) -> bool:
    """Whether a commit has left so many files that its writer has to join some.

    Args:
        base: the generation before the commit. Each commit adds at most a fragment to a table.
        pointer: the generation that it has made.
    """
    words = len(segments_of(pointer.words.meta)) if pointer.words else 0
    return base.most_fragments >= TOO_MANY_FILES or words > TOO_MANY_SEGMENTS


def relieve(writer: Maintainable) -> None:
    """Join small files right after a commit, unless another process does maintenance.

    Raises:
        StorageError, IndexDamaged: a file can't be written or read. Its commit changes nothing.
    """
    with _alone(writer.place, 0.0) as alone:
        if alone:
            _join(writer, lambda layout: due_to_join(layout, MANY_FILES, _SMALL_ROWS))


def due_to_join(layout: Layout, most: int, largest: int | None = None) -> list[int]:
    """Return the numbers of the fragments to be written anew; usually none.

    If there are many, these are the newest ones, and each older one that has no more rows than
    those together. So sizes are kept in a geometric series, and a row is moved few times while a
    table grows.

    Args:
        layout: the fragments of a table.
        most: how many may stay.
        largest: maximum number of rows of a fragment to join; None for no limit.
    """
    fragments = layout.fragments
    if largest is not None:
        small = takewhile(lambda one: one.rows <= largest, reversed(fragments))
        fragments = list(small)[::-1]
    due = [
        one.number
        for one in fragments
        if len(one.deleted) > max(_MANY_DELETED, _DELETED_SHARE * one.written)
    ]
    if len(fragments) <= most:
        return due
    count, rows = 1, fragments[-1].rows
    while count < len(fragments) and (
        fragments[-count - 1].rows <= rows or len(fragments) - count >= most // 2
    ):
        count += 1
        rows += fragments[-count].rows
    return sorted({*due, *(one.number for one in fragments[-count:])})


@contextmanager
def _alone(place: Place, seconds: float) -> Iterator[bool]:
    """Hold the maintenance lock, if possible; yield whether it is held."""
    if place.local is None:
        yield True  # on an object store, the second one to commit finds that it comes too late
        return
    with maintenance_lock(place.local, seconds) as claim:
        yield claim is not None


def _may_be_building(writer: Maintainable) -> bool:
    """Whether another process may have vectors in the index whose documents are yet to come."""
    local = writer.place.local
    return writer.shared and (local is None or is_building(local))


def _compact(writer: Maintainable) -> Maintained:
    """Do the work of ``compact``; the caller holds the maintenance lock."""
    base = writer.newest()
    if base is not None and not has_whole_index(base):
        forget_index(writer)
    removed = _drop_unused(writer)
    base = writer.newest()
    if base is not None and not _has_whole_words(base):
        _make_words_anew(writer, base)
    _join(writer, _every, every_deletion=True)
    done = replace(keep_index(writer, anew=True), removed=removed)
    _clean_if_due(writer)
    return done


def _clean_if_due(writer: Maintainable) -> None:
    if is_due(writer.place):
        with writer.turn():
            clean(writer.place)


def _every(layout: Layout) -> list[int]:
    return [one.number for one in layout.fragments]


def _drop_unused(writer: Maintainable) -> int:
    """Delete the vectors that no passage uses; return their number."""
    with writer.locked() as base:
        started = boot_time()
        unused = np.flatnonzero(~base.used)
        if not len(unused):
            return 0
        named = base.pointer.tables[VECTORS]
        change = TableChange(writer.place, VECTORS, named, base.schema(VECTORS))
        change.delete_rows(base.layout(VECTORS).addresses(unused))
        counts = base.pointer.counts
        counts = replace(counts, vectors=counts.vectors - len(unused), unused_vectors=0)
        tables = {**base.pointer.tables, VECTORS: change.version or named}
        pointer = refreshed(change, following(base.pointer, tables=tables, counts=counts))
        writer.publish(base, pointer, started)
    return len(unused)


def _join(
    writer: Maintainable,
    due: Callable[[Layout], Sequence[int]],
    *,
    every_deletion: bool = False,
) -> int:
    """Join files of tables and segments of words; return the number of joined files of vectors.

    Args:
        writer: the writer.
        due: chooses the fragments of a table to write anew.
        every_deletion: whether to write chosen fragments anew for any row that was deleted.
    """
    base = writer.newest()
    if base is None:
        return 0
    made = {
        name: one
        for name in base.pointer.tables
        if (numbers := due(base.layout(name)))
        and (one := joined_files(base, name, numbers, every_deletion=every_deletion)).results
    }
    with ExitStack() as stack:
        files = writer.word_files(base)
        words = stack.enter_context(merging(files, base.pointer.words))
        if not made and words is None:
            return 0
        started = boot_time()
        if words is not None:
            send_merged(files, words)
        with suppress(IndexLocked), writer.locked() as now:
            pointer = _named(writer.place, now, made)
            record = put_merged(files, now.pointer.words, words, now.by_text)
            if pointer == now.pointer and record is None:
                return 0
            writer.publish(now, following(pointer, words=record or pointer.words), started)
            return made[VECTORS].files if VECTORS in made else 0
    return 0


def _named(place: Place, now: Generation, made: Mapping[str, Joined]) -> Pointer:
    """Put joined files into their tables where these still have the old ones.

    Returns:
        the pointer with the versions of the tables.
    """
    pointer, tables = now.pointer, dict(now.pointer.tables)
    for name, joined in made.items():
        there = {(one.files, one.deletions) for one in now.layout(name).fragments}
        if joined.sources <= there:
            change = TableChange(place, name, tables[name], now.schema(name))
            change.join(joined)
            tables[name] = change.version or tables[name]
            if name == VECTORS:
                pointer = refreshed(change, pointer)
    return replace(pointer, tables=tables)


def _has_whole_words(base: Generation) -> bool:
    """Whether the lexical index has all texts, and its files are as they were written."""
    words = base.pointer.words
    if words is None:
        return not base.pointer.counts.chunks
    return (
        is_current(base.pointer, base.pointer.language)
        and sum(segments_of(words.meta).values()) == base.by_text.distinct
        and all(map(WordFiles(base.place, base.pointer.index_id).is_whole, words.files))
    )


def _make_words_anew(writer: Maintainable, base: Generation) -> None:
    """Index all texts anew, outside commits; a commit adds what has come since."""
    language, files = base.pointer.language, writer.word_files(base)
    before = set(base.places.texts.tolist())
    made = made_words(files, language, stored_texts(base, before, ())) if before else None
    started = boot_time()
    files.publish((), made.files if made else ())
    with writer.locked() as now:
        after = set(now.places.texts.tolist())
        added = stored_texts(now, after - before, ())
        words = changed_words(files, made, language, sorted(before - after), added)
        writer.publish(now, following(now.pointer, words=words), started)
