"""Reader of one generation of an index."""

import json
import math
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from retrieval.domain.bounded_cache import Recent
from retrieval.domain.passages import Hit, Passage, SectionText
from retrieval.domain.records import (
    CharRange,
    DocumentCounts,
    DocumentRow,
    FieldInfo,
    FieldValue,
    Skipped,
    TextPart,
    TextRange,
)
from retrieval.errors import IndexDamaged, NotFound
from retrieval.store.disk.filtering.suggestions import list_fields, list_values
from retrieval.store.disk.info import load_segments
from retrieval.store.disk.lexical.lexical_index import WordSearch
from retrieval.store.disk.lexical.term_spans import TermFinder
from retrieval.store.disk.reading.listing import DocumentList
from retrieval.store.disk.reading.places import Places
from retrieval.store.disk.reading.sections import Neighbour, no_passage, section_spans
from retrieval.store.disk.reading.snapshot import Generation, open_generation
from retrieval.store.disk.reading.text_parts import StoredTextParts
from retrieval.store.disk.tables.database import DATABASE_NAME
from retrieval.store.disk.tables.rows import (
    DOCUMENT_QUERY,
    FIELD_NAMES_QUERY,
    NEIGHBOURS_QUERY,
    PASSAGE_QUERY,
    PASSAGES_QUERY,
    StoredPassage,
    TextPiece,
    damaged_row,
    passage_key,
    read_document,
    read_passage,
    read_ranges,
    read_texts,
)
from retrieval.store.disk.vectors.vector_index import VectorIndex
from retrieval.store.filters.language import Filter
from retrieval.store.filters.tree import BUILT_IN, Field
from retrieval.store.records import (
    DocumentPassage,
    LexicalHits,
    PassageKey,
    SectionSpan,
    SegmentInfo,
    TextKey,
    VectorHits,
)

_RECENT_CHARS: Final = 8 << 20
"""Maximum size of the cached passages in characters: about 4,000 passages of 1,000 characters."""
_CHARS_BESIDE_TEXT: Final = 1_000
"""Approximate size of a cached passage besides its text, in characters."""


class _Checked(NamedTuple):
    """A passage whose checksums were verified."""

    passage: Passage
    """The passage without a score."""
    vector_id: int


