"""Lines of recognised text as lines of a page: their places, type sizes and reading order."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import median
from typing import Final

from indexer.parse.ocr.recognize import Recognized
from indexer.parse.pdf.lines import HYPHEN, Line

_TYPE_SIZE: Final = 0.8
"""Type size as a share of the height of a recognised line."""
_BASELINE: Final = 0.2
"""Where the baseline is, from the bottom of a line, in its heights."""
_LARGER: Final = 1.6
"""Heights of lines in one size of type differ by less than this factor, by their letters."""
_ALIKE: Final = 1.4
"""Lines of a heading, which follow each other, differ by less than this factor."""
_NEXT_LINE: Final = 2.5
"""Lines of a paragraph are at most this many type sizes apart."""
_BETWEEN_PARTS: Final = 1.5
"""Parts of a page are this many lines apart, from top to bottom."""
_MAX_DEPTH: Final = 6
"""Parts in parts of a page, at most."""
_PROSE_CHARS: Final = 25
"""Lines of columns have at least this many characters; most cells of tables have fewer."""


def recognized_lines(found: Sequence[Recognized], height: float, scale: float) -> list[Line]:
    """Return recognised lines in the order in which they are read.

    Args:
        found: the lines.
        height: of the picture, in pixels.
        scale: pixels of the picture for each point of the page.
    """
    found = [line for line in found if line.text.strip()]
    if not found:
        return []
    usual = median(line.bottom - line.top for line in found)
    lines: list[Line] = []
    last = usual
    for line in _in_order(found, usual, 0):
        tall = line.bottom - line.top
        if tall <= _LARGER * usual:
            last = usual
        elif last == usual or not last / _ALIKE < tall < last * _ALIKE:
            last = tall
        y = (height - line.bottom + _BASELINE * tall) / scale
        right, size = line.right / scale, _TYPE_SIZE * last / scale
        new = Line(line.text.strip(), line.left / scale, y, right, size, y)
        if lines and _breaks_word(lines[-1], new):
            lines[-1] = lines[-1]._replace(text=f"{lines[-1].text[:-1]}{HYPHEN}{new.text}", end_y=y)
        else:
            lines.append(new)
    return lines


def _breaks_word(above: Line, below: Line) -> bool:
    """Whether a word that is broken at the end of a line goes on in the next."""
    step = above.end_y - below.y
    return (
        above.text[-2:-1].isalpha()
        and above.text.endswith("-")
        and below.text[0].islower()
        and 0 < step < _NEXT_LINE * below.size
    )


def _in_order(found: Sequence[Recognized], usual: float, depth: int) -> Iterator[Recognized]:
    """Yield lines part by part: from top to bottom, and in each part column by column.

    Args:
        found: the lines.
        usual: usual height of a line.
        depth: number of parts around these lines.
    """
    if depth < _MAX_DEPTH:
        parts = list(_stacked(found, _BETWEEN_PARTS * usual))
        if len(parts) == 1:
            parts = list(_columns(found, usual))
        if len(parts) > 1:
            for part in parts:
                yield from _in_order(part, usual, depth + 1)
            return
    # Pieces of one row from left to right; a tilt of half a line is none.
    rows: list[list[Recognized]] = []
    for line in sorted(found, key=lambda line: line.top + line.bottom):
        middle = (line.top + line.bottom) / 2
        if rows and middle - (rows[-1][0].top + rows[-1][0].bottom) / 2 < usual / 2:
            rows[-1].append(line)
        else:
            rows.append([line])
    for row in rows:
        yield from sorted(row, key=lambda line: line.left)


def _stacked(found: Sequence[Recognized], gap: float) -> Iterator[list[Recognized]]:
    """Yield the parts of a page between gaps of at least this height."""
    part: list[Recognized] = []
    end = 0.0
    for line in sorted(found, key=lambda line: line.top):
        if part and line.top - end > gap:
            yield part
            part = []
        end = max(end, line.bottom) if part else line.bottom
        part.append(line)
    yield part


def _columns(found: Sequence[Recognized], usual: float) -> Iterator[list[Recognized]]:
    """Yield the columns of a page that are set apart over their whole height.

    Columns of short texts on common baselines are those of a table, whose rows stay together.
    """
    columns: list[list[Recognized]] = []
    end = 0.0
    for line in sorted(found, key=lambda line: line.left):
        if columns and line.left - end < usual / 2:
            columns[-1].append(line)
            end = max(end, line.right)
        else:
            columns.append([line])
            end = line.right
    long = all(median(len(line.text) for line in column) >= _PROSE_CHARS for column in columns)
    if long or not any(_share_rows(*pair, usual) for pair in pairwise(columns)):
        yield from columns
    else:
        yield list(found)


def _share_rows(left: Sequence[Recognized], right: Sequence[Recognized], usual: float) -> bool:
    """Whether most lines of the shorter column have a line of the other beside them."""
    shorter, longer = sorted((left, right), key=len)
    middles = sorted(line.top + line.bottom for line in longer)
    beside = 0
    for line in shorter:
        place = bisect_left(middles, line.top + line.bottom - usual)
        beside += place < len(middles) and middles[place] <= line.top + line.bottom + usual
    return beside > len(shorter) / 2
