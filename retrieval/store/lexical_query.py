"""What somebody typed → a query of the lexical index.

Words count each for itself; none must be there. Besides, these are understood:

- ``"exactly these words"``: the words and, on top, the phrase;
- ``config*``: words that begin so;
- ``title:install``, ``title:"quick start"``: in the title and headings alone.

Whatever else is in it, as in code or an error message, is text like any other.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import tantivy

from retrieval.store.analysis import identifiers_of, words_of
from retrieval.store.lexical import IDENTIFIERS, TITLE, WORDS, LexicalIndex

WEIGHTS: Final = {WORDS: 1.0, TITLE: 0.25, IDENTIFIERS: 0.5}
"""Of the fields' scores (benchmarks/lexical.py); titles are among the words, too."""

MAX_EXPANSION: Final = 64
"""Most words that a beginning stands for."""

MAX_SPECIAL: Final = 32
"""Most phrases, beginnings and words of titles in a query; what is beyond counts as plain words."""

_PART = re.compile(
    r'(?P<title>\btitle:)?(?:"(?P<phrase>[^"\n]+)"|(?P<prefix>\w{2,})\*(?!\S)|(?P<word>[^\s"]+)|")'
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


def parts_of(text: str) -> Parts:
    """Take a query apart; beyond ``MAX_SPECIAL`` phrases and beginnings, all are words."""
    words: list[str] = []
    special: dict[tuple[str, str], None] = {}
    for part in _PART.finditer(text):
        only_title, phrase, prefix, word = part.group("title", "phrase", "prefix", "word")
        what = phrase or prefix or word
        if not what:
            continue
        kind = "phrases" if phrase else "prefixes" if prefix else "titles" if only_title else ""
        if only_title and not word:
            kind = f"title_{kind}"
        taken = kind != "" and ((kind, what) in special or len(special) < MAX_SPECIAL)
        if taken:
            special[kind, what] = None
        if not taken or kind == "phrases":
            words.append(what)
    lists = ([what for kind, what in special if kind == field] for field in Parts._fields[1:])
    return Parts(" ".join(words), *lists)


def lexical_query(index: LexicalIndex, text: str) -> tantivy.Query | None:
    """The query for a text; None: there is nothing in it to look for.

    Args:
        index: which cuts it into terms as it cut the passages.
        text: as it was typed.
    """
    parts = parts_of(text)
    clauses: list[_Clause] = []
    for phrase in parts.phrases:
        clauses += _phrase(index, phrase, (WORDS, TITLE))
    for phrase in parts.title_phrases:
        clauses += _phrase(index, phrase, (TITLE,))
    for prefix in parts.prefixes:
        clauses += _prefix(index, prefix, (WORDS, TITLE))
    for prefix in parts.title_prefixes:
        clauses += _prefix(index, prefix, (TITLE,))
    for word in parts.titles:
        clauses += _terms(index, TITLE, word, weight=1.0)
    for field, weight in WEIGHTS.items():
        clauses += _terms(index, field, parts.text, weight)
    return tantivy.Query.boolean_query(clauses) if clauses else None


def _terms(index: LexicalIndex, field: str, text: str, weight: float) -> Iterator[_Clause]:
    """Each term of a text, as often as it is in it."""
    for term, count in Counter(_cut(index, field, text)).items():
        yield _should(tantivy.Query.term_query(index.schema, field, term, "freq"), weight * count)


def _phrase(index: LexicalIndex, text: str, fields: tuple[str, ...]) -> Iterator[_Clause]:
    terms = _cut(index, WORDS, text)
    for field in fields:
        if len(terms) > 1:
            phrase: list[str | tuple[int, str]] = list(terms)
            yield _should(tantivy.Query.phrase_query(index.schema, field, phrase), 1.0)
        elif len(fields) == 1:  # else it is counted among the words
            yield from _terms(index, field, text, 1.0)


def _prefix(index: LexicalIndex, prefix: str, fields: tuple[str, ...]) -> Iterator[_Clause]:
    """The best of the words that begin so."""
    beginning = "".join(words_of(prefix).lower().split())
    for field in fields:
        terms = index.terms_with_prefix(field, beginning, MAX_EXPANSION)
        queries = [tantivy.Query.term_query(index.schema, field, term, "freq") for term in terms]
        if queries:
            weight = 1.0 if len(fields) == 1 else WEIGHTS[field]
            yield _should(tantivy.Query.disjunction_max_query(queries), weight)


def _cut(index: LexicalIndex, field: str, text: str) -> list[str]:
    if field == IDENTIFIERS:
        return index.identifiers.analyze(identifiers_of(text))
    return index.words.analyze(words_of(text))


def _should(query: tantivy.Query, weight: float) -> _Clause:
    return tantivy.Occur.Should, tantivy.Query.boost_query(query, weight)
