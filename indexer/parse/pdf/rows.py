"""Rows, tables and columns of a PDF page: which pieces of text stand side by side.

A PDF has no tables, only text at places. Pieces on one baseline are a row; rows whose pieces stand
below each other are a table, unless the pieces are the lines of columns of prose.
"""

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter
from statistics import median
from typing import Final

from indexer.parse.pdf.bidi import has_right_to_left
from indexer.parse.pdf.lines import CELL_GAP, Line, has_leader

_SAME_BASELINE: Final = 0.35
"""Lines whose baselines differ by at most this many type sizes are one to a reader: marks of
footnotes are raised by a third."""
_OVERLAP: Final = 0.3
"""A piece may begin this many type sizes before the end of the one before it."""
_SPACE: Final = 0.12
"""Pieces further apart than this, in type sizes, are separate words."""
_LOOK_BACK: Final = 8
"""Number of rows above in which the row of a cell is looked for, where a cell before it has several
lines."""
_MAX_STEP: Final = 3.5
"""Rows of a table are at most this many type sizes apart."""
_SIMILAR: Final = 1.3
"""Rows in type this many times as large as the first one's are not of its table."""
_CONTINUED: Final = 1.5
"""A row with empty cells that is at most this many type sizes below another continues its cells."""
_MAX_BETWEEN: Final = 3
"""Maximum number of rows with one cell between two with several in a table."""
_FEWEST_ROWS: Final = 2
_FEWEST_IN_ALL: Final = 5
"""A table has at least two rows of three cells, or three rows of two: fewer stand side by side by
chance, as on letterheads."""
_FITTING: Final = 0.7
"""Share of a table's rows whose cells stand in different columns."""
_PROSE_WORDS: Final = 5
"""Lines of prose have at least this many words; most cells of tables have fewer."""
_PROSE_FILL: Final = 0.7
"""Lines of prose fill this share of the width of their column."""
_PROSE_ROWS: Final = 4
"""Fewer rows of long texts side by side are taken for a table."""
_NUMERIC: Final = 0.6
"""A column of numbers has this share of cells with numbers below its name."""
_MAX_NAME: Final = 60
"""Longer cells, in characters, are not the names of columns."""
_MARKER: Final = re.compile(
    r"\W{1,3}|\(?(?:\w{1,3}|[\dA-Z]{1,2}(?:\.\d{1,3}){1,4})[.):]?|\[\w{1,4}\]"
)
"""Number or bullet of a list, a heading or a footnote, which is no cell."""
_NUMBER: Final = re.compile(r"[-+±~<>≤≥(]?[\d.,]*\d[\d.,]*\W{0,3}(?:[^\W\d]{1,3})?\W?|[-–—]")


class Row:
    """Pieces of text on one baseline."""

    __slots__ = ("cells", "has_cells", "pieces", "size", "y")

    def __init__(self, line: Line) -> None:
        """Begin with one piece."""
        self.pieces = [line]
        self.cells = self.pieces
        """Pieces that stand apart, from left to right or as they are read."""
        self.has_cells = False
        """Whether it may be a row of a table."""
        self.y = line.y
        """Baseline."""
        self.size = line.size
        """Largest type size."""

    def add(self, line: Line) -> None:
        """Add a piece."""
        self.pieces.append(line)
        self.size = max(self.size, line.size)

    def takes(self, line: Line) -> bool:
        """Whether a line stands on the row's baseline, beside its last piece."""
        first, last = self.pieces[0], self.pieces[-1]
        size = max(first.size, line.size)
        if not (line.upright and first.upright and size) or last.end_y != last.y:
            return False
        if abs(line.y - first.y) > _SAME_BASELINE * size:
            return False
        room = _OVERLAP * size
        return line.x > last.right - room or line.right < last.x + room

    def line(self) -> Line:
        """Return all of it as one line."""
        return _joined(self.pieces)


@dataclass(frozen=True, slots=True)
class Grid:
    """A table."""

    rows: list[list[str]]
    header_rows: int


def arrange(lines: Sequence[Line]) -> list[Line | Grid]:
    """Return the lines of a page with the pieces of each row joined, and tables.

    Args:
        lines: lines and pieces of lines, in the order in which they are drawn.
    """
    if not any(_may_be_beside(*pair) for pair in pairwise(lines)):
        return list(lines)
    rows = _rows(lines)
    blocks: list[Line | Grid] = []
    for run in _runs(rows):
        if len(run) == 1:
            blocks.append(run[0].line())
        else:
            blocks += _table(run)
    return blocks


