"""What somebody typed → a query of the lexical index.

Words count each for itself; none must be there. Besides, these are understood:

- ``"exactly these words"``: the words and, on top, the phrase;
- ``config*``, ``get_user*``: words that begin so;
- ``title:install``, ``title:"quick start"``: in the title and headings alone.

Whatever else is in it, as in code or an error message, is text like any other.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import tantivy

from retrieval.store.disk.lexical.analysis import (
    UNSPACED_RUN,
    fold,
    identifiers_of,
    in_parts,
    is_character,
    plain_terms,
    words_of,
)
from retrieval.store.disk.lexical.lexical_index import (
    IDENTIFIERS,
    PLAIN,
    PLAIN_TITLE,
    TITLE,
    WORDS,
    LexicalIndex,
)

WEIGHTS: Final = {WORDS: 1.0, TITLE: 0.25, IDENTIFIERS: 0.5}
"""Of the fields' scores (benchmarks/store/lexical.py); titles are among the words, too."""

MAX_SPECIAL: Final = 32
"""Most phrases, beginnings and words of titles in a query; what is beyond counts as plain words."""

MAX_PHRASE_WORDS: Final = 128
"""Maximum number of words in all phrases and beginnings of a query. A phrase of 1,000 times the
same word takes 20 ms for each passage that repeats it as often."""

MAX_TERMS: Final = 1_024
"""Maximum number of different words that are looked up for a query, the rarest ones. Each costs as
much as there are passages with it, and the common ones hardly change a score."""

_PLAIN: Final = {WORDS: PLAIN, TITLE: PLAIN_TITLE}
"""Where the words of a field stand unstemmed, each at its place."""

_SCORED_WORDS: Final = 64
"""Words that a beginning stands for and that are scored by BM25 each: the most common ones."""

_OTHERS: Final = 0.5
"""What a text gets for having only others, as a share of what one of the most common would give it
at the average length. Texts differ less in length than would make up for the half."""

_MAX_LAST_WORDS: Final = 10_000
_MAX_LAST_PLACES: Final = 500_000
"""Words that may end a phrase, and texts with one of them, word by word. The engine takes 16,384
words, and a second for a million such texts; beyond, the last word may stand anywhere."""

_ROUNDING: Final = 1e-9
"""Keeps a term that every text has from making a logarithm infinite."""

_BM25_LIMIT: Final = 2.2
"""BM25 of a term is below its rarity times this (k1 + 1), however often it is in a text."""

_PART = re.compile(
    r'(?P<title>\btitle:)?(?:"(?P<phrase>[^"\n]+)"'
    r"|(?P<prefix>(?:\w|[^\x00-\x7f\s])(?:[\w./:@+#~>-]|[^\x00-\x7f\s])*+)\*(?!\S)"
    r'|(?P<word>[^\s"]+)|")'
)

_Clause = tuple[tantivy.Occur, tantivy.Query]


class Parts(NamedTuple):
    """What is in a query; nothing of it twice but its words."""

    text: str
    """All words, those of phrases, too; not those for titles alone."""
    phrases: Sequence[str]
    prefixes: Sequence[str]
    titles: Sequence[str]
    """Words for titles and headings alone."""
    title_phrases: Sequence[str]
    title_prefixes: Sequence[str]
    left_over: int
    """How many phrases, beginnings and words of titles are beyond the limits, and count as plain
    words."""


class WordsQuery(NamedTuple):
    """What a query's text becomes."""

    query: tantivy.Query | None
    """None: there is nothing in it to look for."""
    warnings: tuple[str, ...] = ()
    """Which limits it exceeds, in sentences without an end."""


