"""The lexical index of a lake: the segment files of the store on disk, named by pointers.

They are in the folder ``words``. Analysis, queries and scores are those of the store on disk, with
statistics of the whole index. A commit adds or removes texts before it is published.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain

from retrieval.errors import IndexDamaged, StorageError
from retrieval.store.disk.files.shared_parts import Opened
from retrieval.store.disk.files.vector_file import WrittenFile
from retrieval.store.disk.lexical.analysis import VERSION
from retrieval.store.disk.lexical.lexical_index import LexicalIndex
from retrieval.store.disk.lexical.lexical_merge import due_to_merge, merged
from retrieval.store.disk.lexical.lexical_writer import Text, extend
from retrieval.store.disk.lexical.segment_files import (
    LexicalRecord,
    engine_name,
    joined,
    open_record,
    parts_of,
    segments_of,
    write_view,
)
from retrieval.store.lake.local.word_files import WordFiles, WrittenWords, object_name
from retrieval.store.lake.place import WORDS, Place
from retrieval.store.lake.tables.pointer import Pointer


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
    with suppress(OSError):  # readers work without a view
        write_view(files.folder, made)
    return made


def merged_words(files: WrittenWords, state: LexicalRecord) -> LexicalRecord | None:
    """Merge segments if that is due; return the new record, or None if nothing was merged.

    Raises:
        StorageError: the files can't be written.
    """
    due = due_to_merge(segments_of(state.meta))
    if not due:
        return None
    files.prepare(state.files, parts_of(state, due).files)
    folder = files.folder
    with merged(folder, state, due) as prepared:
        if prepared is None:
            return None
        try:
            for file in prepared.record.files:
                made = prepared.place / engine_name(file)
                if made.exists() and not made.is_symlink():
                    made.rename(folder / file.name)
        except OSError as error:
            raise StorageError(f"can't write {folder}: {error.strerror}") from error
        kept = parts_of(state, [name for name in segments_of(state.meta) if name not in due])
        record = joined(kept, prepared.record)
    files.publish(state.files, record.files)
    with suppress(OSError):
        write_view(folder, record)
    return record


def name_in(place: Place, file: WrittenFile) -> str:
    """Return the name under a place of the object that keeps a lexical file."""
    return object_name(file) if place.local is None else f"{WORDS}/{file.name}"
