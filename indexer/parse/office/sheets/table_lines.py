"""Write the rows of a table as lines that make sense one by one."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Final

from indexer.parse.base.compose import Composer
from indexer.parse.office.sheets.header import Row, find_header

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
    between them. A sheet may hold several tables with empty rows between; each may have names.

    Args:
        rows: values of each row; rows may differ in length.
    """
    ahead = _Ahead(map(_tidy, rows))
    names: Row = ()
    # The first header may have titles and empty rows above.
    if (header := find_header([row for row in ahead.peek() if row])) is not None:
        for row in _skip_blank(ahead, header):
            yield _line((), row)
        names = next(_skip_blank(ahead, 1))
        yield " | ".join(filter(None, names))
    after_blank = False
    while ahead:
        row = ahead.pop()
        if (
            row
            and after_blank
            and (header := find_header(part := [row, *ahead.part()])) is not None
        ):
            for title in part[:header]:
                yield _line((), title)
            names = part[header]
            yield " | ".join(filter(None, names))
            ahead.skip(header)
        elif row:
            # A title below an empty row ends a table; a lone cell after it has no column.
            if after_blank and len(row) == 1 and len(names) > 1 and ahead.part():
                names = ()
            yield _line(names, row)
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

    def skip(self, number: int) -> None:
        """Take a number of rows."""
        for _ in range(number):
            self.pop()


def _skip_blank(ahead: _Ahead, number: int) -> Iterator[list[str]]:
    """Take a number of rows that are not empty, and the empty ones before them."""
    while number:
        if row := ahead.pop():
            number -= 1
            yield row


def _tidy(row: Sequence[str]) -> list[str]:
    """Return values on one line each, without empty ones at the end."""
    values = [" ".join(value.split()) for value in row]
    while values and not values[-1]:
        values.pop()
    return values


def _line(names: Row, row: Row) -> str:
    if not names:
        return " | ".join(row)
    named = (
        f"{name}: {value}" if name else value
        for name, value in zip(chain(names, [""] * len(row)), row, strict=False)
        if value
    )
    return " | ".join(named)
