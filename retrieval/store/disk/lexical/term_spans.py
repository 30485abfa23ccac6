"""Find the terms of a query in a text, for highlights."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

import tantivy

from retrieval.store.disk.lexical.analysis import (
    identifiers_analyzer,
    plain_analyzer,
    plain_terms,
    words_analyzer,
)
from retrieval.store.lexical.folding import (
    BREAK,
    IDENTIFIER,
    TOKEN,
    UNSPACED_RUN,
    clusters,
    compatible,
    fold,
    identifiers_of,
    parts_of_words,
    words_of,
)
from retrieval.store.lexical.query import Clause, Phrase, Prefix, parse_lexical_query
from retrieval.store.records import TermSpan

_ASCII_TOKEN: Final = re.compile("[^ ]+")
_RAW_WORD: Final = re.compile("[A-Za-z0-9\x80-\U0010ffff]+")
_MAX_KNOWN: Final = 20_000
"""Maximum number of words whose terms are cached from one text to the next."""


_Token = tuple[int, int, str, bool]
"""Start and end in the text; the folded word, or character of a script without spaces; and whether
it is a character that directly follows another."""


class _Known(NamedTuple):
    """The cached terms of a word."""

    term: str
    """The query's term that the word matches, or the first that one of its parts matches; else
    empty."""
    plain: Sequence[str]
    """The word's term in a plain field; for ``camelCase`` also its parts, after a ``BREAK``."""


class TermFinder:
    """Finds the terms of one query in texts with the analyzers of the lexical index."""

    def __init__(self, query: str, language: str) -> None:
        """Analyze the query.

        Args:
            query: the query as typed; see ``retrieval.store.lexical.query``.
            language: language of the index.
        """
        self._analyzer = words_analyzer(language)
        parsed = parse_lexical_query(query)
        self._words = set(self._analyzer.analyze(words_of(parsed.text)))
        self._identifiers = set(identifiers_analyzer().analyze(identifiers_of(parsed.text)))
        self._sequences = frozenset(_sequences(parsed.clauses))
        self._known: dict[str, _Known] = {}

    def find(self, text: str) -> list[TermSpan]:
        """Return the span of every term in order; spans may overlap. Takes linear time."""
        spans = [
            TermSpan(match.start(), match.end(), term)
            for match in (IDENTIFIER.finditer(text) if self._identifiers else ())
            if (term := compatible(match.group()).lower()) in self._identifiers
        ]
        tokens = list(_tokens(text))
        self._learn({word for _, _, word, _ in tokens})
        last = (0, 0, "", False)
        for token in tokens:
            start, end, word, follows = token
            if term := self._known[word].term:
                spans.append(TermSpan(start, end, term))
            if follows and (pair := last[2] + word) in self._words:
                spans.append(TermSpan(last[0], end, pair))
            last = token
        if self._sequences:
            spans += self._in_sequence(tokens)
        return sorted(spans)

    def _learn(self, words: Iterable[str]) -> None:
        """Analyze the words that are not cached yet, all at once."""
        if len(self._known) > _MAX_KNOWN:
            self._known.clear()
        new = [word for word in words if word not in self._known]
        terms, plain = _terms(self._analyzer, new), _terms(plain_analyzer(), new)
        for word, term, plain_term in zip(new, terms, plain, strict=True):
            known, plain_terms = term if term in self._words else "", [plain_term or BREAK]
            for part in parts_of_words(word):
                inside = self._analyzer.analyze(part)
                known = known or next((term for term in inside if term in self._words), "")
                plain_terms += [BREAK, *plain_analyzer().analyze(part)]
            self._known[word] = _Known(known, plain_terms)

    def _in_sequence(self, tokens: Sequence[_Token]) -> Iterator[TermSpan]:
        """Yield the spans of words in phrases, and of words that begin with a prefix."""
        known = [self._known[word].plain for _, _, word, _ in tokens]
        words = [plain[0] for plain in known]
        places = list(range(len(words)))
        for place, plain in enumerate(known):
            if len(plain) > 1:
                words += plain[1:]
                places += [place] * (len(plain) - 1)
        for at in _covered(words, self._sequences):
            start, end, _, _ = tokens[places[at]]
            yield TermSpan(start, end, words[at])


