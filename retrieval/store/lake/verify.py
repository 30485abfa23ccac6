"""Check every row of the newest generation of a lake against its checksums."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

import numpy as np
import pyarrow as pa

from retrieval.errors import IndexDamaged
from retrieval.store.disk.lexical.analysis import VERSION
from retrieval.store.disk.lexical.segment_files import segments_of
from retrieval.store.disk.tables.filter_functions import filter_extension, filter_path
from retrieval.store.disk.tables.rows import CHUNK_COLUMNS
from retrieval.store.disk.tables.schema import header_key
from retrieval.store.filters.values import value_rows
from retrieval.store.lake.local.word_files import WordFiles
from retrieval.store.lake.place import TABLES, WORDS, Place
from retrieval.store.lake.reading.passages import Passages
from retrieval.store.lake.tables.generation import Generation
from retrieval.store.lake.tables.pointer import read_newest
from retrieval.store.lake.tables.records import (
    RECORD,
    ChunkRecord,
    chunk_record,
    document_record,
)
from retrieval.store.lake.tables.schema import (
    CHUNKS,
    DOCUMENTS,
    SCHEMAS,
    VALUES,
    VECTORS,
    lance_errors,
    see,
    vector_digest,
)
from retrieval.store.lake.vectors.codes import Codes
from retrieval.store.lake.vectors.tuning import Measurement
from retrieval.store.lake.words import name_in
from retrieval.store.records import Problem

_RESTORE: Final = "restore it from a backup, or build the index anew"
_RECALL_LOST: Final = 0.03
"""The recall of an intact index may be lower by this on other queries, as more vectors give."""
_ROWS: Final = 4_096
"""Number of rows to check at a time."""


def verify(place: Place) -> Iterator[Problem]:
    """Check every row of an index's newest generation.

    Yields:
        each problem found; of each kind, the first.

    Raises:
        NotAnIndex, IndexVersionError, StorageError: the index can't be opened at all.
    """
    try:
        generation = Generation(place, read_newest(place))
        generation.check()
    except IndexDamaged as error:
        yield _damage(place, error)
        return
    checks = (_counts, _vectors, _ann, _records, _documents, _passages, _values, _words)
    for check in checks:
        try:
            yield from check(generation)
        except IndexDamaged as error:
            yield _damage(place, error)


def _damage(place: Place, error: IndexDamaged) -> Problem:
    """Return the problem of an error, which has its own advice at its end."""
    what = error.message.removesuffix(f"; {see(place)}").removesuffix(f"; {_RESTORE}")
    return Problem(str(error.metadata.get("file", TABLES)), what, _RESTORE)


def _counts(generation: Generation) -> Iterator[Problem]:
    counts = generation.pointer.counts
    for name, recorded in (
        (DOCUMENTS, counts.documents),
        (CHUNKS, counts.chunks),
        (VECTORS, counts.vectors),
    ):
        table = generation.table(name)
        found = table.count_rows() if table is not None else 0
        if found != recorded:
            what = f"it has {found} rows instead of {recorded}"
            yield Problem(f"{TABLES}/{name}.lance", what, _RESTORE)


def _vectors(generation: Generation) -> Iterator[Problem]:
    table = generation.table(VECTORS)
    if table is None:
        return
    columns = ["id", "content_key", "digest", "vector"]
    with lance_errors(generation.place):
        for batch in table.to_batches(columns=columns, batch_size=_ROWS):
            rows = zip(
                *(batch.column(name).to_pylist() for name in columns[:3]),
                generation.matrix(pa.Table.from_batches([batch])),
                strict=True,
            )
            for vector_id, key, digest, vector in rows:
                if vector_digest(vector_id, key, vector) != digest:
                    what = f"vector {vector_id} has changed since it was written"
                    yield Problem(f"{TABLES}/{VECTORS}.lance", what, _RESTORE)
                    return


def _records(generation: Generation) -> Iterator[Problem]:
    """Check that the records of rows are made of their columns."""
    names = [name for name in SCHEMAS[CHUNKS].names if name not in ("id", "text_id", "header")]
    for name, columns, expected in (
        (DOCUMENTS, SCHEMAS[DOCUMENTS].names, document_record),
        (CHUNKS, names, _chunk_record),
    ):
        table = generation.table(name)
        if table is None:
            continue
        with lance_errors(generation.place):
            for batch in table.to_batches(columns=columns, batch_size=_ROWS):
                if any(expected(row) != row[RECORD] for row in batch.to_pylist()):
                    what = "a row has other columns than its record"
                    yield Problem(f"{TABLES}/{name}.lance", what, _RESTORE)
                    break


def _chunk_record(row: Mapping[str, Any]) -> bytes:
    """Return the record of a chunk with these columns, and the content key that it has."""
    key = ChunkRecord(row[RECORD]).content_key
    columns = [row[name] for name in CHUNK_COLUMNS]
    return chunk_record(row["document_id"], key, row["digest"], columns)


def _ann(generation: Generation) -> Iterator[Problem]:
    """Check that the approximate index has each of its rows once, and its recall."""
    ann, table = generation.pointer.ann, generation.table(VECTORS)
    if ann is None:
        return
    what = ""
    try:
        codes = Codes(generation.place, lambda read: read(table), generation.layout(VECTORS), ann)
        if not np.array_equal(np.sort(codes.listed()), np.flatnonzero(codes.covered)):
            what = "the approximate index lacks some of its vectors"
        else:
            found = Measurement(generation.place, table, ann).recall(ann.settings)
            if found < ann.settings.recall - _RECALL_LOST:
                what = f"recall@10 is {found}, not {ann.settings.recall} as it was"
    except IndexDamaged as error:
        what = error.message
    if what:
        advice = f"make it anew with: indexer compact --index {generation.place.address}"
        yield Problem(f"{TABLES}/{VECTORS}.lance", what, advice)


def _documents(generation: Generation) -> Iterator[Problem]:
    rows = np.arange(len(generation.numbers(DOCUMENTS, "id")))
    passages = Passages(generation)
    file = f"{TABLES}/{DOCUMENTS}.lance"
    for start in range(0, len(rows), _ROWS):
        some = rows[start : start + _ROWS]
        documents = passages.documents(some)
        seen = generation.take(DOCUMENTS, some, ["path", "extension", "chunk_count"]).to_pylist()
        for document, columns in zip(documents, seen, strict=True):
            uri = document.uri
            if (columns["path"], columns["extension"]) != (filter_path(uri), filter_extension(uri)):
                what = f"the path and extension that filters see of {uri} are not its own"
                yield Problem(file, what, _RESTORE)
                return
            if len(generation.passages_of(document.id)) != document.chunk_count:
                yield Problem(file, f"{uri} lacks some of its passages", _RESTORE)
                return


def _passages(generation: Generation) -> Iterator[Problem]:
    passages = Passages(generation)
    titles = dict(
        zip(
            generation.numbers(DOCUMENTS, "id").tolist(),
            generation.column(DOCUMENTS, "title").to_pylist(),
            strict=True,
        )
    )
    for document_id, title in titles.items():
        count = len(generation.passages_of(document_id))
        for start in range(0, count, _ROWS):
            passages.ranges([(document_id, start, start + _ROWS - 1)])
        rows = generation.passages_of(document_id)
        for row in generation.take(CHUNKS, rows, ["header", "heading_path"]).to_pylist():
            if header_key(title, json.loads(row["heading_path"])) != row["header"]:
                what = f"a passage of document {document_id} is not found by its headings"
                yield Problem(f"{TABLES}/{CHUNKS}.lance", what, _RESTORE)
                return


def _values(generation: Generation) -> Iterator[Problem]:
    """Check that the values that filters compare are those of documents' metadata."""
    columns = ("document_id", "key", "place", "kind", "text", "whole", "real")
    table = generation.read(VALUES, columns)
    rows = zip(*(table.column(name).to_pylist() for name in columns), strict=True)
    stored = Counter((*row[:5], row[6] if row[5] is None else row[5]) for row in rows)
    documents = generation.read(DOCUMENTS, ["id", "metadata"]).to_pylist()
    expected: Counter[tuple[object, ...]] = Counter()
    for document in documents:
        with suppress(ValueError):  # the row's checksum reports it
            metadata = json.loads(document["metadata"])
            expected.update((document["id"], *row) for row in value_rows(metadata))
    if stored != expected:
        what = "the values that filters see are not those of documents' metadata"
        yield Problem(f"{TABLES}/{VALUES}.lance", what, _RESTORE)


def _words(generation: Generation) -> Iterator[Problem]:
    words, place = generation.pointer.words, generation.place
    advice = f"make it anew with: indexer compact --index {place.address}"
    texts = generation.by_text.distinct
    if words is None:
        if texts:
            yield Problem(WORDS, "passages that are not in the lexical index", advice)
        return
    files = WordFiles(place, generation.pointer.index_id)
    for file in words.files:
        if not files.is_whole(file):
            what = "it is missing, or its bytes have changed"
            yield Problem(name_in(place, file), what, advice)
    if words.analysis == VERSION and sum(segments_of(words.meta).values()) != texts:
        yield Problem(WORDS, "passages that are not in the lexical index", advice)
