"""Highlights: the words of a passage that the query has, and the sentence with most of them."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from retrieval.domain.passages import Highlights, Span
from retrieval.store import TermFinder, TermSpan

# The end of a sentence, a blank line, or a line that begins an item, a heading or a table's row.
_BREAK: Final = re.compile(
    r"(?<=[.!?])[\"')\]]*\s+|[。！？]+|\n\s*\n|\n(?=\s*(?:[-*+#|>]|\d+[.)]))"
)


def highlight(finder: TermFinder, text: str, omitted: Sequence[tuple[int, int]] = ()) -> Highlights:
    """Return where a passage fits the words of a query.

    Args:
        finder: of the query.
        text: the passage's.
        omitted: as in ``Passage``; nothing is found there.

    Returns:
        every place of a term; and the sentence with most different ones, the first of equals, if
        there are any.
    """
    terms = finder.find(_blanked(text, omitted))
    best: Span | None = None
    most = at = 0
    for sentence in _sentences(text):
        inside = set()
        while at < len(terms) and terms[at].start < sentence.end:
            if terms[at].start >= sentence.start:
                inside.add(terms[at].term)
            at += 1
        if len(inside) > most:
            best, most = sentence, len(inside)
    return Highlights(tuple(_apart(terms)), best)


def _blanked(text: str, omitted: Sequence[tuple[int, int]]) -> str:
    """Return a text with spaces in place of some ranges."""
    parts, at = list[str](), 0
    for start, end in omitted:
        parts += (text[at:start], " " * (end - start))
        at = end
    return "".join([*parts, text[at:]])


def _apart(terms: Sequence[TermSpan]) -> Iterator[Span]:
    """Yield places in order; overlapping ones are joined."""
    start = end = 0
    for term in terms:
        if term.start < end:
            end = max(end, term.end)
        else:
            if end:
                yield Span(start, end)
            start, end = term.start, term.end
    if end:
        yield Span(start, end)


def _sentences(text: str) -> Iterator[Span]:
    """Yield the sentences of a text, without the white space around them."""
    start = 0
    for end, following in [(m.start(), m.end()) for m in _BREAK.finditer(text)] + [
        (len(text),) * 2
    ]:
        # A full stop of its own kind belongs to the sentence that it ends.
        stop = following if text[end:following].strip("。！？") == "" else end
        sentence = text[start:stop]
        if stripped := sentence.strip():
            first = start + len(sentence) - len(sentence.lstrip())
            yield Span(first, first + len(stripped))
        start = following
