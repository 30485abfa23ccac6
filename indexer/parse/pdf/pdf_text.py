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
_LAST_WORD: Final = re.compile(r"\w+\Z")
_FIRST_WORD: Final = re.compile(r"\w*")
_LONGEST_PART: Final = 60
"""Longer parts of a broken word are cut, so that a page without a space takes linear time."""
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
        whole = text
        if HYPHEN in text:
            parts = text.split(HYPHEN)
            ends = [*(_last_word(part) for part in parts[:-1]), ""]
            starts = ["", *(_first_word(part) for part in parts[1:])]
            whole = " ".join(
                part[len(start) : max(len(start), len(part) - len(end))]
                for part, start, end in zip(parts, starts, ends, strict=True)
            )
        words.update(_WORD.findall(whole.lower()))
    return words


def join_words(text: str, known: Counter[str]) -> str:
    """Return a text whose words are no longer broken at the ends of lines.

    A hyphen stays if the rest of the document writes the word with one.

    Args:
        text: a text with ``HYPHEN`` where PDFium joined lines.
        known: the ``vocabulary`` of the document.
    """
    if HYPHEN not in text:
        return text
    above, *parts = text.split(HYPHEN)
    result = [above]
    for part in parts:
        keeps = _keeps_hyphen(_last_word(above).lower(), _first_word(part).lower(), known)
        result += ("-" if keeps else "", part)
        above = part
    return "".join(result)


def _keeps_hyphen(left: str, right: str, known: Counter[str]) -> bool:
    """Whether a word of two parts is written with a hyphen."""
    whole, compound = known[left + right], known[f"{left}-{right}"]
    if whole or compound:
        return compound > whole
    both = known[left] and known[right] and min(len(left), len(right)) >= _SHORTEST_PART
    return bool(both) or not right[:1].isalpha() or not left[-1:].isalpha()


def _last_word(text: str) -> str:
    match = _LAST_WORD.search(text[-_LONGEST_PART:])
    return match[0] if match else ""


def _first_word(text: str) -> str:
    match = _FIRST_WORD.match(text[:_LONGEST_PART])
    return match[0] if match else ""
