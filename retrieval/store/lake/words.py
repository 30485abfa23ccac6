"""The lexical index of a lake: the segment files of the store on disk, named by pointers.

They are in the folder ``words``. Analysis, queries and scores are those of the store on disk, with
statistics of the whole index. A commit adds or removes texts before it is published.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

from retrieval.errors import IndexDamaged, StorageError
from retrieval.store.disk.files.shared_parts import Opened
from retrieval.store.disk.files.vector_file import LEXICAL
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
from retrieval.store.lake.place import WORDS, Place
from retrieval.store.lake.tables.pointer import Pointer


def open_words(place: Place, pointer: Pointer, opened: Opened) -> LexicalIndex | None:
    """Open the lexical index of a generation; None if there is none that this version can search.

    Raises:
        IndexDamaged: a file is missing or has changed.
        StorageError: the files can't be read.
    """
    try:
        return open_record(place.words, pointer.words, opened)
    except IndexDamaged as error:
        raise damaged(place, error.message) from error
    except FileNotFoundError as error:
        raise damaged(place, f"{error.filename} is missing") from error
    except OSError as error:
        raise StorageError(f"can't read {error.filename}: {error.strerror}") from error


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
    place: Place,
    state: LexicalRecord | None,
    language: str,
    gone: Sequence[int],
    texts: Iterator[Text],
) -> LexicalRecord | None:
    """Remove texts from the lexical index and add others; flush the files to the disk.

    Args:
        place: the index.
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
    folder = place.words
    made = extend(folder, before, gone, chain([first] if first else [], texts))
    with suppress(OSError):  # readers work without a view
        write_view(folder, made)
    return made


def merged_words(place: Place, state: LexicalRecord) -> LexicalRecord | None:
    """Merge segments if that is due; return the new record, or None if nothing was merged.

    Raises:
        StorageError: the files can't be written.
    """
    due = due_to_merge(segments_of(state.meta))
    if not due:
        return None
    folder = place.words
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
    with suppress(OSError):
        write_view(folder, record)
    return record


def stray_words(place: Place, keep: set[str]) -> list[Path]:
    """Return the lexical files that none of the kept generations names."""
    folder = place.words
    if not folder.is_dir():
        return []
    return [
        path
        for path in folder.iterdir()
        if path.name.startswith(LEXICAL) and path.is_file() and path.name not in keep
    ]
