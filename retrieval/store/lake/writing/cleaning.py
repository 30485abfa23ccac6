"""Remove generations that nobody needs any more, and the files that only they have.

What a generation has and an older one lacks was written after the older one was published. So the
oldest generation that is kept tells what the others may need: what is younger than it, and what it
names itself. Two pointers are read however many there are.
"""

import os
import shutil
import time
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Final

from retrieval.errors import StorageError
from retrieval.store.disk.files.vector_file import LEXICAL, PENDING
from retrieval.store.disk.lexical.segment_files import view_name
from retrieval.store.lake.objects.folder import UNPUBLISHED
from retrieval.store.lake.objects.interface import Listed
from retrieval.store.lake.place import COMMITS, WORDS, Place
from retrieval.store.lake.tables.pointer import (
    Pointer,
    number_of,
    pointer_name,
    read_pointer,
)
from retrieval.store.lake.tables.schema import clean_tables
from retrieval.store.lake.words import name_in

KEEP_SECONDS: Final = 3600.0
"""How long a generation is kept after the next one: a reader reloads within seconds, and a long
search or a backup ends within the hour."""
WRITE_SECONDS: Final = KEEP_SECONDS / 2
"""Maximum time from a commit's first write to its pointer on an object store: younger versions of
tables are never removed, even if the clocks of two machines differ by half an hour."""
_SLACK: Final = 1 / 8
"""Generations are removed together, when the oldest is due for this fraction of ``KEEP_SECONDS``:
to look for files that nobody needs takes as long for one generation as for many."""


def is_due(place: Place) -> bool:
    """Whether there are generations to remove; usually not.

    Raises:
        StorageError: the pointers can't be listed.
    """
    written = list(_written(place.objects.list(COMMITS)).values())
    return len(written) > 1 and time.time() - written[1] >= (1 + _SLACK) * KEEP_SECONDS


def clean(place: Place) -> None:
    """Remove old generations, and the versions of tables and files of words that only they name.

    Only one process does this at a time, and no other one commits.

    Raises:
        StorageError, IndexDamaged: the tables can't be read or changed.
    """
    now = time.time()
    # What was written after this listing stays, so a cleaner that is slow harms nobody.
    words = place.objects.list(WORDS)
    listed = place.objects.list(COMMITS)
    written = _written(listed)
    old = [one for one, after in pairwise(written) if now - written[after] >= KEEP_SECONDS]
    kept = [one for one in written if one not in set(old)]
    if not kept:
        return
    # A writer that was killed may have left a pointer that it had not published.
    unpublished = [
        f"{COMMITS}/{one.name}"
        for one in listed
        if one.name.endswith(UNPUBLISHED) and now - one.modified > KEEP_SECONDS
    ]
    _remove(place, [*map(pointer_name, old), *unpublished])
    oldest, newest = (read_pointer(place, number) for number in (kept[0], kept[-1]))
    until = now - KEEP_SECONDS
    if len(kept) > 1:
        until = min(until, written[kept[0]] - WRITE_SECONDS)
    clean_tables(place, [oldest.tables, newest.tables], until)
    if place.local is not None:
        records = [one.words for one in (oldest, newest) if one.words]
        views = {view_name(record.meta) for record in records}
        _remove_folders(place.local / WORDS, views, until)
    named = _words_of(place, oldest) | _words_of(place, newest)
    strays = [
        f"{WORDS}/{one.name}"
        for one in words
        if one.name.startswith(LEXICAL) and one.modified < until
    ]
    _remove(place, [name for name in strays if name not in named])


def _written(listed: Sequence[Listed]) -> Mapping[int, float]:
    """Return when each listed generation was published, the oldest first."""
    found = [(number_of(one.name), one.modified) for one in listed]
    return dict(sorted((number, time) for number, time in found if number is not None))


def _words_of(place: Place, pointer: Pointer) -> set[str]:
    return {name_in(place, file) for file in pointer.words.files} if pointer.words else set()


def _remove_folders(words: Path, views: Set[str], until: float) -> None:
    """Remove views that no kept generation needs, and what writers that were killed have left.

    A reader that has opened an index by its view does not need the view any more, and one that
    finds none makes links of its own.

    Args:
        words: the folder of words.
        views: the views to keep.
        until: time in seconds since 1970 until which a folder was written that may be removed.
    """
    with suppress(OSError), os.scandir(words) as entries:  # tried again by the next run
        for entry in entries:
            is_known = entry.name.startswith(LEXICAL) or entry.name.endswith(PENDING)
            if (
                is_known
                and entry.name not in views
                and entry.is_dir(follow_symlinks=False)
                and entry.stat(follow_symlinks=False).st_mtime < until
            ):
                shutil.rmtree(entry.path, ignore_errors=True)


def _remove(place: Place, names: list[str]) -> None:
    with suppress(StorageError):  # tried again by the next run
        place.objects.delete(names)