class DiskReader:
    """One generation of an index; a context manager, safe to share between threads."""

    def __init__(self, generation: Generation) -> None:
        """Use ``open``."""
        self.folder = generation.snapshot.folder
        self.info = generation.info
        self._snapshot = generation.snapshot
        self._rows = generation.snapshot.rows
        # A generation never changes, so nothing in the cache becomes stale.
        self._recent_passages = Recent[PassageKey, _Checked](
            _RECENT_CHARS, lambda one: len(one.passage.text) + _CHARS_BESIDE_TEXT
        )
        self._places = Places(generation.snapshot.rows)
        self._documents = DocumentList(generation.snapshot.rows)
        self._vectors = VectorIndex(
            generation.segments, generation.info.model.dim, generation.snapshot.rows
        )
        self._opened = generation.opened
        shared = generation.snapshot.rows("SELECT vector_id FROM shared_vectors", [])
        self._words = WordSearch(
            str(self.folder),
            generation.lexical,
            np.array([row[0] for row in shared], dtype=np.int64),
            has_passages=bool(generation.info.chunks),
        )
        self.version = generation.version
        """Identifies the open generation among all generations and indexes; see
        ``read_version``."""

    @classmethod
    def open(cls, folder: Path, *, before: "DiskReader | None" = None) -> "DiskReader":
        """Open the last committed generation.

        A build may run at the same time: the reader holds a snapshot of the database and maps the
        files, which never change.

        Args:
            folder: the index.
            before: reader of another generation, open or closed. Files that both generations have
                are shared instead of read again.

        Raises:
            NotAnIndex: there is no index, or nothing was committed yet.
            IndexVersionError: the index was written by a newer version.
            IndexDamaged: a file is missing or does not match the index's record.
        """
        return cls(open_generation(folder, before._opened if before else None))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the snapshot."""
        self._snapshot.close()

    def knows(self, filter_text: str) -> bool:
        """Whether the result of a filter is cached, so a search need not evaluate it."""
        return self._vectors.knows(filter_text)

    def prepare(self, filter: Filter) -> None:
        """Evaluate a filter and cache the result for searches.

        If several threads ask for the same filter at once, one evaluates it and the others wait.

        Raises:
            DeadlinePassed: no client waits for the answer any more (see ``deadline``).
        """
        self._vectors.prepare(filter)

    def search_vectors(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        filter: Filter | None = None,
        exact: bool = False,
    ) -> VectorHits:
        """Find each query's nearest vectors.

        Args:
            queries: float32 [n, dim].
            k: maximum number of results for each query, ≥ 1.
            filter: if given, find only vectors of documents that pass this filter.
            exact: score every vector, even if there is an approximate index.

        Returns:
            scores and vector ids, [n, ≤ k] each, best first; equal scores in order of vector id.

        Raises:
            InvalidArgument: the queries have another shape.
        """
        return self._vectors.search(queries, k, filter=filter, exact=exact)

    @property
    def is_exact(self) -> bool:
        """Whether every search is exact because there is no approximate index."""
        return self._vectors.is_exact

    def segments(self) -> list[SegmentInfo]:
        """Return the records of the vector files, oldest first."""
        return load_segments(self._snapshot.rows)

    def passage_vector(self, document_id: int, ordinal: int) -> NDArray[np.float32]:
        """Return a passage's own vector, float32 [dim].

        Raises:
            NotFound: the document or the passage does not exist.
        """
        row = self._passage_row(document_id, ordinal)
        vector = self._vectors.vector(read_passage(row).chunk.vector_id)
        if vector is not None:
            return vector
        raise IndexDamaged(f"{self.folder} names a vector that is in none of its files")

    def score_vectors(
        self, query: NDArray[np.float32], vector_ids: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return the similarity of given vectors to a query.

        Args:
            query: float32 [dim].
            vector_ids: ids of vectors of this generation, int64 [m].

        Returns:
            float32 [m] inner products; cosine similarity for unit vectors.
        """
        return self._vectors.scores(query, vector_ids)

    def vectors(self, vector_ids: Sequence[int]) -> NDArray[np.float32]:
        """Return vectors of this generation, float32 [n, dim]."""
        return self._vectors.vectors(np.array(vector_ids, dtype=np.int64))

    def average_score(self, query: NDArray[np.float32]) -> float:
        """Return a query's inner product with an average vector, estimated from a sample."""
        return float(self._vectors.centre @ query)

    @property
    def has_lexical_index(self) -> bool:
        """Whether there is a lexical index that this version can search."""
        return self._words.is_there

    def search_lexical(self, text: str, k: int, *, filter: Filter | None = None) -> LexicalHits:
        """Find the passages' texts that match the words of a query best; see ``Reader``."""
        return self._words.search(text, k, self._vectors.allowed_texts(filter))

    def score_texts_of_vectors(
        self,
        text: str,
        vector_ids: NDArray[np.int64],
        most: int | None = None,
        *,
        filter: Filter | None = None,
    ) -> LexicalHits:
        """Score the texts of given vectors; see ``Reader``."""
        return self._words.score(text, vector_ids, most, self._vectors.allowed_texts(filter))

    def score_texts(
        self, text: str, text_ids: NDArray[np.int64], *, filter: Filter | None = None
    ) -> LexicalHits:
        """Score given texts, int64 [m]; see ``Reader``."""
        return self._words.score_texts(text, text_ids, self._vectors.allowed_texts(filter))

    def lexical_warnings(self, text: str) -> tuple[str, ...]:
        """Return a sentence without a full stop for each limit that a lexical query exceeds."""
        return self._words.warnings(text)

    def unknown_fields(self, filter: Filter) -> dict[str, str]:
        """Return the metadata fields of a filter that no document has, each with a suggestion.

        The suggestion is the closest name of an existing field, or empty if none is close.
        """
        unknown = [field for field in filter.metadata_fields if not self._has_field(field)]
        if not unknown:
            return {}
        known = [*BUILT_IN, *(row[0] for row in self._rows(FIELD_NAMES_QUERY, []))]
        return {
            field.name: next(iter(get_close_matches(field.name, known, 1)), "") for field in unknown
        }

    def _has_field(self, field: Field) -> bool:
        marks = ", ".join("?" * len(field.keys))
        query = f"SELECT 1 FROM metadata_values WHERE key IN ({marks}) LIMIT 1"
        return bool(self._rows(query, field.keys))

    def first_places(
        self,
        groups: Sequence[Sequence[TextKey]],
        limit: int,
        filter: Filter | None = None,
        *,
        named: Sequence[TextKey] | None = None,
    ) -> list[list[list[PassageKey]]]:
        """Return the first passages that have the texts of some groups; see ``Reader``."""
        return self._places.first(groups, limit, filter, named=named)

    def count_places(
        self, texts: Sequence[TextKey], named: Sequence[TextKey], filter: Filter | None = None
    ) -> list[int]:
        """Count the passages that have each of some texts; see ``Reader``."""
        return self._places.counts(texts, named, filter)

    def term_finder(self, text: str) -> TermFinder:
        """Return a finder for the terms of a query in passages."""
        return TermFinder(text, self.info.language)

    def passages_of_documents(
        self, document_ids: Sequence[int]
    ) -> dict[int, list[DocumentPassage]]:
        """Return the passages of each document, in order."""
        rows = self._rows(
            """SELECT c.document_id, c.ordinal, c.vector_id, c.text_id FROM json_each(?) w
               CROSS JOIN chunks c ON c.document_id = w.value""",
            [json.dumps(list(document_ids))],
        )
        passages: dict[int, list[DocumentPassage]] = {one: [] for one in document_ids}
        for document_id, *passage in sorted(rows):
            passages[document_id].append(DocumentPassage(*passage))
        return passages

    def sample_places(self, count: int) -> list[PassageKey]:
        """Return (document id, ordinal) of some passages, spread evenly over the index."""
        count = min(count, self.info.chunks)
        step = max(1, self.info.chunks // max(1, count))
        rows = self._rows(
            """SELECT document_id, ordinal FROM
                   (SELECT document_id, ordinal, row_number() OVER (ORDER BY id) - 1 AS number
                    FROM chunks)
               WHERE number % ? = 0 LIMIT ?""",
            [step, count],
        )
        return [(row[0], row[1]) for row in rows]

    def passages(self, hits: Sequence[Hit]) -> list[Passage]:
        """Read the passages that a search has found, in its order.

        Raises:
            NotFound: a document or passage does not exist.
            IndexDamaged: a passage's checksum does not match, or it has another vector.
        """
        places = [(hit.document_id, hit.ordinal) for hit in hits]
        found = self._recent_passages.get_or_read(places, self._read_passages)
        passages = []
        for hit, place in zip(hits, places, strict=True):
            passage, vector_id = found[place]
            if vector_id != hit.vector_id:
                raise damaged_row(f"it takes passage {hit.ordinal} of {passage.uri} for another")
            passages.append(passage._replace(score=hit.score, scores=hit.scores))
        return passages

    def _read_passages(self, places: Sequence[PassageKey]) -> dict[PassageKey, _Checked]:
        found = read_ranges(self._rows, PASSAGES_QUERY, [(one, at, at) for one, at in places])
        rows = {passage_key(row): row for row in found}
        for place in places:
            if place not in rows:
                raise no_passage(*place)
        checked = self._checked([rows[place] for place in places])
        return dict(zip(places, checked, strict=True))

    def passage(self, document_id: int, ordinal: int) -> Passage:
        """Read one passage.

        Raises:
            NotFound: the document or the passage does not exist.
            IndexDamaged: the passage's checksum does not match.
        """
        return self._passages([self._passage_row(document_id, ordinal)])[0]

    def neighbours(
        self, document_id: int, ordinal: int, *, before: int = 0, after: int = 0
    ) -> list[Passage]:
        """Read the passages around a given one, in order and without it.

        Raises:
            NotFound: the document or the passage does not exist.
        """
        self.passage(document_id, ordinal)
        (around,) = self.neighbours_of([(document_id, ordinal)], before=before, after=after)
        return around

    def neighbours_of(
        self, places: Sequence[PassageKey], *, before: int = 0, after: int = 0
    ) -> list[list[Passage]]:
        """Read the passages around each given one, in order and without it.

        The given passages must exist. Their number does not affect the number of queries.
        """
        spans = [(document, ordinal - before, ordinal + after) for document, ordinal in places]
        rows = {passage_key(row): row for row in read_ranges(self._rows, PASSAGES_QUERY, spans)}
        keys = sorted(rows)
        checked = self._checked([rows[key] for key in keys])
        found = {key: one.passage for key, one in zip(keys, checked, strict=True)}
        return [
            [
                found[document, at]
                for at in range(first, last + 1)
                if at != ordinal and (document, at) in found
            ]
            for (document, first, last), (_, ordinal) in zip(spans, places, strict=True)
        ]

    def section_spans(self, places: Sequence[PassageKey], most_chars: int) -> list[SectionSpan]:
        """Find the span of the section around each of some passages.

        The number of queries does not depend on the number of passages.
        """

        def read(spans: Sequence[tuple[int, int, int]]) -> dict[int, dict[int, Neighbour]]:
            neighbours: dict[int, dict[int, Neighbour]] = {}
            for document_id, *row in read_ranges(self._rows, NEIGHBOURS_QUERY, spans):
                neighbours.setdefault(document_id, {})[row[0]] = Neighbour(*row)
            return neighbours

        return section_spans(places, most_chars, read)

    def sections(self, stretches: Sequence[tuple[int, SectionSpan]]) -> list[SectionText]:
        """Read the texts of spans; each span comes with the id of its document."""
        pieces = [TextPiece(document_id, one.start, one.end) for document_id, one in stretches]
        return [
            SectionText(text, one.start, one.end, one.complete)
            for (_, one), text in zip(stretches, read_texts(self._rows, pieces), strict=True)
        ]

    def document(self, document_id: int) -> DocumentRow:
        """Return one document.

        Raises:
            NotFound: the document does not exist.
        """
        return self._one_document("id = ?", document_id)

    def document_by_uri(self, uri: str) -> DocumentRow:
        """Return one document by its URI.

        Raises:
            NotFound: the document does not exist.
        """
        return self._one_document("uri = ?", uri)

    def document_text(self, document_id: int) -> str:
        """Read a document's whole text.

        Raises:
            NotFound: the document does not exist.
        """
        return self.text_part(document_id, CharRange()).text

    def text_part(
        self, document_id: int, asked: TextRange, most_chars: int | None = None
    ) -> TextPart:
        """Read a part of a document's text; see ``Reader``.

        Raises:
            NotFound: the document does not exist.
        """
        return StoredTextParts(self._rows, self.document(document_id)).read(asked, most_chars)

    def documents(
        self, limit: int, after_uri: str = "", filter: Filter | None = None
    ) -> list[DocumentRow]:
        """Return documents in order of URI.

        Args:
            limit: maximum number of documents.
            after_uri: return only documents after this URI; empty to begin with the first.
            filter: if given, return only documents that pass this filter.
        """
        return self._documents.page(limit, after_uri, filter)

    def count_documents(self, filter: Filter | None = None) -> DocumentCounts:
        """Count the documents that pass a filter, or all of them, and their passages."""
        if filter is None:
            return DocumentCounts(self.info.documents, self.info.chunks)
        return self._documents.counts(filter)

    def skipped(self, limit: int | None = None, after_uri: str = "") -> list[Skipped]:
        """Return files that the last builds left out, in order of URI; see ``documents``."""
        rows = self._rows(
            "SELECT uri, root, reason, detail FROM skipped WHERE uri > ? ORDER BY uri LIMIT ?",
            [after_uri, -1 if limit is None else limit],
        )
        return [Skipped(*row) for row in rows]

    def skip_counts(self) -> dict[str, int]:
        """Return the numbers of files that the last builds left out, by reason."""
        rows = self._rows("SELECT reason, count(*) FROM skipped GROUP BY reason", [])
        return dict(rows)

    def fields(self) -> list[FieldInfo]:
        """Return the fields that filters can compare: the built-in ones, then those of metadata."""
        return list_fields(self._rows)

    def field_values(self, name: str, containing: str, limit: int) -> list[FieldValue]:
        """Return values of a field, the most frequent first; see ``list_values``."""
        return list_values(self._rows, name, containing, limit)

    def _one_document(self, condition: str, value: int | str) -> DocumentRow:
        rows = self._rows(
            f"{DOCUMENT_QUERY} WHERE d.{condition}",
            [value],
        )
        if not rows:
            raise NotFound(f"no document {value}")
        return read_document(rows[0])

    def _passage_row(self, document_id: int, ordinal: int) -> tuple[Any, ...]:
        """Read one passage's row of ``PASSAGE_QUERY``.

        Raises:
            NotFound: the document or the passage does not exist.
        """
        rows = self._rows(
            f"{PASSAGE_QUERY} WHERE c.document_id = ? AND c.ordinal = ?", [document_id, ordinal]
        )
        if not rows:
            raise no_passage(document_id, ordinal)
        return rows[0]

    def _passages(self, rows: Sequence[tuple[Any, ...]]) -> list[Passage]:
        """Return the passages in rows of ``PASSAGE_QUERY``, with their texts, checked."""
        return [one.passage for one in self._checked(rows)]

    def _checked(self, rows: Sequence[tuple[Any, ...]]) -> list[_Checked]:
        stored = [read_passage(row) for row in rows]
        return [
            _Checked(one.passage(text, math.nan), one.chunk.vector_id)
            for one, text in zip(stored, self._texts(stored), strict=True)
        ]

    def _texts(self, stored: Sequence[StoredPassage]) -> Iterator[str]:
        """Yield the texts of passages, each checked against what was embedded."""
        pieces = [
            TextPiece(one.document_id, one.chunk.char_start, one.chunk.char_end) for one in stored
        ]
        for one, text in zip(stored, read_texts(self._rows, pieces), strict=True):
            # SQLite's pages carry no checksums, so compare the text with the hash of what was
            # embedded.
            if not one.was_made_from(text, context=self.info.chunking.context):
                raise IndexDamaged(
                    f"passage {one.chunk.ordinal} of {one.document.uri} in {self.folder} is not "
                    "the text that was embedded; see what else is wrong with: "
                    f"indexer verify --index {self.folder}",
                    file=DATABASE_NAME,
                )
            yield text