def _may_be_beside(first: Line, second: Line) -> bool:
    """Whether a line may be on the baseline of the one before it; quick, for pages of prose."""
    step = first.y - second.y
    return -second.size < step < second.size


def _rows(lines: Sequence[Line]) -> list[Row]:
    rows: list[Row] = []
    y, step = 0.0, 0.0
    for line in lines:
        row = rows[-1] if rows else None
        # Most lines are below the one before.
        if row and (y - line.y > step or not row.takes(line)):
            row = _returned_to(rows, line) if line.y > y else None
        y, step = line.y, line.size
        if row:
            row.add(line)
        else:
            rows.append(Row(line))
    for row in rows:
        if len(row.pieces) > 1:
            from_right = any(has_right_to_left(piece.text) for piece in row.pieces)
            row.pieces.sort(key=lambda piece: piece.x, reverse=from_right)
            row.cells = _cells(row.pieces)
            row.has_cells = len(row.cells) > 1 and not any(
                has_leader(cell.text) for cell in row.cells
            )
    return rows


def _returned_to(rows: Sequence[Row], line: Line) -> Row | None:
    """Return the row that a line goes back to, after a cell of several lines."""
    last = rows[-1].pieces[0]
    if not line.size or line.y <= last.y:
        return None
    for row in reversed(rows[-_LOOK_BACK:-1]):
        if row.takes(line):
            cell = row.pieces[-1]
            wrapped = abs(cell.x - last.x) < line.size and line.x > cell.x
            return row if len(row.pieces) > 1 and wrapped else None
    return None


def _cells(pieces: Sequence[Line]) -> list[Line]:
    """Return the pieces of a row as cells; those that are close together are one."""
    cells: list[list[Line]] = []
    for piece in pieces:
        if cells:
            last = cells[-1][-1]
            close = _gap(last, piece) < CELL_GAP * max(piece.size, last.size)
            is_first = len(cells) == len(cells[0]) == 1
            if close or (is_first and _MARKER.fullmatch(last.text)):
                cells[-1].append(piece)
                continue
        cells.append([piece])
    return [_joined(cell) for cell in cells]


def _gap(first: Line, second: Line) -> float:
    return max(second.x - first.right, first.x - second.right)


def _joined(pieces: Sequence[Line]) -> Line:
    """Return pieces as one line, with spaces where they stand apart."""
    if len(pieces) == 1:
        return pieces[0]
    parts = [pieces[0].text]
    for before, piece in pairwise(pieces):
        parts.append(" " if _gap(before, piece) > _SPACE * max(piece.size, before.size) else "")
        parts.append(piece.text)
    largest = max(pieces, key=lambda piece: piece.size)
    return Line(
        "".join(parts),
        min(piece.x for piece in pieces),
        pieces[0].y,
        max(piece.right for piece in pieces),
        largest.size,
        pieces[-1].end_y,
        pieces[0].upright,
    )


