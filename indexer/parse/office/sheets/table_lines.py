"""Write the rows of a table as lines that make sense one by one."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Final

from indexer.parse.base.compose import Composer
from indexer.parse.office.sheets.header import Row, find_headers

_LOOK_AHEAD: Final = 50
"""Number of rows that tell which row names the columns."""
_LINES_PER_BLOCK: Final = 1000
"""Number of lines joined at once: bounds the memory on top of the text itself."""


def add_rows(composer: Composer, rows: Iterable[Sequence[str]]) -> None:
    """Add a table to a text, block by block; see ``table_lines``."""
    lines = table_lines(rows)
    line_ends = 2
    while block := list(islice(lines, _LINES_PER_BLOCK)):
        composer.add("\n".join(block), line_ends)
        line_ends = 1


def table_lines(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield a line for each row that has any text.

    Below a row that names the columns, rows become ``name: value | name: value``, so that a line
    makes sense by itself, and empty values are left out. Otherwise a line is the values with bars
    between them. A sheet may hold several tables with empty rows or columns between; each may have
    names.

    Args:
        rows: values of each row; rows may differ in length.
    """
    ahead = _Ahead(map(_tidy, rows))
    # The first header may have titles and empty rows above.
    headers = find_headers([row for row in ahead.peek() if row])
    names: list[str] = []
    after_blank = False
    number = 0
    while ahead:
        row = ahead.pop()
        if row and after_blank and not any(header.row >= number for header in headers):
            if found := find_headers([row, *ahead.part()]):
                headers, names, number = found, [], 0
            elif len(row) == 1 and len(names) > 1 and ahead.part():
                names = []  # a title below an empty row ends a table
        if row:
            own = [header for header in headers if header.row == number]
            for header in own:
                names += [""] * (header.end - len(names))
                names[header.start : header.end] = [""] * (header.end - header.start)
            yield _line(names, row, is_header=any(own))
            for header in own:
                names[header.start : header.end] = header.names
            number += 1
        after_blank = not row


class _Ahead:
    """Rows that can be looked at before they are taken."""

    def __init__(self, rows: Iterator[list[str]]) -> None:
        self._rows = rows
        self._next: deque[list[str]] = deque()

    def __bool__(self) -> bool:
        return bool(self.peek(1))

    def peek(self, number: int = _LOOK_AHEAD) -> list[list[str]]:
        """Return the next rows, at most a number of them."""
        self._next.extend(islice(self._rows, max(0, number - len(self._next))))
        return list(islice(self._next, number))

    def part(self) -> list[list[str]]:
        """Return the next rows up to an empty one."""
        rows = self.peek()
        return rows[: next((index for index, row in enumerate(rows) if not row), len(rows))]

    def pop(self) -> list[str]:
        """Take the next row."""
        self.peek(1)
        return self._next.popleft()


def _tidy(row: Sequence[str]) -> list[str]:
    """Return values on one line each, without empty ones at the end."""
    values = [" ".join(value.split()) for value in row]
    while values and not values[-1]:
        values.pop()
    return values


def _line(names: Row, row: Row, *, is_header: bool) -> str:
    if not (is_header or any(names)):
        return " | ".join(row)
    named = (
        f"{name}: {value}" if name else value
        for name, value in zip(chain(names, [""] * len(row)), row, strict=False)
        if value
    )
    return " | ".join(named)
