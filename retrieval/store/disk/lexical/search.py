"""Search the lexical index of one generation by queries as they are typed."""

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import tantivy
from numpy.typing import NDArray

from retrieval.domain.bounded_cache import Recent
from retrieval.errors import NoLexicalIndex
from retrieval.store.disk.id_set import IdSet
from retrieval.store.disk.lexical.lexical_index import (
    NO_HITS,
    EngineQuery,
    LexicalIndex,
    engine_query,
)
from retrieval.store.lexical.query import parse_lexical_query
from retrieval.store.records import LexicalHits

_RECENT_QUERY_CHARS: Final = 256 << 10
"""Maximum size of the cached lexical queries, in characters of their texts."""
_CHARS_BESIDE_QUERY: Final = 8 << 10
"""Characters added to each cached query's size, because a query with 32 prefixes has thousands of
terms. So at most 32 queries are cached."""


class _KeptQuery(NamedTuple):
    """A cached lexical query."""

    chars: int
    made: EngineQuery


class WordSearch:
    """Searches by words; safe to share between threads.

    If a vector has only one text, its text id is given as 0.
    """

    def __init__(
        self,
        place: str,
        lexical: LexicalIndex | None,
        shared: NDArray[np.int64],
        *,
        has_passages: bool,
    ) -> None:
        """Take over an open lexical index.

        Args:
            place: the index, for messages.
            lexical: the lexical index; None if there is none that this version can search.
            shared: ids of the vectors that several texts share.
            has_passages: whether the index has any passages.
        """
        self._place = place
        self._lexical = lexical
        self._shared = shared
        self._has_passages = has_passages
        # A search uses its query several times, and prefixes take long to expand.
        self._recent_queries = Recent[str, _KeptQuery](
            _RECENT_QUERY_CHARS, lambda one: one.chars + _CHARS_BESIDE_QUERY
        )

    @property
    def is_there(self) -> bool:
        """Whether there is a lexical index that this version can search."""
        return self._lexical is not None or not self._has_passages

    def search(self, text: str, k: int, allowed: IdSet | None) -> LexicalHits:
        """Find the texts that match the words of a query best.

        Args:
            text: the query; see ``retrieval.store.lexical.query``.
            k: maximum number of texts, ≥ 1.
            allowed: ids of the texts to find; None for all.

        Raises:
            NoLexicalIndex: the index has no lexical index, or one of an older version.
        """
        return self._run(text, lambda words, query: words.search(query, k, allowed))

    def score(
        self, text: str, vector_ids: NDArray[np.int64], most: int | None, allowed: IdSet | None
    ) -> LexicalHits:
        """Score the texts of given vectors; see ``Reader.score_texts_of_vectors``."""
        return self._run(text, lambda words, query: words.score(query, vector_ids, most, allowed))

    def score_texts(
        self, text: str, text_ids: NDArray[np.int64], allowed: IdSet | None
    ) -> LexicalHits:
        """Score given texts; see ``Reader.score_texts``."""
        return self._run(text, lambda words, query: words.score_texts(query, text_ids, allowed))

    def warnings(self, text: str) -> tuple[str, ...]:
        """Return a sentence without a full stop for each limit that a lexical query exceeds.

        Raises:
            NoLexicalIndex: the index has no lexical index, or one of an older version.
        """
        return self._query_of(text).warnings

    def _run(
        self, text: str, find: Callable[[LexicalIndex, tantivy.Query], LexicalHits]
    ) -> LexicalHits:
        query = self._query_of(text).query
        if query is None or self._lexical is None:
            return NO_HITS
        hits = find(self._lexical, query)
        text_ids = np.where(np.isin(hits.vector_ids, self._shared), hits.text_ids, 0)
        return LexicalHits(hits.scores, hits.vector_ids, text_ids)

    def _query_of(self, text: str) -> EngineQuery:
        if (lexical := self._lexical) is not None:

            def make(texts: list[str]) -> dict[str, _KeptQuery]:
                return {
                    text: _KeptQuery(len(text), engine_query(lexical, parse_lexical_query(text)))
                    for text in texts
                }

            return self._recent_queries.get_or_read([text], make)[text].made
        if self.is_there:
            return EngineQuery(None)
        raise NoLexicalIndex(
            f"{self._place} has no words that this version can search: an older version made it; "
            "run `indexer build` on its documents once, which embeds nothing, "
            "or search in dense mode"
        )
