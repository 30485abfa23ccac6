"""The text of a PDF's pages: lines, paragraphs and words, from what PDFium reads.

PDFium gives characters in the order in which the page draws them, which for documents made by
word processors and typesetters is the order in which columns are read.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Final

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

HYPHEN: Final = "\ufffe"
"""What PDFium puts in place of a hyphen at a line's end, which it joins with the next."""

_WIDE: Final = 1.35
"""Lines this many times as far apart as most on the page have a blank line between them."""
_INDENT: Final = (0.6, 4.0)
"""First lines of paragraphs are indented by so much, in heights of a line, where they are."""
_SENTENCE_ENDS: Final = tuple(".!?:;\"'”’)")
_WORD: Final = re.compile(r"\w+(?:-\w+)*")
_BROKEN: Final = re.compile(rf"(\w*){HYPHEN}(\w*)")
_SHORTEST_PART: Final = 3
"""Shorter parts of words are words by chance."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line as it stands on a page."""

    text: str
    x: float = 0.0
    """Left of its first character, in points."""
    y: float = 0.0
    """Bottom of its first character, in points from the bottom of the page; 0 if not known."""
    size: float = 0.0
    """Size of the type, in points; 0 if not known."""


def read_lines(page: pdfium.PdfPage) -> list[Line]:
    """Lines of a page in the order in which they are drawn; empty ones left out.

    Raises:
        pdfium.PdfiumError: the page is damaged.
    """
    text_page = page.get_textpage()
    try:
        text = text_page.get_text_range()
        # Beyond the basic plane PDFium counts two: places would not be those of the characters.
        placed = len(text) == text_page.count_chars()
        lines = []
        start = 0
        for raw in text.split("\r\n"):
            if raw.strip():
                first = start + len(raw) - len(raw.lstrip())
                line = raw.replace("\r", "").strip()
                lines.append(_place(text_page, first, line) if placed else Line(line))
            start += len(raw) + 2
        return lines
    finally:
        text_page.close()


def _place(text_page: pdfium.PdfTextPage, index: int, text: str) -> Line:
    left, bottom, _, _ = text_page.get_charbox(index, loose=True)
    return Line(text, left, bottom, pdfium_c.FPDFText_GetFontSize(text_page, index))


def page_text(lines: Sequence[Line]) -> str:
    """Text of a page, paragraphs set apart by blank lines where they are set apart on it."""
    steps = [above.y - below.y for above, below in pairwise(lines)]
    usual = median([step for step in steps if step > 0] or [0.0])
    parts: list[str] = []
    for number, line in enumerate(lines):
        if number:
            parts.append("\n\n" if _parted(lines[number - 1], line, usual) else "\n")
        parts.append(line.text)
    return "".join(parts)


def _parted(above: Line, below: Line, usual: float) -> bool:
    """Whether a paragraph ends between two lines."""
    step = above.y - below.y
    if not usual:
        return False
    if step < -usual / 2:  # up again: the next column, where a paragraph may go on
        return above.text.endswith(_SENTENCE_ENDS) and not below.text[:1].islower()
    if step > _WIDE * usual:
        return True
    low, high = (share * usual for share in _INDENT)
    return low < below.x - above.x < high and above.text.endswith(_SENTENCE_ENDS)


def vocabulary(texts: Iterable[str]) -> Counter[str]:
    """Words of a document that are not broken at the end of a line, in lower case."""
    words: Counter[str] = Counter()
    for text in texts:
        words.update(_WORD.findall(_BROKEN.sub(" ", text).lower()))
    return words


def join_words(text: str, known: Counter[str]) -> str:
    """Put words together that were broken at the ends of lines.

    Whether the hyphen belongs to a word is told by how it is written elsewhere in the document.

    Args:
        text: with ``HYPHEN`` where PDFium joined lines.
        known: the document's ``vocabulary``.
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
