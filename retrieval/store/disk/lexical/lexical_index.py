"""Lexical search: BM25 over the terms of texts, by tantivy.

``engine_query`` turns a ``LexicalQuery`` into a query of the engine. Scores are BM25 with k1 = 1.2,
b = 0.75 (https://doi.org/10.1561/1500000019), summed over the clauses with their weights. All
segments share one set of statistics, so scores do not depend on the number of commits.
``WordSearch`` takes queries as they are typed.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import tantivy
from numpy.typing import NDArray

from retrieval.domain.bounded_cache import Recent
from retrieval.errors import NoLexicalIndex
from retrieval.store.disk.id_set import IdSet
from retrieval.store.disk.lexical.analysis import (
    identifiers_analyzer,
    plain_terms,
    words_analyzer,
)
from retrieval.store.lexical.folding import identifiers_of, is_character, words_of
from retrieval.store.lexical.query import (
    MAX_PHRASE_WORDS,
    MAX_SPECIAL,
    WEIGHTS,
    LexicalQuery,
    Phrase,
    Prefix,
    Terms,
    parse_lexical_query,
)
from retrieval.store.records import LexicalHits

WORDS: Final = "words"
TITLE: Final = "title"
PLAIN: Final = "plain"
PLAIN_TITLE: Final = "plain_title"
IDENTIFIERS: Final = "identifiers"
TEXT: Final = "text"
VECTOR: Final = "vector"
_FEW_IDS = 4_096
"""Up to this many eligible texts, the engine gets their ids; above, its hits are filtered."""
_WIDEN = 4
"""Factor by which to increase the number of hits if too many were filtered out."""

MAX_TERMS: Final = 1_024
"""Maximum number of distinct words of a query to look up, the rarest first. The cost of a word
grows with the number of passages that have it, and common words hardly change a score."""

_PLAIN: Final[dict[str, str]] = {WORDS: PLAIN, TITLE: PLAIN_TITLE}
"""For each field, the field with the same words unstemmed and with positions."""

_SCORED_WORDS: Final = 64
"""Number of words matching a prefix that BM25 scores one by one, the most common first."""

_OTHERS: Final = 0.5
"""Score of a text that only has other words with the prefix, as a fraction of the score that one of
the most common words gives in a text of average length. Differences in length change scores too
little to make up for a factor of a half."""

_MAX_LAST_WORDS: Final = 10_000
_MAX_LAST_PLACES: Final = 500_000
"""Limits on the words that may end a phrase, and on the texts that have them. The engine takes at
most 16,384 words, and needs a second for a million texts. Above either limit, the last word may be
anywhere in the text."""

_ROUNDING: Final = 1e-9
"""Keeps the logarithm finite for a term that every text has."""

_BM25_LIMIT: Final = 2.2
"""Upper limit of a term's BM25 score as a multiple of its rarity (k1 + 1), for any frequency."""

_RECENT_QUERY_CHARS: Final = 256 << 10
"""Maximum size of the cached lexical queries, in characters of their texts."""
_CHARS_BESIDE_QUERY: Final = 8 << 10
"""Characters added to each cached query's size, because a query with 32 prefixes has thousands of
terms. So at most 32 queries are cached."""

_Clause = tuple[tantivy.Occur, tantivy.Query]


NO_HITS: Final = LexicalHits(np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64))


def make_schema() -> tantivy.Schema:
    """Return the engine's schema; only the plain fields record positions."""
    return (
        tantivy.SchemaBuilder()
        .add_text_field(WORDS, tokenizer_name=WORDS, index_option="freq")
        .add_text_field(TITLE, tokenizer_name=WORDS, index_option="freq")
        .add_text_field(PLAIN, tokenizer_name=PLAIN)
        .add_text_field(PLAIN_TITLE, tokenizer_name=PLAIN)
        .add_text_field(IDENTIFIERS, tokenizer_name=IDENTIFIERS, index_option="freq")
        .add_unsigned_field(TEXT, indexed=True, fast=True)
        .add_unsigned_field(VECTOR, indexed=True, fast=True)
        .build()
    )


