"""Lines of a PDF page: their text and where they stand, as PDFium reads them.

PDFium returns characters in the order in which the page draws them. In documents made by word
processors and typesetters, columns are drawn in reading order.
"""

import ctypes
import math
import re
from bisect import bisect_left
from collections import Counter
from typing import Final, NamedTuple

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from indexer.parse.pdf.bidi import Glyph, has_right_to_left, in_reading_order, is_right_to_left

HYPHEN: Final = "\ufffe"
"""PDFium's replacement for a hyphen at the end of a line, which it joins with the next line."""
CELL_GAP: Final = 1.0
"""Pieces of a line at least this far apart, in type sizes, may be cells of a table. A space is 0.25
wide and seldom grows beyond 0.8 in justified text; LaTeX sets columns 1.2 apart."""

_USUAL_WIDTH: Final = 0.5
"""Greatest usual width of a character, in type sizes: that of Helvetica; Times has 0.42."""
_MEASURED_CHARS: Final = 20
"""Shorter lines say little about the usual width of a character."""
_WIDER: Final = 1.12
"""The usual width of a character varies less than this from line to line of a text."""
_NARROWER: Final = 0.8
"""Beside a line with a gap, a line may have one whose characters are this narrow."""
_TYPEWRITER: Final = (0.5995, 0.6005)
"""Width of each character of Courier and its kin, in type sizes: a line of them has no gap."""
_MUCH_WIDER: Final = 1.6
"""No type is wider than usual by more than this."""
_LEADERS: Final = ("....", ". . . .", "……", "____")
"""Dots of a table of contents; a line to write on."""
_MAX_RECTANGLES: Final = 200
"""Further parts of a line are not looked at."""
_SPACES: Final = re.compile(r"\s++")
_ASTRAL: Final = re.compile("[\U00010000-\U0010ffff]")


class Line(NamedTuple):
    """A line of a page, or a piece of one that stands apart."""

    text: str
    x: float = 0.0
    """Left edge, in points."""
    y: float = 0.0
    """Baseline, in points from the bottom of the page."""
    right: float = 0.0
    """Right edge."""
    size: float = 0.0
    """Type size in points; 0 if the place and the size are unknown."""
    end_y: float = 0.0
    """Baseline of its end: words that PDFium joined may go on in the next line of the page."""
    upright: bool = True
    """Whether it runs in the direction of most of the page's text. Others, such as stamps in the
    margin, are in no row or column of it."""


class _Turned(NamedTuple):
    """A line that doesn't run from left to right, on a page that isn't turned."""

    begin: tuple[float, float]
    """Origin of its first character."""
    end: tuple[float, float]
    """Origin of a character in its last line."""
    corners: tuple[tuple[float, float], tuple[float, float]]
    """Two corners of its last character."""
    turn: int
    """Direction of its text: quarter turns counterclockwise."""


def read_lines(page: pdfium.PdfPage) -> list[Line]:
    """Return the lines of a page that are not empty, in the order in which they are drawn.

    Pieces that stand apart on one line are lines of their own.

    Raises:
        pdfium.PdfiumError: the page is damaged.
    """
    text_page = page.get_textpage()
    try:
        return _Reader(text_page).lines()
    finally:
        text_page.close()