def _sequences(clauses: Iterable[Clause]) -> Iterator[str]:
    """Yield the strings to find in words joined by spaces, without clauses for titles only."""
    for clause in clauses:
        match clause:
            case Phrase(text, outranks_words=True):
                yield f" {_joined(plain_terms(text))} "
            case Prefix("words", forms, whole):
                for words in filter(None, map(plain_terms, forms)):
                    yield f" {_joined(words)} " if whole else f" {_joined(words)}"
            case _:
                pass


def _joined(words: Sequence[tuple[int, str]]) -> str:
    placed = dict(words)
    return " ".join(placed.get(at, BREAK) for at in range(words[0][0], words[-1][0] + 1))


def _covered(words: Sequence[str], sequences: Iterable[str]) -> Iterator[int]:
    """Yield the positions of words that are in any of some sequences."""
    joined = f" {' '.join(words)} "
    starts = list(accumulate((len(word) + 1 for word in words), initial=0))
    changes = [0] * (len(words) + 1)
    for sequence in sequences:
        length = len(sequence.rstrip())
        at = joined.find(sequence)
        while at >= 0:
            changes[bisect_right(starts, at) - 1] += 1
            changes[bisect_right(starts, at + length - 1)] -= 1
            at = joined.find(sequence, at + 1)
    return (at for at, depth in enumerate(accumulate(changes)) if depth)


def _terms(analyzer: tantivy.TextAnalyzer, words: Sequence[str]) -> list[str]:
    """Return the term of each word; empty if the analyzer drops the word."""
    terms = [""] * len(words)
    for token in analyzer.pre_tokenize(" ".join(words)).tokens:
        terms[token.position] = token.text
    return terms


def _tokens(text: str) -> Iterator[_Token]:
    """Yield the folded words of a text with their places."""
    folded = fold(text)
    if len(folded) == len(text) and compatible(text) == text:  # each character was folded to one
        yield from _cut(folded, range(len(text)), range(1, len(text) + 1))
    elif (aligned := _aligned(text, folded)) is not None:
        yield from _cut(folded, *aligned)
    else:  # the characters of some word can't be aligned, so find that word as a whole
        for match in _RAW_WORD.finditer(text):
            folded = fold(match.group())
            starts, ends = _aligned(match.group(), folded) or (
                [0] * len(folded),
                [len(match.group())] * len(folded),
            )
            for start, end, word, follows in _cut(folded, starts, ends):
                yield start + match.start(), end + match.start(), word, follows


def _cut(folded: str, starts: Sequence[int], ends: Sequence[int]) -> Iterator[_Token]:
    """Yield the words of a folded text, given the place of each character before folding."""
    for match in (_ASCII_TOKEN if folded.isascii() else TOKEN).finditer(folded):
        word, start, end = match.group(), match.start(), match.end()
        if UNSPACED_RUN.match(word):
            for at, character in enumerate(word, start):
                yield starts[at], ends[at], character, at > start
        else:
            yield starts[start], ends[end - 1], word, False


def _aligned(text: str, folded: str) -> tuple[list[int], list[int]] | None:
    """Return the place of each character before folding; None if it can't be determined."""
    starts: list[int] = []
    ends: list[int] = []
    known: dict[str, str] = {}
    parts: list[str] = []
    start = 0
    for cluster in clusters(text):
        end = start + len(cluster)
        if (part := known.get(cluster)) is None:
            part = known[cluster] = fold(cluster)
        parts.append(part)
        starts += [start] * len(part)
        ends += [end] * len(part)
        start = end
    return (starts, ends) if "".join(parts) == folded else None
