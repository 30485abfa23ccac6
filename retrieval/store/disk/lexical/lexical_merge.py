"""Merge segments of the lexical index, or make it anew, outside commits.

The engine chooses what to merge whenever it commits: of segments with up to 10,000 texts eight or
more, of larger ones eight or more with similar sizes. It can't be told otherwise. So it gets a
folder of exactly those segments that are to be merged. A commit then puts the result in their
place.
"""

import math
import secrets
import shutil
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import tantivy
from numpy.typing import NDArray

from retrieval.errors import StorageError
from retrieval.store.disk.files.vector_file import LEXICAL, PENDING, describe_file
from retrieval.store.disk.lexical.analysis import VERSION
from retrieval.store.disk.lexical.lexical_index import TEXT
from retrieval.store.disk.lexical.lexical_writer import (
    Text,
    change_segments,
    open_engine,
    record_lexical,
    remove_texts,
    texts_of,
)
from retrieval.store.disk.lexical.segment_files import (
    META,
    LexicalRecord,
    assembled,
    deletions_of,
    engine_name,
    joined,
    load_state,
    parts_of,
    segment_files,
    segments_of,
)
from retrieval.store.durable_files import storage_error, sync

MAX_SMALL_SEGMENTS: Final = 10
"""Number of segments of up to 10,000 texts above which some are merged."""
TOO_MANY_SEGMENTS: Final = 48
"""Number of segments above which a writer merges right after its commit. Each has six files, and
each adds to the time of a search and of opening the index."""

_ENGINE_SEGMENTS: Final = 8
"""Number of segments of one size that the engine merges."""
_ENGINE_SMALL: Final = 10_000
"""Segments of up to this many texts are of one size for the engine."""
_ENGINE_LARGEST: Final = 10_000_000
"""The engine leaves segments of more texts alone."""
_ENGINE_STEP: Final = 0.75
"""Logarithm to the base 2 of the largest ratio within one size of larger segments."""
_NO_SEGMENT: Final = object()
"""Stands for the deletions of a segment that is gone because all of its texts are."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Segments that were written outside a commit."""

    record: LexicalRecord
    """Their record; the files are in ``place`` until ``put_in_place``."""
    place: Path
    text_ids: NDArray[np.int64]
    """Ids of their texts, int64 [n]."""
    sources: Mapping[str, object] | None
    """The merged segments, with their deletions at that time; None if all texts were indexed anew
    that there were up to ``last_text``."""
    last_text: int = 0


def due_to_merge(sizes: Mapping[str, int]) -> list[str]:
    """Return segments to be merged into one; usually none.

    Args:
        sizes: number of texts by segment.
    """
    small = sorted((name for name in sizes if sizes[name] <= _ENGINE_SMALL), key=sizes.__getitem__)
    if len(small) > MAX_SMALL_SEGMENTS:
        count = 0
        texts = 0
        while count < len(small) and (
            count < _ENGINE_SEGMENTS
            or sizes[small[count]] <= texts
            or len(small) - count >= MAX_SMALL_SEGMENTS // 2
        ):
            texts += sizes[small[count]]
            count += 1
        return small[:count]
    layers = defaultdict[float, list[str]](list)
    most = math.inf
    large = {name for name in sizes if _ENGINE_SMALL < sizes[name] <= _ENGINE_LARGEST}
    for name in sorted(large, key=lambda name: -sizes[name]):
        size = math.log2(sizes[name])
        most = size if size < most - _ENGINE_STEP else most
        layers[most].append(name)
    return next((layer for layer in layers.values() if len(layer) >= _ENGINE_SEGMENTS), [])


@contextmanager
def merged(
    folder: Path, state: LexicalRecord, segments: Sequence[str]
) -> Iterator[Prepared | None]:
    """Merge segments in a pending folder; yield the result until the block ends.

    Yields:
        the result; None if the engine did not merge them, for example because another writer has
        removed one of their files.

    Raises:
        StorageError: the files can't be written.
    """
    part = parts_of(state, segments)
    with _pending_folder(folder) as pending, assembled(folder, part, pending) as place:
        try:
            writer = open_engine(place, state.language).writer()
            writer.commit()
            writer.wait_merging_threads()
            record = _flushed(place, part)
        except (OSError, ValueError):
            yield None
            return
        if segments_of(record.meta).keys() & set(segments):
            yield None
            return
        yield Prepared(record, place, _text_ids(place, record), deletions_of(part.meta))


