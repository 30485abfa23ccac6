"""Text of PDF pages: paragraphs made of lines, and words that were broken at their ends."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import median
from typing import Final

from indexer.parse.pdf.lines import HYPHEN, Line

_WIDE: Final = 1.35
"""Lines this many times as far apart as usual on the page belong to different paragraphs."""
_INDENT: Final = (0.6, 4.0)
"""Smallest and largest indent of a paragraph's first line, in heights of a line."""
_SENTENCE_ENDS: Final = tuple(".!?:;\"'”’)")
_WORD: Final = re.compile(r"\w+(?:-\w+)*")
_BROKEN: Final = re.compile(rf"(\w{{0,60}}){HYPHEN}(\w{{0,60}})")
"""Bounded, so that a page without a space takes no more than linear time."""
_SHORTEST_PART: Final = 3
"""Shorter parts of a broken word are often words by chance."""


def page_text(lines: Sequence[Line]) -> str:
    """Return the text of a page, with blank lines between its paragraphs."""
    steps = [above.end_y - below.y for above, below in pairwise(lines)]
    usual = median([step for step in steps if step > 0] or [0.0])
    parts: list[str] = []
    for number, line in enumerate(lines):
        if number:
            parts.append("\n\n" if _parted(lines[number - 1], line, usual) else "\n")
        parts.append(line.text)
    return "".join(parts)


def _parted(above: Line, below: Line, usual: float) -> bool:
    """Whether a paragraph ends between two lines."""
    step = above.end_y - below.y
    if not usual:
        return False
    if step < -usual / 2:  # up again: the next column, where the paragraph may continue
        return above.text.endswith(_SENTENCE_ENDS) and not below.text[:1].islower()
    if step > _WIDE * usual:
        return True
    low, high = (share * usual for share in _INDENT)
    return low < below.x - above.x < high and above.text.endswith(_SENTENCE_ENDS)


def vocabulary(texts: Iterable[str]) -> Counter[str]:
    """Count the words, in lower case, that are not broken at the end of a line."""
    words: Counter[str] = Counter()
    for text in texts:
        whole = _BROKEN.sub(" ", text) if HYPHEN in text else text
        words.update(_WORD.findall(whole.lower()))
    return words


def join_words(text: str, known: Counter[str]) -> str:
    """Return a text whose words are no longer broken at the ends of lines.

    A hyphen stays if the rest of the document writes the word with one.

    Args:
        text: a text with ``HYPHEN`` where PDFium joined lines.
        known: the ``vocabulary`` of the document.
    """

    def join(match: re.Match[str]) -> str:
        first, second = match[1], match[2]
        left, right = first.lower(), second.lower()
        whole, compound = known[left + right], known[f"{left}-{right}"]
        if whole or compound:
            return first + second if whole >= compound else f"{first}-{second}"
        both = known[left] and known[right] and min(len(left), len(right)) >= _SHORTEST_PART
        hyphen = both or not right[:1].isalpha() or not left[-1:].isalpha()
        return f"{first}-{second}" if hyphen else first + second

    return _BROKEN.sub(join, text) if HYPHEN in text else text
