"""Parse a typed query into a lexical query: plain data, independent of any engine.

Every word adds to the score; none is required. In addition, this syntax is understood:

- ``"exactly these words"``: the words and, in addition, the phrase;
- ``config*``, ``get_user*``: words with this prefix;
- ``title:install``, ``title:"quick start"``: words in the title and headings only.

Anything else in a query, such as code or an error message, is ordinary text.
"""

import re
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from retrieval.store.lexical.folding import (
    UNSPACED_RUN,
    fold,
    in_parts,
    is_character,
    word_count,
)

Field = Literal["words", "title", "identifiers"]
"""A searched part of a passage: all its words, the words of its title and headings, or its
identifiers."""

WEIGHTS: Final[dict[Field, float]] = {"words": 1.0, "title": 0.25, "identifiers": 0.5}
"""Weights of the fields' scores (benchmarks/store/lexical.py). Words of titles count in ``words``
too."""

MAX_SPECIAL: Final = 32
"""Maximum number of phrases, prefixes and title words in a query; further ones count as plain
words."""

MAX_PHRASE_WORDS: Final = 128
"""Maximum number of words in all phrases and prefixes of a query. A phrase that repeats a word
1,000 times takes 20 ms for each passage that does the same."""

_PART = re.compile(
    r'(?P<title>\btitle:)?(?:"(?P<phrase>[^"\n]+)"'
    r"|(?P<prefix>(?:\w|[^\x00-\x7f\s])(?:[\w./:@+#~>-]|[^\x00-\x7f\s])*+)\*(?!\S)"
    r'|(?P<word>[^\s"]+)|")'
)


_Kind = Literal["phrase", "prefix", "title", "title_phrase", "title_prefix"]
_ORDER: Final[tuple[_Kind, ...]] = ("phrase", "title_phrase", "prefix", "title_prefix", "title")
"""Order of the clauses; a fixed order makes sums of scores reproducible to the last bit."""


class Terms(NamedTuple):
    """The words of a text, each counted as often as it occurs in the text."""

    field: Field
    text: str
    weight: float


class Phrase(NamedTuple):
    """Several consecutive words."""

    text: str
    weights: tuple[tuple[Field, float], ...]
    """The fields to search, each with its weight."""
    outranks_words: bool
    """Whether a passage with the phrase ranks above all passages that only have its words."""


class Prefix(NamedTuple):
    """Words with a prefix; ``getUser*`` stands for ``getuser*`` and for ``get user*``."""

    field: Field
    forms: tuple[str, ...]
    """Folded forms of the prefix. If a form has several words, they are consecutive, and only the
    last is a prefix."""
    whole: bool
    """Whether the last word is a whole word too, because the prefix ends in a sign (``os.path.*``)
    or in a character of a script without spaces."""
    weight: float


Clause = Terms | Phrase | Prefix


@dataclass(frozen=True, slots=True)
class LexicalQuery:
    """A parsed lexical query. The score of a passage is the sum over the clauses."""

    text: str
    """All words, including words of phrases, but not words for titles only."""
    clauses: tuple[Clause, ...]
    left_over: int
    """Number of phrases, prefixes and title words above the limits, which count as plain words."""


def parse_lexical_query(text: str) -> LexicalQuery:
    """Parse a query.

    Above ``MAX_SPECIAL`` phrases, prefixes and title words, or ``MAX_PHRASE_WORDS`` words in them,
    the rest count as plain words.
    """
    words: list[str] = []
    special: dict[tuple[_Kind, str], None] = {}
    room = MAX_PHRASE_WORDS
    left_over = 0
    for part in _PART.finditer(text):
        only_title, phrase, prefix, word = part.group("title", "phrase", "prefix", "word")
        if prefix and not _is_long_enough(prefix):
            prefix, word = None, prefix
        what = phrase or prefix or word
        if not what:
            continue
        kind = _kind(bool(only_title), bool(phrase), bool(prefix))
        taken = kind is not None and (kind, what) in special
        if kind and not taken and len(special) < MAX_SPECIAL:
            taken = word is not None or (length := word_count(in_parts(fold(what)))) <= room
            room -= length if taken and word is None else 0
        left_over += kind is not None and not taken
        if kind and taken:
            special[kind, what] = None
        if not taken or kind == "phrase":
            words.append(what)
    clauses = [
        clause
        for wanted in _ORDER
        for kind, what in special
        if kind == wanted
        for clause in _clauses(kind, what)
    ]
    joined = " ".join(words)
    clauses += [Terms(field, joined, weight) for field, weight in WEIGHTS.items() if joined]
    return LexicalQuery(joined, tuple(clauses), left_over)


def _kind(only_title: bool, phrase: bool, prefix: bool) -> _Kind | None:
    """Return the kind of a part of a query; None for a plain word."""
    if phrase:
        return "title_phrase" if only_title else "phrase"
    if prefix:
        return "title_prefix" if only_title else "prefix"
    return "title" if only_title else None


def _clauses(kind: _Kind, what: str) -> list[Clause]:
    """Return the clauses of a special part; a phrase of one word adds nothing to its word."""
    words, title = WEIGHTS["words"], WEIGHTS["title"]
    match kind:
        case "phrase":
            weights: tuple[tuple[Field, float], ...] = (("words", words), ("title", title))
            return [Phrase(what, weights, outranks_words=True)] if word_count(what) > 1 else []
        case "title_phrase" if word_count(what) > 1:
            return [Phrase(what, (("title", 1.0),), outranks_words=False)]
        case "prefix":
            return [_prefix("words", what, words), _prefix("title", what, title)]
        case "title_prefix":
            return [_prefix("title", what, 1.0)]
        case _:
            return [Terms("title", what, 1.0)]


def _is_long_enough(prefix: str) -> bool:
    """Whether a prefix has at least two characters, or one of a script without spaces."""
    folded = fold(prefix)
    return len(folded.replace(" ", "")) > 1 or UNSPACED_RUN.search(folded) is not None


def _prefix(field: Field, prefix: str, weight: float) -> Prefix:
    folded = fold(prefix)
    whole = folded.endswith(" ") or is_character(folded[-1:])
    forms = tuple(dict.fromkeys((folded, in_parts(folded))))
    return Prefix(field, forms, whole, weight)
