"""Reading an index: one generation, whole, for as long as the reader is open."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

import numpy as np
import tantivy
from numpy.typing import NDArray

from retrieval.domain.bounded_cache import Recent
from retrieval.errors import IndexDamaged, NoLexicalIndex
from retrieval.store.disk.id_set import IdSet
from retrieval.store.disk.info import SegmentInfo, load_segments
from retrieval.store.disk.lexical.lexical_index import NO_HITS, LexicalHits, LexicalIndex
from retrieval.store.disk.lexical.lexical_query import WordsQuery, lexical_query
from retrieval.store.disk.reading.contents import Contents
from retrieval.store.disk.reading.snapshot import Generation, open_generation
from retrieval.store.disk.tables.rows import stored_passage
from retrieval.store.disk.vectors.segments import VectorHits
from retrieval.store.disk.vectors.vector_index import VectorIndex
from retrieval.store.filters.language import Filter

_RECENT_QUERY_CHARS: Final = 256 << 10
"""Maximum size of the lexical queries kept in memory, in characters of their texts."""
_CHARS_BESIDE_QUERY: Final = 8 << 10
"""Characters that each query counts for besides its text: with 32 prefixes it has thousands of
terms. So at most 32 queries are kept."""


class _KeptQuery(NamedTuple):
    """A lexical query that is kept."""

    chars: int
    made: WordsQuery


class IndexReader(Contents):
    """One generation of an index; a context manager, safe to share between threads."""

    def __init__(self, generation: Generation) -> None:
        """Use ``open``."""
        super().__init__(generation.snapshot, generation.info)
        self._vectors = VectorIndex(
            generation.segments, generation.info.model.dim, generation.snapshot.rows
        )
        self._lexical = generation.lexical
        self._opened = generation.opened
        # One search looks for its words several times, and prefixes take long to look up.
        self._recent_queries = Recent[str, _KeptQuery](
            _RECENT_QUERY_CHARS, lambda one: one.chars + _CHARS_BESIDE_QUERY
        )
        shared = generation.snapshot.rows("SELECT vector_id FROM shared_vectors", [])
        self._shared = np.array([row[0] for row in shared], dtype=np.int64)
        """Vectors that several texts have."""
        self.look = generation.look
        """Tells what is open from any other generation and index: see ``look``."""

    @classmethod
    def open(cls, folder: Path, *, before: "IndexReader | None" = None) -> "IndexReader":
        """Open the last committed generation.

        A build may go on beside it: the reader holds a snapshot of the database and maps the
        files, which never change.

        Args:
            folder: the index.
            before: a reader of another generation, open or closed: files that both have are
                neither read again nor twice in memory.

        Raises:
            NotAnIndex: no index there, or nothing was committed yet.
            IndexVersionError: it was written by a newer version.
            IndexDamaged: a file is missing or not what the index recorded.
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
        """Let go of the snapshot and the files."""
        self._snapshot.close()

    def knows(self, filter_text: str) -> bool:
        """Whether a filter was evaluated lately, so that a search with it need not do that."""
        return self._vectors.knows(filter_text)

    def prepare(self, where: Filter) -> None:
        """Evaluate a filter; searches with it find the result remembered.

        Threads that ask for the same filter at once wait for the one that evaluates it.

        Raises:
            DeadlinePassed: nobody waits for the answer any more (see ``deadline``).
        """
        self._vectors.prepare(where)

    def search_vectors(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        where: Filter | None = None,
        exact: bool = False,
    ) -> VectorHits:
        """Find each query's nearest vectors.

        Args:
            queries: float32 [n, dim].
            k: how many, ≥ 1.
            where: only vectors of documents that pass this filter.
            exact: look at every vector, also where there is an approximate index.

        Returns:
            [n, k] scores and vector ids, best first; equal scores in order of vector id.

        Raises:
            InvalidArgument: queries of another shape.
        """
        return self._vectors.search(queries, k, where=where, exact=exact)

    @property
    def is_exact(self) -> bool:
        """Whether there is no approximate index: every search looks at every vector."""
        return self._vectors.is_exact

    def segments(self) -> list[SegmentInfo]:
        """Return what the vector files are, oldest first."""
        return load_segments(self._snapshot.rows)

    def passage_vector(self, document_id: int, ordinal: int) -> NDArray[np.float32]:
        """A passage's own vector, float32 [dim].

        Raises:
            NotFound: no such document or passage.
        """
        row = self._passage_row(document_id, ordinal)
        vector = self._vectors.vector(stored_passage(row).vector_id)
        if vector is not None:
            return vector
        raise IndexDamaged(f"{self.folder} names a vector that is in none of its files")

    def score_vectors(
        self, query: NDArray[np.float32], vector_ids: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """How near given vectors are to a query.

        Args:
            query: float32 [dim].
            vector_ids: int64 [m], of this generation.

        Returns:
            float32 [m] inner products; cosine similarity for unit vectors.
        """
        return self._vectors.scores(query, vector_ids)

    def vectors(self, vector_ids: Sequence[int]) -> NDArray[np.float32]:
        """Some vectors of this generation, float32 [n, dim]."""
        return self._vectors.vectors(np.array(vector_ids, dtype=np.int64))

    def average_score(self, query: NDArray[np.float32]) -> float:
        """How near the vectors of the index are to a query on average, as a sample of them says."""
        return float(self._vectors.centre @ query)

    @property
    def has_words(self) -> bool:
        """Whether there is a lexical index that this version can search."""
        return self._lexical is not None or not self.info.chunks

    def search_words(self, text: str, k: int, *, where: Filter | None = None) -> LexicalHits:
        """Find the passages' texts that fit the words of a query best.

        Args:
            text: the query, see ``retrieval.store.disk.lexical.lexical_query``.
            k: how many, ≥ 1.
            where: only texts of documents that pass this filter.

        Returns:
            at most k, those with none of the words left out. The text id of a vector's only text
            is 0, as it needs none to be told from others.

        Raises:
            NoLexicalIndex: the index has none, or those of an older version.
        """
        return self._fitting(
            text, where, lambda words, query, allowed: words.search(query, k, allowed)
        )

    def score_words(
        self,
        text: str,
        vector_ids: NDArray[np.int64],
        most: int | None = None,
        *,
        where: Filter | None = None,
    ) -> LexicalHits:
        """How well the texts of given vectors fit the words of a query; see ``search_words``.

        Args:
            text: the query.
            vector_ids: int64 [m].
            most: how many texts of each vector, the best of it; None: all.
            where: only texts of documents that pass this filter.

        Raises:
            NoLexicalIndex: the index has none, or those of an older version.
        """
        return self._fitting(
            text,
            where,
            lambda words, query, allowed: words.score(query, vector_ids, most, allowed),
        )

    def score_texts(
        self, text: str, text_ids: NDArray[np.int64], *, where: Filter | None = None
    ) -> LexicalHits:
        """How well given texts fit the words of a query; see ``search_words``.

        Args:
            text: the query.
            text_ids: int64 [m], as the tables have them.
            where: only texts of documents that pass this filter.

        Raises:
            NoLexicalIndex: the index has none, or those of an older version.
        """
        return self._fitting(
            text, where, lambda words, query, allowed: words.score_texts(query, text_ids, allowed)
        )

    def _fitting(
        self,
        text: str,
        where: Filter | None,
        find: Callable[[LexicalIndex, tantivy.Query, IdSet | None], LexicalHits],
    ) -> LexicalHits:
        """What is found by the words of a query, among the texts that a filter allows.

        The text id of a vector's only text is 0.
        """
        query = self._lexical_query(text)
        if query is None or self._lexical is None:
            return NO_HITS
        hits = find(self._lexical, query, self._vectors.allowed_texts(where))
        text_ids = np.where(np.isin(hits.vector_ids, self._shared), hits.text_ids, 0)
        return LexicalHits(hits.scores, hits.vector_ids, text_ids)

    def words_warnings(self, text: str) -> tuple[str, ...]:
        """Which limits a lexical query exceeds, in sentences without an end.

        Raises:
            NoLexicalIndex: the index has none, or those of an older version.
        """
        return self._words_query(text).warnings

    def _lexical_query(self, text: str) -> tantivy.Query | None:
        return self._words_query(text).query

    def _words_query(self, text: str) -> WordsQuery:
        if (lexical := self._lexical) is not None:

            def make(texts: list[str]) -> dict[str, _KeptQuery]:
                return {text: _KeptQuery(len(text), lexical_query(lexical, text)) for text in texts}

            return self._recent_queries.get_or_read([text], make)[text].made
        if self.has_words:
            return WordsQuery(None)
        raise NoLexicalIndex(
            f"{self.folder} has no words that this version can search: an older version made it; "
            "run `indexer build` on its documents once, which embeds nothing, "
            "or search in dense mode"
        )
