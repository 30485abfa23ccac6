"""What every store offers to readers: one generation of an index, to search and to read."""

from collections.abc import Hashable, Sequence
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from retrieval.domain.passages import Hit, Passage, SectionText
from retrieval.domain.records import (
    DocumentCounts,
    DocumentRow,
    FieldInfo,
    FieldValue,
    IndexInfo,
    Skipped,
    TextPart,
    TextRange,
)
from retrieval.store.filters.language import Filter
from retrieval.store.records import (
    DocumentPassage,
    LexicalHits,
    PassageKey,
    SectionSpan,
    SegmentInfo,
    TermSpan,
    TextKey,
    VectorHits,
)

Version = Hashable
"""Identifies one generation of one index; equal only for the same generation."""


class TermFinder(Protocol):
    """Finds the terms of one query in texts with the analyzers of the lexical index."""

    def find(self, text: str) -> list[TermSpan]:
        """Return the span of every term in order; spans may overlap."""
        ...


class Reader(Protocol):
    """One generation of an index; a context manager, safe to share between threads.

    Slow methods raise DeadlinePassed when no client waits for them any more
    (``retrieval.domain.deadline``). Any method raises IndexDamaged if it finds a damaged part.
    """

    @property
    def info(self) -> IndexInfo:
        """Description and counts of the index."""
        ...

    @property
    def version(self) -> Version:
        """The result of ``read_version`` when the reader was opened."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def close(self) -> None:
        """Release the generation."""
        ...

    # Filters.

    def knows(self, filter_text: str) -> bool:
        """Whether the result of a filter is cached, so a search need not evaluate it."""
        ...

    def prepare(self, filter: Filter) -> None:
        """Evaluate a filter and cache the result for searches."""
        ...

    def unknown_fields(self, filter: Filter) -> dict[str, str]:
        """Return the metadata fields of a filter that no document has.

        Returns:
            for each unknown field the closest name of an existing one, or empty if none is close.
        """
        ...

    # Vectors.

    @property
    def is_exact(self) -> bool:
        """Whether every search is exact because there is no approximate index."""
        ...

    def search_vectors(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        filter: Filter | None = None,
        exact: bool = False,
    ) -> VectorHits:
        """Find each query's nearest vectors, best first; equal scores in order of vector id.

        Args:
            queries: float32 [n, dim], L2-normalised.
            k: maximum number of results for each query, ≥ 1.
            filter: if given, find only vectors of documents that pass this filter.
            exact: score every vector, even if there is an approximate index.

        Raises:
            InvalidArgument: the queries have another shape.
        """
        ...

    def score_vectors(
        self, query: NDArray[np.float32], vector_ids: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return the inner products, float32 [m], of a query [dim] and vectors of the index [m]."""
        ...

    def vectors(self, vector_ids: Sequence[int]) -> NDArray[np.float32]:
        """Return vectors of the index, float32 [n, dim]."""
        ...

    def passage_vector(self, document_id: int, ordinal: int) -> NDArray[np.float32]:
        """Return a passage's own vector, float32 [dim].

        Raises:
            NotFound: the document or the passage does not exist.
        """
        ...

    def average_score(self, query: NDArray[np.float32]) -> float:
        """Return a query's inner product with an average vector, estimated from a sample."""
        ...

    # Words. All of these methods raise NoLexicalIndex if ``has_lexical_index`` is false.

    @property
    def has_lexical_index(self) -> bool:
        """Whether the index can be searched by words."""
        ...

    def search_lexical(self, text: str, k: int, *, filter: Filter | None = None) -> LexicalHits:
        """Find the texts that match the words of a query best.

        Args:
            text: the query; see ``retrieval.store.lexical.query``.
            k: maximum number of texts, ≥ 1.
            filter: if given, find only texts of documents that pass this filter.

        Returns:
            at most k texts; texts with none of the words are left out.
        """
        ...

    def score_texts_of_vectors(
        self,
        text: str,
        vector_ids: NDArray[np.int64],
        most: int | None = None,
        *,
        filter: Filter | None = None,
    ) -> LexicalHits:
        """Score the texts of given vectors; see ``search_lexical``.

        Args:
            text: the query.
            vector_ids: ids of the vectors, int64 [m].
            most: maximum number of texts for each vector, the best first; None for all.
            filter: if given, score only texts of documents that pass this filter.
        """
        ...

    def score_texts(
        self, text: str, text_ids: NDArray[np.int64], *, filter: Filter | None = None
    ) -> LexicalHits:
        """Score given texts, int64 [m]; see ``search_lexical``."""
        ...

    def lexical_warnings(self, text: str) -> tuple[str, ...]:
        """Return a sentence without a full stop for each limit that a lexical query exceeds."""
        ...

    def term_finder(self, text: str) -> TermFinder:
        """Return a finder for the terms of a query in passages."""
        ...

    # Places of texts.

    def first_places(
        self,
        groups: Sequence[Sequence[TextKey]],
        limit: int,
        filter: Filter | None = None,
        *,
        named: Sequence[TextKey] | None = None,
    ) -> list[list[list[PassageKey]]]:
        """Return the first passages that have the texts of some groups, in order of indexing.

        Args:
            groups: groups of texts, each in order.
            limit: maximum number of passages for each group.
            filter: if given, return only passages of documents that pass this filter.
            named: all texts of the ranking; None if these are the texts of the groups.

        Returns:
            for each group, the passages of its first texts until there are ``limit`` of them.
            Texts after that are left out.
        """
        ...

    def count_places(
        self, texts: Sequence[TextKey], named: Sequence[TextKey], filter: Filter | None = None
    ) -> list[int]:
        """Count the passages that have each of some texts; see ``first_places``."""
        ...

    def passages_of_documents(
        self, document_ids: Sequence[int]
    ) -> dict[int, list[DocumentPassage]]:
        """Return the passages of each document, in order."""
        ...

    # Passages.

    def passages(self, hits: Sequence[Hit]) -> list[Passage]:
        """Read the passages that a search has found, in its order.

        Raises:
            NotFound: a document or passage does not exist.
        """
        ...

    def passage(self, document_id: int, ordinal: int) -> Passage:
        """Read one passage.

        Raises:
            NotFound: the document or the passage does not exist.
        """
        ...

    def neighbours(
        self, document_id: int, ordinal: int, *, before: int = 0, after: int = 0
    ) -> list[Passage]:
        """Read the passages around a given one, in order and without it.

        Raises:
            NotFound: the document or the passage does not exist.
        """
        ...

    def neighbours_of(
        self, places: Sequence[PassageKey], *, before: int = 0, after: int = 0
    ) -> list[list[Passage]]:
        """Read the passages around each given one, which must exist; see ``neighbours``."""
        ...

    def section_spans(self, places: Sequence[PassageKey], most_chars: int) -> list[SectionSpan]:
        """Find the span of the section around each of some passages.

        Args:
            places: the passages.
            most_chars: maximum length of a span, unless the passage itself is longer.

        Raises:
            NotFound: a document or passage does not exist.
        """
        ...

    def sections(self, spans: Sequence[tuple[int, SectionSpan]]) -> list[SectionText]:
        """Read the texts of spans; each span comes with the id of its document."""
        ...

    def sample_places(self, count: int) -> list[PassageKey]:
        """Return some passages, spread evenly over the index."""
        ...

    # Documents.

    def document(self, document_id: int) -> DocumentRow:
        """Return one document.

        Raises:
            NotFound: the document does not exist.
        """
        ...

    def document_by_uri(self, uri: str) -> DocumentRow:
        """Return one document by its URI.

        Raises:
            NotFound: the document does not exist.
        """
        ...

    def document_text(self, document_id: int) -> str:
        """Read a document's whole text.

        Raises:
            NotFound: the document does not exist.
        """
        ...

    def text_part(
        self, document_id: int, asked: TextRange, most_chars: int | None = None
    ) -> TextPart:
        """Read a part of a document's text.

        Args:
            document_id: the document.
            asked: the range; what lies beyond the text is empty.
            most_chars: maximum number of characters, ≥ 1; None for no limit. A longer range of
                characters is cut there, and a longer range of lines after its last whole line,
                unless its first line alone is too long.

        Raises:
            NotFound: the document does not exist.
        """
        ...

    def documents(
        self, limit: int, after_uri: str = "", filter: Filter | None = None
    ) -> list[DocumentRow]:
        """Return up to ``limit`` documents after a URI, in order of URI.

        Args:
            limit: maximum number of documents.
            after_uri: the URI; empty to begin with the first document.
            filter: if given, return only documents that pass this filter.
        """
        ...

    def count_documents(self, filter: Filter | None = None) -> DocumentCounts:
        """Count the documents that pass a filter, or all of them, and their passages."""
        ...

    def skipped(self, limit: int | None = None, after_uri: str = "") -> list[Skipped]:
        """Return files that the last builds left out, in order of URI; see ``documents``."""
        ...

    def skip_counts(self) -> dict[str, int]:
        """Return the numbers of files that the last builds left out, by reason."""
        ...

    def fields(self) -> list[FieldInfo]:
        """Return the fields that filters can compare: the built-in ones, then those of metadata."""
        ...

    def field_values(self, name: str, containing: str, limit: int) -> list[FieldValue]:
        """Return values of a field, the most frequent first, and equally frequent ones by text.

        Args:
            name: the field as a filter names it.
            containing: a part of the values, in any case; empty for all.
            limit: maximum number of values.

        Raises:
            InvalidArgument: the name is malformed, or values of the field are not listed.
        """
        ...

    def segments(self) -> list[SegmentInfo]:
        """Return the parts of the vectors, oldest first."""
        ...