class LexicalIndex:
    """The lexical index of one generation; safe to share between threads."""

    def __init__(self, index: tantivy.Index, language: str) -> None:
        """Take over an open engine."""
        self.language = language
        self.words = words_analyzer(language)
        self.identifiers = identifiers_analyzer()
        self.schema = index.schema
        self._searcher = index.searcher()

    @property
    def texts(self) -> int:
        """Number of texts."""
        return int(self._searcher.num_docs)

    def search(self, query: tantivy.Query, k: int, allowed: IdSet | None) -> LexicalHits:
        """Find the texts that match best.

        Args:
            query: query made by ``engine_query``.
            k: maximum number of texts, ≥ 1.
            allowed: ids of the eligible texts; None for all.
        """
        if allowed is not None and allowed.count <= _FEW_IDS:
            return self._run(self._among(query, TEXT, allowed.ids()), min(k, allowed.count))
        most = max(1, self.texts)
        limit = k
        while True:
            limit = min(limit, most)
            hits = self._run(query, limit)
            found = len(hits.scores)
            if allowed is not None:
                hits = _take(hits, allowed.contains(hits.text_ids))
            if len(hits.scores) >= k or found < limit or limit == most:
                return _take(hits, slice(k))
            limit *= _WIDEN

    def score(
        self,
        query: tantivy.Query,
        vector_ids: NDArray[np.int64],
        most: int | None,
        allowed: IdSet | None,
    ) -> LexicalHits:
        """Score the texts of given vectors; texts with none of the words are left out.

        Args:
            query: see ``search``.
            vector_ids: ids of the vectors, int64 [m].
            most: maximum number of texts for each vector, the best first; None for all.
            allowed: see ``search``.
        """
        # Begin with a small limit: few vectors have several texts, and the engine allocates space
        # for the limit before it searches.
        limit = len(vector_ids) + 1
        highest = self.texts + 1 if most is None else len(vector_ids) + most
        while True:
            hits = self._run(self._among(query, VECTOR, vector_ids), limit)
            if len(hits.scores) < limit:
                return hits if allowed is None else _take(hits, allowed.contains(hits.text_ids))
            if limit >= highest:
                break
            limit = min(limit * _WIDEN, highest)
        # A vector has many texts. Search one by one, so it does not crowd out the others.
        parts = [
            self.search(found, most or highest, allowed)
            for one in np.unique(vector_ids)
            if (found := self._among(query, VECTOR, np.array([one]))) is not None
        ]
        joined = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        return LexicalHits._make(joined)

    def score_texts(
        self, query: tantivy.Query, text_ids: NDArray[np.int64], allowed: IdSet | None
    ) -> LexicalHits:
        """Score given texts, int64 [m]; texts with none of the words are left out."""
        hits = self._run(self._among(query, TEXT, text_ids), len(text_ids))
        return hits if allowed is None else _take(hits, allowed.contains(hits.text_ids))

    def terms_with_prefix(self, field: str, prefix: str) -> list[tuple[str, int]]:
        """Return a field's terms that begin with a prefix, with text counts, most common first."""
        return list(self._searcher.terms_with_prefix(field, prefix))

    def texts_with(self, field: str, term: str) -> int:
        """Count the texts that have a term in a field."""
        return self._searcher.doc_freq(field, term)

    def rarity(self, having: float) -> float:
        """Return BM25's inverse document frequency of a term, > 0.

        Args:
            having: number of texts that have the term.
        """
        return math.log1p((max(0.0, self.texts - having) + 0.5) / (having + 0.5))

    def _among(
        self, query: tantivy.Query, field: str, ids: NDArray[np.int64]
    ) -> tantivy.Query | None:
        """Restrict a query to given texts or vectors; return None if none are given."""
        if not len(ids):
            return None
        these = tantivy.Query.term_set_query(self.schema, field, ids.tolist())
        must = tantivy.Occur.Must
        both = [(must, query), (must, tantivy.Query.const_score_query(these, 0.0))]
        return tantivy.Query.boolean_query(both)

    def _run(self, query: tantivy.Query | None, limit: int) -> LexicalHits:
        """Run a query; return the best texts, best first."""
        if query is None or limit < 1:
            return NO_HITS
        hits: list[tuple[Any, tantivy.DocAddress]]
        hits = self._searcher.search(query, limit, count=False).hits
        addresses = [address for _, address in hits]
        vector_ids, text_ids = (
            np.array(self._searcher.fast_field_values(field, addresses), dtype=np.int64)
            for field in (VECTOR, TEXT)
        )
        scores = np.array([score for score, _ in hits], dtype=np.float64)
        found = LexicalHits(scores, vector_ids, text_ids)
        return _take(found, np.lexsort((text_ids, -scores)))


