"""Write the rows of a table as lines that make sense one by one."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from indexer.parse.base.compose import Composer
from indexer.parse.office.sheets.header import LONGEST_NAME, Header, Row, find_headers

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
    headers = _by_row(find_headers([row for row in ahead.peek() if row]))
    prefixes: list[str] = []
    after_blank = False
    number = 0
    for row in ahead:
        if not row:
            after_blank = True
            continue
        if after_blank and number > max(headers, default=-1):
            if found := find_headers([row, *ahead.part()]):
                headers, prefixes, number = _by_row(found), [], 0
            elif len(row) == 1 and len(prefixes) > 1 and ahead.part():
                prefixes = []  # a title below an empty row ends a table
        after_blank = False
        own = headers.get(number, ())
        for header in own:
            _rename(prefixes, header, [""] * len(header.names))
        yield _line(prefixes, row) if prefixes else " | ".join(row)
        for header in own:
            _rename(
                prefixes,
                header,
                [f"{name[:LONGEST_NAME]}: " if name else "" for name in header.names],
            )
        number += 1


def _by_row(headers: Iterable[Header]) -> dict[int, list[Header]]:
    rows: dict[int, list[Header]] = {}
    for header in headers:
        rows.setdefault(header.row, []).append(header)
    return rows


def _rename(prefixes: list[str], header: Header, names: Sequence[str]) -> None:
    """Set what stands before the values of a header's columns."""
    prefixes += [""] * (header.end - len(prefixes))
    prefixes[header.start : header.end] = names


class _Ahead:
    """Rows that can be looked at before they are taken."""

    def __init__(self, rows: Iterator[list[str]]) -> None:
        self._rows = rows
        self._next: deque[list[str]] = deque()

    def __iter__(self) -> Iterator[list[str]]:
        while True:
            if self._next:
                yield self._next.popleft()
            elif (row := next(self._rows, None)) is not None:
                yield row
            else:
                return

    def peek(self, number: int = _LOOK_AHEAD) -> list[list[str]]:
        """Return the next rows, at most a number of them."""
        self._next.extend(islice(self._rows, max(0, number - len(self._next))))
        return list(islice(self._next, number))

    def part(self) -> list[list[str]]:
        """Return the next rows up to an empty one."""
        rows = self.peek()
        return rows[: next((index for index, row in enumerate(rows) if not row), len(rows))]


def _tidy(row: Sequence[str]) -> list[str]:
    """Return values on one line each, without empty ones at the end."""
    values = [" ".join(value.split()) for value in row]
    while values and not values[-1]:
        values.pop()
    return values


def _line(prefixes: Sequence[str], row: Row) -> str:
    """Return the values that a row has, each after the name of its column."""
    if len(row) > len(prefixes):
        prefixes = [*prefixes, *[""] * (len(row) - len(prefixes))]
    named = zip(prefixes, row, strict=False)
    return " | ".join([prefix + value for prefix, value in named if value])
