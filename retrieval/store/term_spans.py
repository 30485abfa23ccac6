"""Where the words of a query stand in a text."""

import re
from typing import Final, NamedTuple

from retrieval.store.analysis import (
    IDENTIFIER,
    UNSPACED_RUN,
    identifiers_analyzer,
    identifiers_of,
    words_analyzer,
    words_of,
)
from retrieval.store.lexical_query import parts_of

_WORD: Final = re.compile(r"\w+")
_MAX_KNOWN: Final = 20_000
"""Words whose terms are remembered."""


class TermSpan(NamedTuple):
    """Characters ``start`` to ``end`` of a text, and the term of the query that they are."""

    start: int
    end: int
    term: str


class TermFinder:
    """Finds the terms of one query in texts, as the lexical index would."""

    def __init__(self, query: str, language: str) -> None:
        """Cut the query.

        Args:
            query: as it was typed; see ``retrieval.store.lexical_query``.
            language: of the index.
        """
        self._analyzer = words_analyzer(language)
        parts = parts_of(query)
        self._words = set(self._analyzer.analyze(words_of(parts.text)))
        self._prefixes = tuple(prefix.lower() for prefix in parts.prefixes)
        self._identifiers = set(identifiers_analyzer().analyze(identifiers_of(parts.text)))
        self._known: dict[str, str] = {}

    def find(self, text: str) -> list[TermSpan]:
        """Every place of a term, in order; places do not overlap."""
        spans = [
            TermSpan(match.start(), match.end(), match.group().lower())
            for match in (IDENTIFIER.finditer(text) if self._identifiers else ())
            if match.group().lower() in self._identifiers
        ]
        for match in _WORD.finditer(text):
            if text.isascii() or UNSPACED_RUN.search(match.group()) is None:
                if term := self._term(match.group()):
                    spans.append(TermSpan(match.start(), match.end(), term))
            else:
                spans += self._pairs(match.group(), match.start())
        return _apart(spans)

    def _term(self, word: str) -> str:
        """The term of the query that a word is, or the first that is a part of it; else empty."""
        known = self._known.get(word)
        if known is None:
            terms = self._analyzer.analyze(words_of(word))
            known = next((term for term in terms if self._is_wanted(term)), "")
            if len(self._known) < _MAX_KNOWN:
                self._known[word] = known
        return known

    def _is_wanted(self, term: str) -> bool:
        return term in self._words or (bool(self._prefixes) and term.startswith(self._prefixes))

    def _pairs(self, word: str, start: int) -> list[TermSpan]:
        """Places in a word of a script without spaces."""
        return [
            TermSpan(start + at, start + at + size, word[at : at + size])
            for at in range(len(word))
            for size in (2, 1)
            if len(word[at : at + size]) == size and self._is_wanted(word[at : at + size])
        ]


def _apart(spans: list[TermSpan]) -> list[TermSpan]:
    """Spans in order, those that overlap made one."""
    apart: list[TermSpan] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        if apart and span.start < apart[-1].end:
            apart[-1] = apart[-1]._replace(end=max(apart[-1].end, span.end))
        else:
            apart.append(span)
    return apart