def _take(hits: LexicalHits, rows: NDArray[np.int64] | NDArray[np.bool_] | slice) -> LexicalHits:
    """Return the selected hits."""
    return LexicalHits(hits.scores[rows], hits.vector_ids[rows], hits.text_ids[rows])


class EngineQuery(NamedTuple):
    """A lexical query in the engine's form."""

    query: tantivy.Query | None
    """The engine's query; None if there is nothing to look for."""
    warnings: tuple[str, ...] = ()
    """A sentence without a full stop for each limit that the query exceeds."""


def engine_query(index: LexicalIndex, query: LexicalQuery) -> EngineQuery:
    """Turn a lexical query into a query of the engine.

    Args:
        index: index to search; it has the analyzers and the frequencies of terms.
        query: the lexical query.
    """
    clauses: list[_Clause] = []
    for clause in query.clauses:
        match clause:
            case Terms(field, text, weight):
                clauses += _terms(index, field, text, weight)
            case Phrase():
                clauses += _phrase(index, clause)
            case Prefix():
                clauses += _prefix(index, clause)
    made = tantivy.Query.boolean_query(clauses) if clauses else None
    return EngineQuery(made, tuple(_warnings(index, query)))


def _warnings(index: LexicalIndex, query: LexicalQuery) -> Iterator[str]:
    if query.left_over:
        yield (
            f"of the phrases, prefixes and title words in the query {query.left_over} count as "
            f"plain words: it has more than {MAX_SPECIAL}, or more than {MAX_PHRASE_WORDS} words "
            "in them"
        )
    for field in (WORDS, IDENTIFIERS):
        found = _rarest(index, _cut(index, field, query.text))
        if len(found) > MAX_TERMS:
            yield (
                f"the query has {len(found)} different {field} that passages have; "
                f"only the {MAX_TERMS} rarest count"
            )


def _terms(index: LexicalIndex, field: str, text: str, weight: float) -> Iterator[_Clause]:
    """Yield a weighted clause for each term of a text, or for the ``MAX_TERMS`` rarest."""
    terms = _cut(index, field, text)
    for field_of, term in _rarest(index, terms)[:MAX_TERMS]:
        query = tantivy.Query.term_query(index.schema, field_of, term, "freq")
        yield _should(query, weight * terms[field_of, term])


