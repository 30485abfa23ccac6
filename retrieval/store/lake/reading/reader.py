"""Reader of one generation of a lake."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import TracebackType
from typing import Final, Self

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from retrieval.domain.bounded_cache import Recent
from retrieval.domain.passages import Hit, Passage, SectionText
from retrieval.domain.records import (
    CharRange,
    DocumentCounts,
    DocumentRow,
    FieldInfo,
    FieldValue,
    GenerationId,
    Skipped,
    TextPart,
    TextRange,
)
from retrieval.errors import IndexDamaged, NotFound
from retrieval.store.disk.files.shared_parts import Opened
from retrieval.store.disk.id_set import IdSet
from retrieval.store.disk.lexical.lexical_index import WordSearch
from retrieval.store.disk.lexical.term_spans import TermFinder
from retrieval.store.disk.reading.sections import section_spans
from retrieval.store.disk.tables.rows import TextPiece
from retrieval.store.filters.language import Filter
from retrieval.store.filters.tree import BUILT_IN
from retrieval.store.lake.place import Place
from retrieval.store.lake.reading.fields import field_names, list_fields, list_values
from retrieval.store.lake.reading.mirror import Mirror
from retrieval.store.lake.reading.passages import Checked, LakeTextParts, Passages
from retrieval.store.lake.reading.places import TextPlaces
from retrieval.store.lake.reading.search import VectorSearch
from retrieval.store.lake.tables.generation import Generation
from retrieval.store.lake.tables.pointer import Pointer, read_newest
from retrieval.store.lake.tables.schema import DOCUMENTS, SKIPPED
from retrieval.store.lake.words import open_words
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


@dataclass(frozen=True, slots=True)
class LakeVersion:
    """Identity of a generation in a place."""

    place: str
    identity: GenerationId


class LakeReader:
    """One generation of a lake; see ``retrieval.store.api.Reader``."""

    def __init__(
        self, generation: Generation, opened: Opened, mirror: Mirror | None = None
    ) -> None:
        """Use ``open``."""
        pointer = generation.pointer
        self.place = generation.place
        self.info = pointer.info
        self.version = LakeVersion(generation.place.address, pointer.identity)
        self._generation = generation
        self._passages = Passages(generation)
        self._places = TextPlaces(generation)
        self._vectors = VectorSearch(generation)
        self._opened = opened
        self._mirror = mirror
        self._words = WordSearch(
            generation.place.address,
            open_words(generation.place, pointer, opened),
            generation.shared_vectors,
            has_passages=bool(pointer.counts.chunks),
        )
        opened.forget_older()
        # A generation never changes, so nothing in the cache becomes stale.
        self._recent = Recent[PassageKey, Checked](
            _RECENT_CHARS, lambda one: len(one.passage.text) + _CHARS_BESIDE_TEXT
        )

    @classmethod
    def open(
        cls,
        place: Place,
        *,
        before: "LakeReader | None" = None,
        pointer: Pointer | None = None,
    ) -> "LakeReader":
        """Open the newest generation, or a given one.

        Raises:
            NotAnIndex, IndexVersionError, IndexDamaged, StorageError: see ``read_info``.
        """
        named = pointer or read_newest(place)
        mirror = Mirror.of(place, named)
        if mirror and before and before._mirror and before._mirror.whole:
            # Searches must not become slower, so the older generation is served meanwhile.
            mirror.copy_before_switch()
        try:
            reader = cls._of(place, named, before, mirror)
        except IndexDamaged as error:
            if not mirror or not mirror.whole:
                raise
            for name in mirror.whole:  # one of them may be damaged instead of the index
                mirror.give_up(name, error.message)
            reader = cls._of(place, named, before, mirror)
        if mirror:
            for name in mirror.whole:  # the older generation may have read it from the store
                reader._generation.reopen(name)
            mirror.start(reader._generation.reopen)
        return reader

    @classmethod
    def _of(
        cls, place: Place, pointer: Pointer, before: "LakeReader | None", mirror: Mirror | None
    ) -> "LakeReader":
        generation = Generation(place, pointer, before._generation if before else None, mirror)
        generation.check()
        return cls(generation, Opened(before._opened if before else None), mirror)

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
        """See ``Reader``; files stay open until the last search that uses them ends."""
        if self._mirror:
            self._mirror.close()

    # Filters.

    def knows(self, filter_text: str) -> bool:
        """See ``Reader``."""
        return self._vectors.knows(filter_text)

    def prepare(self, filter: Filter) -> None:
        """See ``Reader``."""
        self._vectors.choose(filter)

    def unknown_fields(self, filter: Filter) -> dict[str, str]:
        """See ``Reader``."""
        if not filter.metadata_fields:
            return {}
        names = field_names(self._generation)
        there = set(names)
        return {
            field.name: next(iter(get_close_matches(field.name, [*BUILT_IN, *names], 1)), "")
            for field in filter.metadata_fields
            if not there.intersection(field.keys)
        }

    def _passing(self, filter: Filter | None) -> NDArray[np.bool_] | None:
        return None if filter is None else self._vectors.choose(filter).documents

    # Vectors.

    @property
    def is_exact(self) -> bool:
        """See ``Reader``."""
        return self._generation.pointer.ann is None

    def search_vectors(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        filter: Filter | None = None,
        exact: bool = False,
    ) -> VectorHits:
        """See ``Reader``."""
        return self._vectors.search(queries, k, filter, exact=exact)

    def score_vectors(
        self, query: NDArray[np.float32], vector_ids: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """See ``Reader``."""
        scores = np.full(len(vector_ids), -np.inf, dtype=np.float32)
        found, inside = self._vectors.vectors(np.asarray(vector_ids, np.int64))
        scores[inside] = found @ query
        return scores

    def vectors(self, vector_ids: Sequence[int]) -> NDArray[np.float32]:
        """See ``Reader``."""
        vectors = np.zeros((len(vector_ids), self.info.model.dim), np.float32)
        found, inside = self._vectors.vectors(np.array(vector_ids, np.int64))
        vectors[inside] = found
        return vectors

    def passage_vector(self, document_id: int, ordinal: int) -> NDArray[np.float32]:
        """See ``Reader``."""
        vector_id = self._passages.stored(document_id, ordinal).chunk.vector_id
        found, inside = self._vectors.vectors(np.array([vector_id]))
        if not inside.all():
            raise self._generation.damaged("it names a vector that is not there")
        vector: NDArray[np.float32] = found[0]
        return vector

    def average_score(self, query: NDArray[np.float32]) -> float:
        """See ``Reader``."""
        return float(self._vectors.centre @ query)

    def segments(self) -> list[SegmentInfo]:
        """See ``Reader``: all vectors are in one table."""
        return self._generation.segments()

    # Words.

    @property
    def has_lexical_index(self) -> bool:
        """See ``Reader``."""
        return self._words.is_there

    def search_lexical(self, text: str, k: int, *, filter: Filter | None = None) -> LexicalHits:
        """See ``Reader``."""
        return self._words.search(text, k, self._texts(filter))

    def score_texts_of_vectors(
        self,
        text: str,
        vector_ids: NDArray[np.int64],
        most: int | None = None,
        *,
        filter: Filter | None = None,
    ) -> LexicalHits:
        """See ``Reader``."""
        return self._words.score(text, vector_ids, most, self._texts(filter))

    def score_texts(
        self, text: str, text_ids: NDArray[np.int64], *, filter: Filter | None = None
    ) -> LexicalHits:
        """See ``Reader``."""
        return self._words.score_texts(text, text_ids, self._texts(filter))

    def lexical_warnings(self, text: str) -> tuple[str, ...]:
        """See ``Reader``."""
        return self._words.warnings(text)

    def term_finder(self, text: str) -> TermFinder:
        """See ``Reader``."""
        return TermFinder(text, self.info.language)

    def _texts(self, filter: Filter | None) -> IdSet | None:
        return None if filter is None else self._vectors.choose(filter).texts

    # Places of texts.

    def first_places(
        self,
        groups: Sequence[Sequence[TextKey]],
        limit: int,
        filter: Filter | None = None,
        *,
        named: Sequence[TextKey] | None = None,
    ) -> list[list[list[PassageKey]]]:
        """See ``Reader``."""
        return self._places.first(groups, limit, self._passing(filter), named)

    def count_places(
        self, texts: Sequence[TextKey], named: Sequence[TextKey], filter: Filter | None = None
    ) -> list[int]:
        """See ``Reader``."""
        return self._places.counts(texts, named, self._passing(filter))

    def passages_of_documents(
        self, document_ids: Sequence[int]
    ) -> dict[int, list[DocumentPassage]]:
        """See ``Reader``."""
        places = self._generation.places
        found = {}
        for document_id in document_ids:
            these = self._generation.passages_of(document_id)
            columns = (places.ordinals, places.vectors, places.texts)
            rows = zip(*(column[these].tolist() for column in columns), strict=True)
            found[document_id] = [DocumentPassage(*row) for row in rows]
        return found

    def sample_places(self, count: int) -> list[PassageKey]:
        """See ``Reader``."""
        places = self._generation.places
        count = min(count, self.info.chunks)
        step = max(1, self.info.chunks // max(1, count))
        rows = zip(places.documents[::step].tolist(), places.ordinals[::step].tolist(), strict=True)
        return list(rows)[:count]

    # Passages.

    def passages(self, hits: Sequence[Hit]) -> list[Passage]:
        """See ``Reader``."""
        places = [(hit.document_id, hit.ordinal) for hit in hits]
        found = self._recent.get_or_read(places, self._passages.passages)
        passages = []
        for hit, place in zip(hits, places, strict=True):
            passage, vector_id = found[place]
            if vector_id != hit.vector_id:
                raise self._generation.damaged(
                    f"it takes passage {hit.ordinal} of {passage.uri} for another"
                )
            passages.append(passage._replace(score=hit.score, scores=hit.scores))
        return passages

    def passage(self, document_id: int, ordinal: int) -> Passage:
        """See ``Reader``."""
        return self._passages.passages([(document_id, ordinal)])[document_id, ordinal].passage

    def neighbours(
        self, document_id: int, ordinal: int, *, before: int = 0, after: int = 0
    ) -> list[Passage]:
        """See ``Reader``."""
        self.passage(document_id, ordinal)
        (around,) = self.neighbours_of([(document_id, ordinal)], before=before, after=after)
        return around

    def neighbours_of(
        self, places: Sequence[PassageKey], *, before: int = 0, after: int = 0
    ) -> list[list[Passage]]:
        """See ``Reader``."""
        ranges = [(document, ordinal - before, ordinal + after) for document, ordinal in places]
        found = self._passages.ranges(ranges)
        return [
            [
                found[document, at].passage
                for at in range(first, last + 1)
                if at != ordinal and (document, at) in found
            ]
            for (document, first, last), (_, ordinal) in zip(ranges, places, strict=True)
        ]

    def section_spans(self, places: Sequence[PassageKey], most_chars: int) -> list[SectionSpan]:
        """See ``Reader``."""
        return section_spans(places, most_chars, self._passages.neighbours)

    def sections(self, spans: Sequence[tuple[int, SectionSpan]]) -> list[SectionText]:
        """See ``Reader``."""
        pieces = [TextPiece(document_id, one.start, one.end) for document_id, one in spans]
        return [
            SectionText(text, one.start, one.end, one.complete)
            for (_, one), text in zip(spans, self._passages.texts(pieces), strict=True)
        ]

    # Documents.

    def document(self, document_id: int) -> DocumentRow:
        """See ``Reader``."""
        rows, _ = self._generation.document_rows.find(np.array([document_id], np.int64))
        if not len(rows):
            raise NotFound(f"no document {document_id}")
        return self._passages.documents(rows)[0]

    def document_by_uri(self, uri: str) -> DocumentRow:
        """See ``Reader``."""
        row = self._generation.find_uri(uri)
        if row is None:
            raise NotFound(f"no document {uri}")
        return self._passages.documents(np.array([row]))[0]

    def document_text(self, document_id: int) -> str:
        """See ``Reader``."""
        return self.text_part(document_id, CharRange()).text

    def text_part(
        self, document_id: int, asked: TextRange, most_chars: int | None = None
    ) -> TextPart:
        """See ``Reader``."""
        document = self.document(document_id)
        return LakeTextParts(self._generation, self._passages, document).read(asked, most_chars)

    def documents(
        self, limit: int, after_uri: str = "", filter: Filter | None = None
    ) -> list[DocumentRow]:
        """See ``Reader``."""
        # NUL is the smallest character, so this is the first text after the URI.
        rows = self._generation.rows_by_uri(after_uri + "\0" if after_uri else "")
        if (passing := self._passing(filter)) is not None:
            rows = rows[passing[self._generation.numbers(DOCUMENTS, "id")[rows]]]
        return self._passages.documents(rows[: max(0, limit)])

    def count_documents(self, filter: Filter | None = None) -> DocumentCounts:
        """See ``Reader``."""
        passing = self._passing(filter)
        if passing is None:
            return DocumentCounts(self.info.documents, self.info.chunks)
        chosen = passing[self._generation.numbers(DOCUMENTS, "id")]
        passages = self._generation.numbers(DOCUMENTS, "chunk_count")[chosen].sum()
        return DocumentCounts(int(chosen.sum()), int(passages))

    def skipped(self, limit: int | None = None, after_uri: str = "") -> list[Skipped]:
        """See ``Reader``."""
        columns = ("uri", "root", "reason", "detail")
        condition = pc.field("uri") > after_uri
        table = self._generation.read(SKIPPED, columns, condition).sort_by("uri")
        table = table if limit is None else table.slice(0, limit)
        rows = zip(*(table.column(name).to_pylist() for name in columns), strict=True)
        return [Skipped(*row) for row in rows]

    def skip_counts(self) -> dict[str, int]:
        """See ``Reader``."""
        reasons = self._generation.read(SKIPPED, ["reason"]).column("reason")
        return {one["values"]: one["counts"] for one in pc.value_counts(reasons).to_pylist()}

    def fields(self) -> list[FieldInfo]:
        """See ``Reader``."""
        return list_fields(self._generation)

    def field_values(self, name: str, containing: str, limit: int) -> list[FieldValue]:
        """See ``Reader``."""
        return list_values(self._generation, name, containing, limit)