def parts_of(text: str) -> Parts:
    """Take a query apart.

    Beyond ``MAX_SPECIAL`` phrases and beginnings, or ``MAX_PHRASE_WORDS`` words in them, all are
    words.
    """
    words: list[str] = []
    special: dict[tuple[str, str], None] = {}
    room = MAX_PHRASE_WORDS
    left_over = 0
    for part in _PART.finditer(text):
        only_title, phrase, prefix, word = part.group("title", "phrase", "prefix", "word")
        if prefix and not _is_beginning(prefix):
            prefix, word = None, prefix
        what = phrase or prefix or word
        if not what:
            continue
        kind = "phrases" if phrase else "prefixes" if prefix else "titles" if only_title else ""
        if only_title and not word:
            kind = f"title_{kind}"
        taken = kind != "" and (kind, what) in special
        if kind and not taken and len(special) < MAX_SPECIAL:
            taken = word is not None or (length := _words_in(what)) <= room
            room -= length if taken and word is None else 0
        left_over += bool(kind) and not taken
        if taken:
            special[kind, what] = None
        if not taken or kind == "phrases":
            words.append(what)
    lists = {
        field: [what for kind, what in special if kind == field] for field in Parts._fields[1:-1]
    }
    return Parts(text=" ".join(words), left_over=left_over, **lists)


def _words_in(text: str) -> int:
    """The number of words in a phrase or a beginning, those of ``camelCase`` in parts."""
    return len(plain_terms(in_parts(fold(text))))


def _is_beginning(prefix: str) -> bool:
    """Whether it is long enough: two characters, or one of a script without spaces."""
    folded = fold(prefix)
    return len(folded.replace(" ", "")) > 1 or UNSPACED_RUN.search(folded) is not None


class Beginning(NamedTuple):
    """One form of a beginning."""

    words: Sequence[tuple[int, str]]
    """Each with its place; the last may go on."""
    whole: bool
    """Whether the last word is whole, too."""


def beginnings_of(prefix: str) -> list[Beginning]:
    """What begins as is wanted: ``getUser*`` is ``getuser*`` and, as ``get_user*``, ``get user*``.

    Ending in a sign (``os.path.*``), or in a character of a script without spaces, the last word is
    whole.
    """
    folded = fold(prefix)
    whole = folded.endswith(" ") or is_character(folded[-1:])
    forms = [plain_terms(form) for form in dict.fromkeys((folded, in_parts(folded)))]
    return [Beginning(words, whole) for words in forms if words]


def lexical_query(index: LexicalIndex, text: str) -> WordsQuery:
    """The query for a text.

    Args:
        index: which cuts it into terms as it cut the passages.
        text: as it was typed.
    """
    parts = parts_of(text)
    clauses: list[_Clause] = []
    for phrase in parts.phrases:
        clauses += _phrase(index, phrase)
    for phrase in parts.title_phrases:
        clauses += _title_phrase(index, phrase)
    for prefix in parts.prefixes:
        for field in (WORDS, TITLE):
            clauses += _beginning(index, _PLAIN[field], prefix, WEIGHTS[field])
    for prefix in parts.title_prefixes:
        clauses += _beginning(index, PLAIN_TITLE, prefix, weight=1.0)
    for word in parts.titles:
        clauses += _terms(index, TITLE, word, weight=1.0)
    for field, weight in WEIGHTS.items():
        clauses += _terms(index, field, parts.text, weight)
    query = tantivy.Query.boolean_query(clauses) if clauses else None
    return WordsQuery(query, tuple(_warnings(index, parts)))


def _warnings(index: LexicalIndex, parts: Parts) -> Iterator[str]:
    if parts.left_over:
        yield (
            f"of the phrases, prefixes and title words in the query {parts.left_over} count as "
            f"plain words: it has more than {MAX_SPECIAL}, or more than {MAX_PHRASE_WORDS} words "
            "in them"
        )
    for field in (WORDS, IDENTIFIERS):
        found = _rarest(index, _cut(index, field, parts.text))
        if len(found) > MAX_TERMS:
            yield (
                f"the query has {len(found)} different {field} that passages have; "
                f"only the {MAX_TERMS} rarest count"
            )