def _rarest(index: LexicalIndex, terms: Counter[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the distinct terms; above ``MAX_TERMS``, only those that texts have, rarest first."""
    if len(terms) <= MAX_TERMS:
        return list(terms)
    having = {term: index.texts_with(*term) for term in terms}
    return sorted((term for term in terms if having[term]), key=having.__getitem__)


def _cut(index: LexicalIndex, field: str, text: str) -> Counter[tuple[str, str]]:
    """Count the terms of a text, each with the field to look it up in.

    Fields of words hold scripts without spaces as pairs of characters. A single character is looked
    up in the plain field, which holds single characters.
    """
    if field == IDENTIFIERS:
        terms = index.identifiers.analyze(identifiers_of(text))
    else:
        terms = index.words.analyze(words_of(text))
    return Counter((_PLAIN[field] if is_character(term) else field, term) for term in terms)


def _phrase(index: LexicalIndex, phrase: Phrase) -> Iterator[_Clause]:
    """Yield a clause for a phrase in each of its fields."""
    words = plain_terms(phrase.text)
    found = [(_at_places(index, _PLAIN[field], words), weight) for field, weight in phrase.weights]
    for query, weight in found:
        yield _should(query, weight)
    if phrase.outranks_words:
        # Score the phrase higher than its words could score in any text without the phrase.
        most = sum(
            weight * count * index.rarity(index.texts_with(field_of, term))
            for field, weight in WEIGHTS.items()
            for (field_of, term), count in _cut(index, field, phrase.text).items()
        )
        query = tantivy.Query.const_score_query(found[0][0], _BM25_LIMIT * most)
        yield tantivy.Occur.Should, query


def _prefix(index: LexicalIndex, prefix: Prefix) -> Iterator[_Clause]:
    """Yield a clause for words with a prefix; in a form of several words, the last has it."""
    field = _PLAIN[prefix.field]
    queries = []
    for form in prefix.forms:
        words = plain_terms(form)
        query: tantivy.Query | None = None
        if words and prefix.whole:
            query = _at_places(index, field, words)
        elif len(words) > 1:
            query = _phrase_beginning(index, field, words)
        elif words:
            query = _word_beginning(index, field, words[0][1])
        if query is not None:
            queries.append(query)
    if queries:
        yield _should(tantivy.Query.disjunction_max_query(queries), prefix.weight)


def _word_beginning(index: LexicalIndex, field: str, prefix: str) -> tantivy.Query | None:
    """Return a query for words with a prefix, all equally rare; a text's best word counts."""
    found = index.terms_with_prefix(field, prefix)
    rarity = _rarity_of_all(index, found)
    queries = [
        tantivy.Query.boost_query(
            tantivy.Query.term_query(index.schema, field, term, "freq"),
            rarity / index.rarity(having),
        )
        for term, having in found[:_SCORED_WORDS]
    ]
    if len(found) > _SCORED_WORDS:
        others = tantivy.Query.regex_query(index.schema, field, f"{prefix}.*")
        queries.append(tantivy.Query.const_score_query(others, _OTHERS * rarity))
    return tantivy.Query.disjunction_max_query(queries) if queries else None


def _phrase_beginning(
    index: LexicalIndex, field: str, words: Sequence[tuple[int, str]]
) -> tantivy.Query | None:
    """Return a query for a phrase whose last word is a prefix."""
    *whole, (at, prefix) = words
    found = index.terms_with_prefix(field, prefix)
    if not found:
        return None
    rarity = sum(index.rarity(index.texts_with(field, word)) for _, word in whole)
    aim = rarity + _rarity_of_all(index, found)
    places = sum(having for _, having in found)
    if len(found) > _MAX_LAST_WORDS or places > _MAX_LAST_PLACES:
        must = tantivy.Occur.Must
        last = tantivy.Query.regex_query(index.schema, field, f"{prefix}.*")
        both = [(must, _at_places(index, field, whole)), (must, last)]
        return tantivy.Query.const_score_query(tantivy.Query.boolean_query(both), _OTHERS * aim)
    pattern: list[str | tuple[int, str]] = [*whole, (at, f"{prefix}.*")]
    query = tantivy.Query.regex_phrase_query(index.schema, field, pattern)
    # The engine weights the pattern like a word that no text has.
    return tantivy.Query.boost_query(query, aim / (rarity + index.rarity(0)))


def _rarity_of_all(index: LexicalIndex, found: Sequence[tuple[str, int]]) -> float:
    """Estimate the rarity of texts with any of some terms, assuming the terms are independent."""
    texts = max(1, index.texts)
    without = sum(math.log1p(-min(having / texts, 1 - _ROUNDING)) for _, having in found)
    return index.rarity(-math.expm1(without) * texts)


def _at_places(index: LexicalIndex, field: str, words: Sequence[tuple[int, str]]) -> tantivy.Query:
    """Return a query for words at their positions relative to the first."""
    if len(words) == 1:
        return tantivy.Query.term_query(index.schema, field, words[0][1], "freq")
    return tantivy.Query.phrase_query(index.schema, field, list(words))


def _should(query: tantivy.Query, weight: float) -> _Clause:
    return tantivy.Occur.Should, tantivy.Query.boost_query(query, weight)


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