def _runs(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Yield rows in groups, each of which may be a table; other rows are groups of one."""
    start = 0
    while start < len(rows):
        end = start + 1
        if rows[start].has_cells:
            end = _run_end(rows, start)
        yield list(rows[start:end])
        start = end


def _run_end(rows: Sequence[Row], start: int) -> int:
    """Return where the rows that may be of one table end, after the last one with cells."""
    left = min(cell.x for cell in rows[start].cells)
    right = max(cell.right for cell in rows[start].cells)
    end, between = start + 1, 0
    for index in range(start + 1, len(rows)):
        row, above = rows[index], rows[index - 1]
        size = max(row.size, above.size)
        if not 0 < above.y - row.y <= _MAX_STEP * size or row.size > _SIMILAR * rows[start].size:
            break
        if row.has_cells:
            end, between = index + 1, 0
            left = min(left, *(cell.x for cell in row.cells))
            right = max(right, *(cell.right for cell in row.cells))
            continue
        between += 1
        cell = row.cells[0]
        inside = left - size < cell.x and cell.right < right + size
        # A line of prose ends a table.
        if (
            between > _MAX_BETWEEN
            or not inside
            or cell.right - cell.x > _PROSE_FILL * (right - left)
        ):
            break
    return end


def _table(run: Sequence[Row]) -> Iterator[Line | Grid]:
    """Yield the rows of a run as a table if they are one, otherwise as lines."""
    full = [row for row in run if row.has_cells]
    columns = _columns(full)
    placed = [[(_column_of(cell, columns), cell) for cell in row.cells] for row in run]
    fitting = sum(
        len(cells) > 1 and len({number for number, _ in cells}) == len(cells) for cells in placed
    )
    is_small = len(full) < _FEWEST_ROWS or len(full) + len(columns) < _FEWEST_IN_ALL
    if is_small or fitting < _FITTING * len(full):
        yield from (row.line() for row in run)
        return
    by_column: list[list[Line]] = [[] for _ in columns]
    for cells in placed:
        for number, cell in cells:
            by_column[number].append(cell)
    if _is_prose(full, by_column, columns):
        for column in by_column:
            yield from column
    else:
        yield _grid(run, placed, len(columns))


def _columns(rows: Sequence[Row]) -> list[tuple[float, float]]:
    """Return the left and right edges of the columns, from left to right.

    Rows with the most cells tell: in others, a cell may span columns.
    """
    counts = Counter(len(row.cells) for row in rows)
    often = [count for count, times in counts.items() if times >= min(2, len(rows))]
    most = max(often, default=max(counts))
    spans = sorted(
        (cell.x, cell.right) for row in rows if len(row.cells) == most for cell in row.cells
    )
    columns: list[tuple[float, float]] = []
    for left, right in spans:
        if columns and left < columns[-1][1]:
            columns[-1] = columns[-1][0], max(columns[-1][1], right)
        else:
            columns.append((left, right))
    return columns


def _column_of(cell: Line, columns: Sequence[tuple[float, float]]) -> int:
    """Return the column that a cell stands in: the first that it overlaps, or the nearest."""
    number = bisect_right(columns, cell.x, key=itemgetter(1))
    if number == len(columns):
        return number - 1
    if number and cell.right <= columns[number][0]:
        before, after = cell.x - columns[number - 1][1], columns[number][0] - cell.right
        return number - 1 if before < after else number
    return number


def _is_prose(
    rows: Sequence[Row],
    by_column: Sequence[Sequence[Line]],
    columns: Sequence[tuple[float, float]],
) -> bool:
    """Whether the cells are lines of text in columns."""
    if len(rows) < _PROSE_ROWS:
        return False
    for cells, (left, right) in zip(by_column, columns, strict=True):
        words = median([len(cell.text.split()) for cell in cells] or [0])
        width = median([cell.right - cell.x for cell in cells] or [0.0])
        if words < _PROSE_WORDS or width < _PROSE_FILL * (right - left):
            return False
    return True


def _grid(run: Sequence[Row], placed: Sequence[Sequence[tuple[int, Line]]], columns: int) -> Grid:
    """Return rows as a table with a cell in each column."""
    from_right = run[0].cells[0].x > run[0].cells[-1].x
    rows: list[list[str]] = []
    above: Row | None = None
    for row, cells in zip(run, placed, strict=True):
        texts = [""] * columns
        for number, cell in cells:
            texts[number] = f"{texts[number]} {cell.text}" if texts[number] else cell.text
        first = texts[-1] if from_right else texts[0]
        close = above is not None and above.y - row.y < _CONTINUED * row.size
        if close and not first and not row.has_cells:
            rows[-1] = [f"{old} {new}".strip() for old, new in zip(rows[-1], texts, strict=True)]
        else:
            rows.append(texts)
        above = row
    if from_right:
        rows = [row[::-1] for row in rows]
    return Grid(rows, int(_has_names(rows)))


def _has_names(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row names the columns: no numbers, above a column of numbers."""
    names, *body = rows
    if len(body) < _FEWEST_ROWS or not all(names) or any(map(_is_number, names)):
        return False
    if any(len(name) > _MAX_NAME for name in names):
        return False
    for column in zip(*body, strict=True):
        filled = [cell for cell in column if cell]
        if filled and sum(map(_is_number, filled)) >= _NUMERIC * len(filled):
            return True
    return False


def _is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None
