"""Read passages, documents and texts of one generation, and check what is read."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from retrieval.domain.bounded_cache import Recent
from retrieval.domain.passages import Passage
from retrieval.domain.records import DocumentRow
from retrieval.errors import IndexDamaged
from retrieval.store.disk.reading.sections import Neighbour, no_passage
from retrieval.store.disk.reading.text_parts import Mark, TextParts
from retrieval.store.disk.tables.rows import (
    StoredPassage,
    TextPiece,
    read_document,
    read_passage,
)
from retrieval.store.disk.tables.schema import TEXT_PART_CHARS
from retrieval.store.lake.reading.together import together
from retrieval.store.lake.tables.generation import Generation
from retrieval.store.lake.tables.records import RECORD, ChunkRecord, document_values
from retrieval.store.lake.tables.schema import CHUNKS, DOCUMENTS, TEXTS
from retrieval.store.records import PassageKey

_PARTS_CHARS: Final = 4 << 20
"""Maximum size of the cached parts of texts in characters: 64 whole parts. The section around a
passage and the passages beside it are nearly always in the part that its own text is in."""

Range = tuple[int, int, int]
"""A document's id, and the first and last ordinals of its passages."""
Rows = NDArray[np.int64]
Result = TypeVar("Result")
Parts = dict[int, str]
"""Parts of texts by their rows."""


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
        self._parts = Recent[int, str](_PARTS_CHARS, len)

    def documents(self, rows: Rows) -> list[DocumentRow]:
        """Return the documents in some rows of their table, in the given order.

        Raises:
            IndexDamaged: a row's checksum does not match.
        """
        return self._checked(
            lambda: [read_document(document_values(one)) for one in self._records(DOCUMENTS, rows)]
        )

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
        return self._checked(lambda: self._ranges(ranges))

    def _ranges(self, ranges: Sequence[Range]) -> dict[PassageKey, Checked]:
        passages = self._found(ranges)
        stored, parts = self._stored(passages, with_texts=True)
        texts = self._pieces(
            [
                TextPiece(one.document_id, one.chunk.char_start, one.chunk.char_end)
                for one in stored
            ],
            parts,
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
        found = self._found([(document_id, ordinal, ordinal)])
        stored, _ = self._checked(lambda: self._stored(found))
        if not stored:
            raise no_passage(document_id, ordinal)
        return stored[0]

    def neighbours(self, ranges: Sequence[Range]) -> dict[int, dict[int, Neighbour]]:
        """Read places and headings of the passages in some ranges, by document and ordinal."""
        found: dict[int, dict[int, Neighbour]] = {}
        for one in self._checked(lambda: self._chunks(self._found(ranges))):
            chunk = one.columns
            found.setdefault(one.document_id, {})[chunk.ordinal] = Neighbour(
                chunk.ordinal, chunk.char_start, chunk.char_end, chunk.heading_path
            )
        return found

    def texts(self, pieces: Sequence[TextPiece]) -> Iterator[str]:
        """Yield pieces of documents' texts in order; each part of a text is read once."""
        return self._pieces(pieces, {})

    def _checked(self, read: Callable[[], Result]) -> Result:
        """Read; if a copy of a table is damaged, read again from the store."""
        seen = self._generation.given_up
        try:
            return read()
        except IndexDamaged as error:
            if not self._generation.read_again(error, (CHUNKS, DOCUMENTS, TEXTS), seen):
                raise
            self._parts = Recent[int, str](_PARTS_CHARS, len)
        return read()

    def _pieces(self, pieces: Sequence[TextPiece], known: Parts) -> Iterator[str]:
        """Yield pieces of texts in order; some parts are known already."""
        generation = self._generation
        numbers = generation.numbers(TEXTS, "part")
        spans = [
            (one.start // TEXT_PART_CHARS, max(one.start, one.end - 1) // TEXT_PART_CHARS)
            for one in pieces
        ]
        rows_of = {
            document_id: {int(numbers[row]): row for row in self._text_rows(document_id)}
            for document_id in {one.document_id for one in pieces}
        }
        wanted = [
            rows_of[one.document_id][at]
            for one, (first, last) in zip(pieces, spans, strict=True)
            for at in range(first, last + 1)
            if at in rows_of[one.document_id]
        ]
        parts = known | self._read_parts([row for row in wanted if row not in known])
        for one, (first, last) in zip(pieces, spans, strict=True):
            rows = rows_of[one.document_id]
            text = "".join(parts[rows[at]] for at in range(first, last + 1) if at in rows)
            offset = first * TEXT_PART_CHARS
            yield text[one.start - offset : one.end - offset]

    def _text_rows(self, document_id: int) -> list[int]:
        rows: list[int] = self._generation.text_rows.rows(document_id).tolist()
        return rows

    def _read_parts(self, rows: Iterable[int]) -> Parts:
        """Return parts of texts by their rows, from the cache if possible."""
        return self._parts.get_or_read(list(dict.fromkeys(rows)), self._take_parts)

    def _take_parts(self, rows: Sequence[int]) -> Parts:
        taken = self._generation.take(TEXTS, np.array(rows, np.int64), ["text"])
        return dict(zip(rows, taken.column("text").to_pylist(), strict=True))

    def _found(self, ranges: Sequence[Range]) -> Rows:
        """Return the passages, i.e. rows of chunks, in some ranges, each once."""
        found = [self._generation.passages_of(*one) for one in ranges]
        return np.unique(np.concatenate([np.empty(0, np.int64), *found]))

    def _stored(
        self, passages: Rows, *, with_texts: bool = False
    ) -> tuple[list[StoredPassage], Parts]:
        """Read passages and their documents at the same time.

        With texts, also read the texts that consist of one part: which part of a longer text a
        passage is in, only its row tells.
        """
        generation = self._generation
        document_ids = np.unique(generation.places.documents[passages])
        rows, inside = generation.document_rows.find(document_ids)
        if not inside.all():
            raise generation.damaged("a passage names a document that is not there")
        short: list[int] = []
        if with_texts:
            parts = [self._text_rows(document_id) for document_id in document_ids.tolist()]
            short = [row for some in parts if len(some) == 1 for row in some]
        records, texts, chunks = together(
            partial(self._records, DOCUMENTS, rows),
            partial(self._read_parts, short),
            partial(self._chunks, passages),
        )
        documents = {row[0]: row[1:] for row in map(document_values, records)}
        stored = []
        for one in chunks:
            if one.document_id not in documents:
                raise generation.damaged("a passage names a document that is not there")
            mtime_ns, document_digest, *document = documents[one.document_id]
            before = (one.content_key, one.document_id, one.digest, document_digest, mtime_ns)
            stored.append(read_passage((*before, *document, *one.columns)))
        return stored, texts

    def _chunks(self, passages: Rows) -> list[ChunkRecord]:
        """Return the records of passages."""
        return list(map(ChunkRecord, self._records(CHUNKS, passages)))

    def _records(self, table: str, rows: Rows) -> list[bytes]:
        found: list[Any] = self._generation.take(table, rows, [RECORD]).column(RECORD).to_pylist()
        return found


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