class _Reader:
    """Reads the characters of a page."""

    def __init__(self, text_page: pdfium.PdfTextPage) -> None:
        self._text_page = text_page
        self._page = text_page.raw
        self._text = text_page.get_text_range()
        self._astral: list[int] | None = None
        """Offsets of the characters beyond the basic plane, if PDFium's numbers of characters are
        not offsets of the text: it counts these as two, and characters that it leaves out."""
        if text_page.count_chars() != len(self._text):
            self._astral = [match.start() for match in _ASTRAL.finditer(self._text)]
        self._x, self._y = ctypes.c_double(), ctypes.c_double()
        self._edges_of_rectangle = [ctypes.c_double() for _ in range(4)]
        self._matrix, self._box = pdfium_c.FS_MATRIX(), pdfium_c.FS_RECTF()
        self._lines: list[Line] = []
        self._starts: list[int] = []
        """Offset of the first character of each line."""
        self._turned: dict[int, _Turned] = {}
        """Lines by their number."""
        self._turn = 0
        """Direction of most of the page's text."""

    def lines(self) -> list[Line]:
        """Return the lines that are not empty."""
        start = 0
        for raw in self._text.split("\r\n"):
            if line := raw.replace("\r", "").strip():
                self._place(line, start + len(raw) - len(raw.lstrip()))
            start += len(raw) + 2
        if self._turned:
            self._turn_page()
        return self._pieces()

    def _char(self, offset: int) -> int:
        """Return PDFium's number of the character at an offset of the text."""
        wide = offset + bisect_left(self._astral or (), offset)
        return int(pdfium_c.FPDFText_GetCharIndexFromTextIndex(self._page, wide))

    def _place(self, text: str, start: int) -> None:
        """Add a line with its place, on a page that isn't turned."""
        page, matrix, box, x, y = self._page, self._matrix, self._box, self._x, self._y
        first, last = start, start + len(text) - 1
        if self._astral is not None:
            first, last = self._char(first), self._char(last)
        pdfium_c.FPDFText_GetMatrix(page, first, matrix)
        pdfium_c.FPDFText_GetLooseCharBox(page, last, box)
        pdfium_c.FPDFText_GetCharOrigin(page, first, x, y)
        begin = end = x.value, y.value
        if HYPHEN in text:
            pdfium_c.FPDFText_GetCharOrigin(page, last, x, y)
            end = x.value, y.value
        size = pdfium_c.FPDFText_GetFontSize(page, first) * math.hypot(matrix.c, matrix.d)
        a, b = matrix.a, matrix.b
        if a <= abs(b):
            turn = round(math.atan2(b, a) / (math.pi / 2)) % 4
            corners = (box.left, box.bottom), (box.right, box.top)
            self._turned[len(self._lines)] = _Turned(begin, end, corners, turn)
        self._lines.append(Line(text, *begin, box.right, size, end[1]))
        self._starts.append(start)

    def _turn_page(self) -> None:
        """Turn the page so that most of its text runs from left to right."""
        turns = Counter[int]()
        for number, line in enumerate(self._lines):
            turns[self._turned[number].turn if number in self._turned else 0] += len(line.text)
        self._turn = turns.most_common(1)[0][0]
        for number, line in enumerate(self._lines):
            place = self._turned.get(number)
            if place is None:
                self._lines[number] = line._replace(upright=not self._turn)
            elif place.turn != self._turn:
                self._lines[number] = line._replace(upright=False)
            else:
                x, y = self._upright(place.begin)
                self._lines[number] = line._replace(
                    x=x,
                    y=y,
                    right=max(self._upright(corner)[0] for corner in place.corners),
                    end_y=self._upright(place.end)[1],
                )

    def _upright(self, place: tuple[float, float]) -> tuple[float, float]:
        """Return where a place is after the page is turned."""
        x, y = place
        return ((x, y), (y, -x), (-x, -y), (-y, x))[self._turn]

    def _pieces(self) -> list[Line]:
        """Return lines cut where their pieces stand apart, right-to-left ones in reading order."""
        lines = self._lines
        widths = [
            (line.right - line.x) / (line.size * len(line.text))
            for line in lines
            if len(line.text) >= _MEASURED_CHARS and line.size and line.upright
        ]
        # The lower quarter, as most lines of the page may have gaps.
        usual = min(_USUAL_WIDTH, *sorted(widths)[len(widths) // 4 :][:1], _USUAL_WIDTH)
        pieces: dict[int, list[Line]] = {}
        due = []
        right_to_left = has_right_to_left(self._text)
        from_right = right_to_left and is_right_to_left(self._text)
        for number, line in enumerate(lines):
            if line.upright and line.size:
                if right_to_left and has_right_to_left(line.text):
                    pieces[number] = self._right_to_left(number, from_right=from_right)
                elif _may_have_gap(line, _WIDER * usual):
                    due.append(number)
        # A gap may hide in a long line, but seldom in all rows of a table.
        seen = set(pieces)
        while due:
            number = due.pop()
            if 0 <= number < len(lines) and number not in seen:
                seen.add(number)
                if not _may_have_gap(lines[number], _NARROWER * usual):
                    continue
                cut = self._cut(number, usual)
                if len(cut) > 1:
                    pieces[number] = cut
                    due += (number - 1, number + 1)
        if not pieces:
            return lines
        return [piece for n, line in enumerate(lines) for piece in pieces.get(n, (line,))]

    def _cut(self, number: int, usual: float) -> list[Line]:
        """Return the pieces of a line between its wide gaps.

        Args:
            number: of the line.
            usual: usual width of a character, in type sizes.
        """
        line, begin = self._lines[number], self._starts[number]
        text, limit = line.text, CELL_GAP * line.size
        if has_leader(text):
            return [line]
        # Pieces that stand apart are mostly drawn apart. Only a line that is very wide is worth
        # the time to look at each of its spaces.
        first, last = begin, begin + len(text) - 1
        if self._astral is not None:
            first, last = self._char(first), self._char(last)
        count = pdfium_c.FPDFText_CountRects(self._page, first, last - first + 1)
        very_wide = (line.right - line.x) / line.size > _MUCH_WIDER * usual * len(text)
        if not very_wide and (count <= 1 or not self._has_gap(count, limit)):
            return [line]
        pieces, start, x = [], 0, line.x
        for space in _SPACES.finditer(text):
            if space.end() - space.start() > 1:
                continue  # spaces that the author typed, as in program code
            left = self._edges(begin + space.start() - 1)[1]
            right = self._edges(begin + space.end())[0]
            if right - left > limit:
                piece = text[start : space.start()]
                pieces.append(Line(piece, x, line.y, left, line.size, line.end_y))
                start, x = space.end(), right
        return [*pieces, line._replace(text=text[start:], x=x)]

    def _has_gap(self, count: int, limit: float) -> bool:
        """Return whether there is a gap between the rectangles that PDFium counted last."""
        left, top, right, bottom = self._edges_of_rectangle
        spans = []
        for index in range(min(count, _MAX_RECTANGLES)):
            pdfium_c.FPDFText_GetRect(self._page, index, left, top, right, bottom)
            if self._turn:
                ends = [
                    self._upright((x.value, y.value))[0] for x, y in ((left, bottom), (right, top))
                ]
                spans.append((min(ends), max(ends)))
            else:
                spans.append((left.value, right.value))
        spans.sort()
        end = spans[0][1]
        for begin, stop in spans:
            if begin - end > limit:
                return True
            end = max(end, stop)
        return False

    def _edges(self, offset: int) -> tuple[float, float]:
        """Return the left and the right edge of the character at an offset of the text."""
        box = self._box
        char = offset if self._astral is None else self._char(offset)
        pdfium_c.FPDFText_GetLooseCharBox(self._page, char, box)
        if not self._turn:
            return box.left, box.right
        ends = [self._upright(place)[0] for place in ((box.left, box.bottom), (box.right, box.top))]
        return min(ends), max(ends)

    def _right_to_left(self, number: int, *, from_right: bool) -> list[Line]:
        """Return a line with right-to-left words in reading order, cut at wide gaps.

        Args:
            number: of the line.
            from_right: whether most of the page is read from right to left.
        """
        line, begin = self._lines[number], self._starts[number]
        edges = (self._edges(begin + index) for index in range(len(line.text)))
        chars = [Glyph(char, *ends) for char, ends in zip(line.text, edges, strict=True)]
        pieces: list[list[Glyph]] = [[]]
        for glyph in in_reading_order(chars, line.size, from_right=from_right):
            if glyph.text.isspace() and glyph.right - glyph.left > CELL_GAP * line.size:
                pieces.append([])
            else:
                pieces[-1].append(glyph)
        return [
            line._replace(
                text="".join(glyph.text for glyph in piece).strip(),
                x=min(glyph.left for glyph in piece),
                right=max(glyph.right for glyph in piece),
            )
            for piece in pieces
            if any(not glyph.text.isspace() for glyph in piece)
        ]


def has_leader(text: str) -> bool:
    """Whether a text has dots or a line that lead the eye over a gap."""
    return any(leader in text for leader in _LEADERS)


def _may_have_gap(line: Line, width: float) -> bool:
    """Return whether a line is wide enough for characters of a width, in type sizes, and a gap."""
    if not (line.upright and line.size):
        return False
    length, whole = len(line.text), (line.right - line.x) / line.size
    low, high = _TYPEWRITER
    return whole >= width * length + CELL_GAP and not low * length <= whole <= high * length
