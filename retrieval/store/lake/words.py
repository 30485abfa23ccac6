"""The lexical index of a lake: the segment files of the store on disk, named by pointers.

They are in the folder ``words``. Analysis, queries and scores are those of the store on disk, with
statistics of the whole index. A commit adds or removes texts before it is published.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Final

from retrieval.errors import IndexDamaged, StorageError
from retrieval.store.disk.files.shared_parts import Opened
from retrieval.store.disk.files.vector_file import WrittenFile
from retrieval.store.disk.lexical.analysis import VERSION
from retrieval.store.disk.lexical.lexical_index import LexicalIndex
from retrieval.store.disk.lexical.lexical_merge import Prepared, due_to_merge, merged
from retrieval.store.disk.lexical.lexical_writer import Text, extend, remove_texts
from retrieval.store.disk.lexical.segment_files import (
    LexicalRecord,
    deletions_of,
    engine_name,
    joined,
    open_record,
    parts_of,
    segments_of,
)
from retrieval.store.durable_files import sync
from retrieval.store.lake.local.word_files import WordFiles, WrittenWords, object_name
from retrieval.store.lake.place import WORDS, Place
from retrieval.store.lake.tables.keyed import Keyed
from retrieval.store.lake.tables.pointer import Pointer

_NO_SEGMENT: Final = object()
"""Stands for the deletions of a segment that is gone because all of its texts are."""


def open_words(place: Place, pointer: Pointer, opened: Opened) -> LexicalIndex | None:
    """Open the lexical index of a generation; None if there is none that this version can search.

    From an object store, the files that this machine has no copy of are fetched first.

    Raises:
        IndexDamaged: a file is missing or has changed.
        StorageError: the files can't be read.
    """
    words = pointer.words
    if words is None or words.analysis != VERSION:
        return None
    files = WordFiles(place, pointer.index_id)
    try:
        files.fetch(words.files)
        found = open_record(files.folder, words, opened)
    except IndexDamaged as error:
        raise damaged(place, error.message) from error
    except FileNotFoundError as error:
        raise damaged(place, f"{error.filename} is missing") from error
    except OSError as error:
        raise StorageError(f"can't read {error.filename}: {error.strerror}") from error
    files.forget(words.files)
    return found


def damaged(place: Place, what: str) -> IndexDamaged:
    """Return the error for lexical files that are not as they were written."""
    at = place.address
    return IndexDamaged(
        f"the lexical index of {at} can't be read ({what.partition(';')[0]}); "
        f"make it anew with: indexer compact --index {at}",
        file=WORDS,
    )


def is_current(pointer: Pointer, language: str) -> bool:
    """Whether texts can be added to the lexical index; otherwise it is made anew."""
    words = pointer.words
    return words is not None and (words.language, words.analysis) == (language, VERSION)


def changed_words(
    files: WrittenWords,
    state: LexicalRecord | None,
    language: str,
    gone: Sequence[int],
    texts: Iterator[Text],
) -> LexicalRecord | None:
    """Remove texts from the lexical index and add others; store the files durably.

    Args:
        files: the files of the index.
        state: record of the lexical index; None to begin with an empty one.
        language: language of the texts.
        gone: ids of the texts to remove.
        texts: the texts to add.

    Raises:
        StorageError: the files can't be written.
    """
    first = next(texts, None)
    if first is None and not gone:
        return state
    before = state or LexicalRecord(language, VERSION, "", ())
    files.prepare(before.files, before.files if gone else ())
    made = extend(files.folder, before, gone, chain([first] if first else [], texts))
    files.publish(before.files, made.files)
    files.write_view(made)
    return made


def made_words(files: WrittenWords, language: str, texts: Iterator[Text]) -> LexicalRecord:
    """Make a lexical index of some texts; its files are not sent to an object store yet.

    Raises:
        StorageError: the files can't be written.
    """
    files.prepare((), ())
    return extend(files.folder, LexicalRecord(language, VERSION, "", ()), [], texts)


@contextmanager
def merging(files: WrittenWords, state: LexicalRecord | None) -> Iterator[Prepared | None]:
    """Merge segments if that is due, beside the index; yield the result until the block ends.

    Raises:
        StorageError: the files can't be written.
    """
    due = due_to_merge(segments_of(state.meta)) if state else []
    if state is None or not due:
        yield None
        return
    files.prepare(state.files, parts_of(state, due).files)
    with merged(files.folder, state, due) as made:
        yield made


def send_merged(files: WrittenWords, made: Prepared) -> None:
    """Move merged segments to the files of the index, which no generation names yet.

    To send them to an object store takes long, and other commits need not wait for it.

    Raises:
        StorageError: the files can't be written.
    """
    try:
        for file in made.record.files:
            (made.place / engine_name(file)).rename(files.folder / file.name)
        sync(files.folder)
    except OSError as error:
        raise StorageError(f"can't write {files.folder}: {error}") from error
    files.publish((), made.record.files)


def put_merged(
    files: WrittenWords, now: LexicalRecord | None, made: Prepared | None, by_text: Keyed
) -> LexicalRecord | None:
    """Put merged segments, which were sent, in place of those that they were made from.

    Texts that were removed since are removed from them, too.

    Args:
        files: the files of the index.
        now: record of the newest generation.
        made: the merged segments, if any.
        by_text: the passages of the newest generation by their texts.

    Returns:
        the new record; None if there is nothing to merge, or another writer has merged or replaced
        the segments.

    Raises:
        StorageError: the files can't be written.
    """
    if made is None or made.sources is None:
        return None
    if now is None:
        files.discard(made.record.files)
        return None
    current, folder, changed = deletions_of(now.meta), files.folder, made.record
    try:
        if any(current.get(name, _NO_SEGMENT) != made.sources[name] for name in made.sources):
            _, is_there = by_text.find(made.text_ids)
            gone = made.text_ids[~is_there].tolist()
            changed = remove_texts(folder, changed, gone, folder)
            sync(folder)
    except (OSError, ValueError) as error:  # the engine raises ValueError for the disk's errors
        raise StorageError(f"can't write {folder}: {error}") from error
    kept = parts_of(now, [name for name in current if name not in made.sources])
    record = joined(kept, changed)
    if sum(segments_of(record.meta).values()) != by_text.distinct:
        files.discard([*made.record.files, *changed.files])
        return None
    files.publish([*now.files, *made.record.files], record.files)
    files.write_view(record)
    return record


def name_in(place: Place, file: WrittenFile) -> str:
    """Return the name under a place of the object that keeps a lexical file."""
    return object_name(file) if place.local is None else f"{WORDS}/{file.name}"
