"""Read passages, documents and texts of one generation, and check what is read."""

import math
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrieval.domain.passages import Passage
from retrieval.domain.records import DocumentRow
from retrieval.store.disk.reading.sections import Neighbour, no_passage
from retrieval.store.disk.reading.text_parts import Mark, TextParts
from retrieval.store.disk.tables.rows import (
    CHUNK_COLUMNS,
    DOCUMENT_COLUMNS,
    StoredPassage,
    TextPiece,
    read_document,
    read_passage,
)
from retrieval.store.disk.tables.schema import TEXT_PART_CHARS
from retrieval.store.lake.tables.generation import Generation
from retrieval.store.lake.tables.schema import CHUNKS, DOCUMENTS, TEXTS, VECTORS
from retrieval.store.records import PassageKey

_DOCUMENT: Final = ("id", "mtime_ns", "digest", *DOCUMENT_COLUMNS)
_CHUNK: Final = ("document_id", "digest", *CHUNK_COLUMNS)

Range = tuple[int, int, int]
"""A document's id, and the first and last ordinals of its passages."""


class Checked(NamedTuple):
    """A passage whose checksums were verified."""

    passage: Passage
    """The passage without a score."""
    vector_id: int


class Passages:
    """Reads passages and documents of one generation; safe to share between threads."""

    def __init__(self, generation: Generation) -> None:
        """Read from a generation."""
        self._generation = generation

    def documents(self, rows: NDArray[np.int64]) -> list[DocumentRow]:
        """Return the documents in some rows of their table, in the given order.

        Raises:
            IndexDamaged: a row's checksum does not match.
        """
        return [read_document(row) for row in self._rows(DOCUMENTS, rows, _DOCUMENT)]

    def passages(self, places: Sequence[PassageKey]) -> dict[PassageKey, Checked]:
        """Read passages with their texts, by place.

        Raises:
            NotFound: a passage does not exist.
            IndexDamaged: a checksum does not match.
        """
        found = self.ranges([(document, at, at) for document, at in places])
        for place in places:
            if place not in found:
                raise no_passage(*place)
        return found

    def ranges(self, ranges: Sequence[Range]) -> dict[PassageKey, Checked]:
        """Read the passages that there are in some ranges, by place; see ``passages``."""
        stored = self._stored(self._found(ranges))
        texts = self.texts(
            [TextPiece(one.document_id, one.chunk.char_start, one.chunk.char_end) for one in stored]
        )
        context = self._generation.pointer.chunking.context
        checked = {}
        for one, text in zip(stored, texts, strict=True):
            if not one.was_made_from(text, context=context):
                raise self._generation.damaged(
                    f"passage {one.chunk.ordinal} of {one.document.uri} is not the text that was "
                    "embedded"
                )
            checked[one.document_id, one.chunk.ordinal] = Checked(
                one.passage(text, math.nan), one.chunk.vector_id
            )
        return checked

    def stored(self, document_id: int, ordinal: int) -> StoredPassage:
        """Read one passage without its text.

        Raises:
            NotFound: the passage does not exist.
        """
        stored = self._stored(self._found([(document_id, ordinal, ordinal)]))
        if not stored:
            raise no_passage(document_id, ordinal)
        return stored[0]

    def neighbours(self, ranges: Sequence[Range]) -> dict[int, dict[int, Neighbour]]:
        """Read places and headings of the passages in some ranges, by document and ordinal."""
        columns = ("document_id", "ordinal", "char_start", "char_end", "heading_path")
        passages = self._found(ranges)
        found: dict[int, dict[int, Neighbour]] = {}
        for document_id, *row in self._rows(CHUNKS, passages, columns):
            one = Neighbour._make(row)
            found.setdefault(document_id, {})[one.ordinal] = one
        return found

    def texts(self, pieces: Sequence[TextPiece]) -> Iterator[str]:
        """Yield pieces of documents' texts in order; each part of a text is read once."""
        spans = [
            (one.start // TEXT_PART_CHARS, max(one.start, one.end - 1) // TEXT_PART_CHARS)
            for one in pieces
        ]
        generation = self._generation
        numbers = generation.numbers(TEXTS, "part")
        wanted: dict[tuple[int, int], int] = {}
        for one, (first, last) in zip(pieces, spans, strict=True):
            for row in generation.text_rows.rows(one.document_id).tolist():
                if first <= numbers[row] <= last:
                    wanted[one.document_id, int(numbers[row])] = row
        rows = np.array(list(wanted.values()), np.int64)
        read = self._rows(TEXTS, rows, ("text",))
        parts = {place: text for place, (text,) in zip(wanted, read, strict=True)}
        for one, (first, last) in zip(pieces, spans, strict=True):
            text = "".join(parts.get((one.document_id, at), "") for at in range(first, last + 1))
            offset = first * TEXT_PART_CHARS
            yield text[one.start - offset : one.end - offset]

    def _found(self, ranges: Sequence[Range]) -> NDArray[np.int64]:
        """Return the passages, i.e. rows of chunks, in some ranges, each once."""
        found = [self._generation.passages_of(*one) for one in ranges]
        return np.unique(np.concatenate([np.empty(0, np.int64), *found]))

    def _stored(self, passages: NDArray[np.int64]) -> list[StoredPassage]:
        """Read passages, their documents and the keys of their vectors."""
        generation = self._generation
        rows, inside = generation.document_rows.find(generation.places.documents[passages])
        keys, named = generation.vector_rows.find(generation.places.vectors[passages])
        if not (inside.all() and named.all()):
            raise generation.damaged("a passage names a document or a vector that is not there")
        documents = {row[0]: row for row in self._rows(DOCUMENTS, np.unique(rows), _DOCUMENT)}
        content_keys = dict(self._rows(VECTORS, np.unique(keys), ("id", "content_key")))
        stored = []
        for row in self._rows(CHUNKS, passages, _CHUNK):
            document_id, digest, *chunk = row
            _, mtime_ns, document_digest, *document = documents[document_id]
            vector_id = chunk[CHUNK_COLUMNS.index("vector_id")]
            stored.append(
                read_passage(
                    (
                        *(content_keys[vector_id], document_id, digest, document_digest, mtime_ns),
                        *document,
                        *chunk,
                    )
                )
            )
        return stored

    def _rows(self, table: str, rows: NDArray[np.int64], columns: Sequence[str]) -> list[tuple]:  # type: ignore[type-arg]
        taken = self._generation.take(table, rows, columns)
        return list(zip(*(taken.column(name).to_pylist() for name in columns), strict=True))


class LakeTextParts(TextParts):
    """Reads parts of a document's text from a lake."""

    def __init__(self, generation: Generation, passages: Passages, document: DocumentRow) -> None:
        """Read parts of a document."""
        super().__init__(document)
        self._generation = generation
        self._passages = passages

    def mark(self, ordinal: int) -> Mark:
        """See ``TextParts``."""
        chunk = self._passages.stored(self._document.id, ordinal).chunk
        return Mark(chunk.char_start, chunk.line_start)

    def text(self, start: int, end: int) -> str:
        """See ``TextParts``."""
        text = next(self._passages.texts([TextPiece(self._document.id, start, end)]))
        if len(text) != end - start:
            raise self._generation.damaged(f"the text of {self._document.uri!r} has another length")
        return text
