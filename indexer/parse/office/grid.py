"""Tables with cells that span rows and columns, as rows of the same columns."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from indexer.parse.base.compose import Composer
from indexer.parse.office.repeats import Repeats
from indexer.parse.office.sheets.header import find_header

_MAX_COLUMNS: Final = 1_000
"""Cells beyond are written without a place; Word has at most 63 columns, a web page some dozens."""
_LOOK_AHEAD: Final = 50
"""Number of rows that tell which row names the columns."""


class Cell(NamedTuple):
    """A cell of a table."""

    text: str
    columns: int = 1
    """Number of columns that it spans."""
    rows: int = 1
    """Number of rows that it spans."""


def spread(rows: Iterable[Sequence[Cell]], repeats: Repeats) -> list[list[str]]:
    """Return the texts of the cells of each row; a span repeats its text in all its places.

    A cell that is the whole row is a title, and is not repeated.

    Args:
        rows: the cells of each row, without those that a span covers.
        repeats: bounds how much is repeated.
    """
    table: list[list[str]] = []
    below: dict[int, tuple[int, str]] = {}
    for row in rows:
        line: list[str] = []
        for cell in row:
            _fill(line, below, repeats, to_next=True)
            width = max(1, min(cell.columns, _MAX_COLUMNS - len(line)))
            if cell.rows > 1 and len(line) < _MAX_COLUMNS:
                for column in range(len(line), len(line) + width):
                    below[column] = (cell.rows, cell.text)
            line.append(cell.text)
            if len(row) > 1 or below:  # a cell over the whole width is a title
                line += [repeats.again(cell.text) for _ in range(width - 1)]
        _fill(line, below, repeats, to_next=False)
        below = {column: (n - 1, text) for column, (n, text) in below.items() if n > 1}
        table.append(line)
    return table


def _fill(
    line: list[str], below: Mapping[int, tuple[int, str]], repeats: Repeats, *, to_next: bool
) -> None:
    """Add the values of spans from above, up to the next free place or to the last of them."""
    while len(line) in below:
        line.append(repeats.again(below[len(line)][1]))
    for column in () if to_next else sorted(below):
        if column >= len(line):
            line += [""] * (column - len(line))
            line.append(repeats.again(below[column][1]))


def add_table(composer: Composer, rows: Sequence[Sequence[str]], header_rows: int = 0) -> None:
    """Add a table to a text, with the names of its columns.

    Args:
        composer: where to add it.
        rows: the texts of each row.
        header_rows: number of rows that the file itself marks as names; if 0, they are guessed.
    """
    filled = [row for row in ([" ".join(cell.split()) for cell in row] for row in rows) if any(row)]
    marked = min(header_rows, max(len(filled) - 1, 0))
    if not marked and (header := find_header(filled[:_LOOK_AHEAD])) is not None:
        marked = header + 1
    composer.add_table(filled, marked)