@contextmanager
def made_anew(folder: Path, connection: sqlite3.Connection, language: str) -> Iterator[Prepared]:
    """Index all texts anew in a pending folder; yield the result until the block ends.

    Args:
        folder: the index.
        connection: connection without an open transaction.
        language: as in ``update_lexical``.

    Raises:
        StorageError: the files can't be written.
    """
    empty = LexicalRecord(language, VERSION, "", ())
    with _pending_folder(folder) as pending, assembled(folder, empty, pending) as place:
        connection.execute("BEGIN")  # so that all of it is of one generation
        try:
            (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM texts").fetchone()
            ids = list[int]()

            def noted() -> Iterator[Text]:
                for text in texts_of(connection, "texts", "id"):
                    ids.append(text.text_id)
                    yield text

            change_segments(place, language, [], noted())
            record = _flushed(place, empty)
        except (OSError, ValueError) as error:
            raise storage_error(
                f"can't write the lexical index of {folder}: {error}; "
                "what was committed before is untouched",
                error,
            ) from error
        finally:
            connection.execute("COMMIT")
        yield Prepared(record, place, np.array(ids, np.int64), None, last)


def put_in_place(folder: Path, connection: sqlite3.Connection, made: Prepared) -> bool:
    """Record prepared segments in the open transaction, in place of those that they were made from.

    Texts that were removed since are removed from them, too.

    Returns:
        whether that was possible: another writer may have replaced the segments.

    Raises:
        OSError, ValueError: a file can't be written.
    """
    for file in made.record.files:
        (made.place / engine_name(file)).rename(folder / file.name)
    record, sources = made.record, made.sources
    state = load_state(connection) if sources is not None else None
    now = deletions_of(state.meta) if state else {}
    if sources is None or any(now.get(name, _NO_SEGMENT) != sources[name] for name in sources):
        there = np.array(connection.execute("SELECT id FROM texts").fetchall(), np.int64)
        gone = np.setdiff1d(made.text_ids, there)
        record = remove_texts(folder, record, gone.tolist(), folder)
    sync(folder)
    if sources is None:
        connection.execute("DELETE FROM pending_texts")
        connection.execute(
            "INSERT INTO pending_texts SELECT id FROM texts WHERE id > ?", [made.last_text]
        )
    elif state is None or (state.language, state.analysis) != (record.language, record.analysis):
        return False
    else:
        kept = parts_of(state, [name for name in now if name not in sources])
        record = joined(kept, record)
        (texts,) = connection.execute("SELECT count(*) FROM texts").fetchone()
        if sum(segments_of(record.meta).values()) != texts:
            return False  # all texts were indexed anew in between
    record_lexical(connection, record)
    return True


@contextmanager
def _pending_folder(folder: Path) -> Iterator[Path]:
    """Make a folder that other writers leave alone; remove it at the end."""
    made = folder / f"merging-{secrets.token_hex(8)}{PENDING}"
    try:
        made.mkdir()
    except OSError as error:
        raise StorageError(f"can't make {made}: {error.strerror}") from error
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _flushed(place: Path, part: LexicalRecord) -> LexicalRecord:
    """Flush the new files in the engine's folder to the disk; return the record of its segments."""
    meta = (place / META).read_text()
    known = {engine_name(file): file for file in part.files}
    files = []
    for name in segment_files(place, meta):
        if name in known:
            files.append(known[name])
        else:
            sync(place / name)
            files.append(replace(describe_file(place / name), name=f"{LEXICAL}{name}"))
    return replace(part, meta=meta, files=files)


def _text_ids(place: Path, record: LexicalRecord) -> NDArray[np.int64]:
    """Return the ids of the texts in the engine's folder."""
    searcher = open_engine(place, record.language).searcher()
    found = searcher.search(tantivy.Query.all_query(), max(1, searcher.num_docs), count=False)
    addresses = [address for _, address in found.hits]
    return np.array(searcher.fast_field_values(TEXT, addresses), np.int64)