def _terms(index: LexicalIndex, field: str, text: str, weight: float) -> Iterator[_Clause]:
    """Each term of a text, as often as it is in it; at most the ``MAX_TERMS`` rarest."""
    terms = _cut(index, field, text)
    for where, term in _rarest(index, terms)[:MAX_TERMS]:
        query = tantivy.Query.term_query(index.schema, where, term, "freq")
        yield _should(query, weight * terms[where, term])


def _rarest(index: LexicalIndex, terms: Counter[tuple[str, str]]) -> list[tuple[str, str]]:
    """Different terms; where they are too many, those that a text has alone, the rarest first."""
    if len(terms) <= MAX_TERMS:
        return list(terms)
    having = {term: index.texts_with(*term) for term in terms}
    return sorted((term for term in terms if having[term]), key=having.__getitem__)


def _cut(index: LexicalIndex, field: str, text: str) -> Counter[tuple[str, str]]:
    """The terms of a text, and the field where each is looked up.

    Scripts without spaces are pairs of characters in a field; a single one is looked up where they
    are all single.
    """
    if field == IDENTIFIERS:
        terms = index.identifiers.analyze(identifiers_of(text))
    else:
        terms = index.words.analyze(words_of(text))
    return Counter((_PLAIN[field] if is_character(term) else field, term) for term in terms)


def _phrase(index: LexicalIndex, text: str) -> Iterator[_Clause]:
    """A phrase on top of its words.

    A text with the phrase gets more for it than the words could give to any without.
    """
    words = plain_terms(text)
    if len(words) <= 1:
        return
    most = sum(
        weight * count * index.rarity(index.texts_with(where, term))
        for field, weight in WEIGHTS.items()
        for (where, term), count in _cut(index, field, text).items()
    )
    phrase = _at_places(index, PLAIN, words)
    yield _should(phrase, WEIGHTS[WORDS])
    yield _should(_at_places(index, PLAIN_TITLE, words), WEIGHTS[TITLE])
    yield tantivy.Occur.Should, tantivy.Query.const_score_query(phrase, _BM25_LIMIT * most)


def _title_phrase(index: LexicalIndex, text: str) -> Iterator[_Clause]:
    words = plain_terms(text)
    if len(words) > 1:
        yield _should(_at_places(index, PLAIN_TITLE, words), 1.0)
    else:
        yield from _terms(index, TITLE, text, 1.0)


def _beginning(index: LexicalIndex, field: str, prefix: str, weight: float) -> Iterator[_Clause]:
    """Every text with words that begin so; where several words make up the beginning, the last."""
    queries = []
    for words, whole in beginnings_of(prefix):
        if whole:
            query: tantivy.Query | None = _at_places(index, field, words)
        elif len(words) > 1:
            query = _phrase_beginning(index, field, words)
        else:
            query = _word_beginning(index, field, words[0][1])
        if query is not None:
            queries.append(query)
    if queries:
        yield _should(tantivy.Query.disjunction_max_query(queries), weight)


def _word_beginning(index: LexicalIndex, field: str, prefix: str) -> tantivy.Query | None:
    """All words that begin so, each as rare as they are together; the best one in a text counts."""
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
    """A phrase whose last word begins so."""
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
    # The engine takes the pattern for a word that no text has.
    return tantivy.Query.boost_query(query, aim / (rarity + index.rarity(0)))


def _rarity_of_all(index: LexicalIndex, found: Sequence[tuple[str, int]]) -> float:
    """About how rare a text with any of some terms is: as if each were there by chance."""
    texts = max(1, index.texts)
    without = sum(math.log1p(-min(having / texts, 1 - _ROUNDING)) for _, having in found)
    return index.rarity(-math.expm1(without) * texts)


def _at_places(index: LexicalIndex, field: str, words: Sequence[tuple[int, str]]) -> tantivy.Query:
    """Words, each at its place from the first one on."""
    if len(words) == 1:
        return tantivy.Query.term_query(index.schema, field, words[0][1], "freq")
    return tantivy.Query.phrase_query(index.schema, field, list(words))


def _should(query: tantivy.Query, weight: float) -> _Clause:
    return tantivy.Occur.Should, tantivy.Query.boost_query(query, weight)
