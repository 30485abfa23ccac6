"""Tables of reStructuredText: grid, simple, ``list-table`` and ``csv-table``.

Only the names of columns are read; the text stays the source.
"""

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from indexer.parse.base.compose import column_names
from retrieval.domain.records import Table

_START: Final = re.compile(
    r"^(?P<indent>[ \t]*+)(?:(?P<grid>\+(?:-++\+)++)|(?P<simple>=++(?:[ ]++=++)++)"
    r"|\.\.[ ](?P<directive>list|csv)-table::[^\n]*+)[ \t\r]*+$",
    re.MULTILINE,
)
_MARKS: Final = ("+-", " ==", "-table::")
"""What a text with tables has; looking for it takes a hundredth of the time."""
_OPTION: Final = re.compile(r"[ \t]+:(?P<name>[\w-]+):[ \t]*(?P<value>[^\n]*?)[ \t\r]*$")
_SMALL: Final = re.compile("[0-9]{1,2}")
_ITEM: Final = re.compile(r"[ \t]*(?P<row>\*[ \t]+)?-(?:[ \t]+(?P<text>.*))?$")
_MAX_HEADER_LINES: Final = 100
"""Headers have a handful of lines; this bounds the search in what only looks like a table."""

_Line = tuple[int, str]
"""First character of a line, and its text without its end."""


def find_tables(text: str) -> Iterator[Table]:
    """Yield the tables of a text, in order."""
    if not any(mark in text for mark in _MARKS):
        return
    position = 0
    while start := _START.search(text, position):
        if start["directive"]:
            table = _directive(text, start)
        elif start["grid"]:
            table = _grid(text, start)
        else:
            table = _simple(text, start)
        if table is not None:
            yield table
        position = max(start.end(), table.char_end if table else 0)


def _lines(text: str, start: int) -> Iterator[_Line]:
    """Yield the lines after the one that a place is in."""
    start = text.find("\n", start) + 1
    while 0 < start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        yield start, text[start:end].rstrip()
        start = end + 1


def _grid(text: str, start: re.Match[str]) -> Table | None:
    """Return the table that a border of ``+---+`` begins."""
    border = start["grid"]
    bounds = [match.start() for match in re.finditer(r"\+", border)]
    indent = len(start["indent"])
    header: list[str] = []
    rows_start, end, is_above = 0, start.end(), True
    for place, line in _lines(text, start.start()):
        row = line[indent:]
        if not row.startswith(("+", "|")):
            break
        end = place + len(line)
        if is_above and row.startswith("+="):
            rows_start, is_above = end + 1, False
        elif is_above and len(header) < _MAX_HEADER_LINES and row.startswith("|"):
            header.append(row)
    if end == start.end():
        return None
    slices = [(left + 1, right) for left, right in pairwise(bounds)]
    names = column_names(_cells(header, slices)) if rows_start else ""
    return _table(text, start, end, names, rows_start)


def _simple(text: str, start: re.Match[str]) -> Table | None:
    """Return the table that a border of ``===  ===`` begins."""
    indent = len(start["indent"])
    starts = [match.start() for match in re.finditer(r"=+", start["simple"])]
    slices = list(zip(starts, [*starts[1:], None], strict=True))
    borders: list[int] = []  # ends of those below the first
    header: list[str] = []
    follows_border = False
    for place, line in _lines(text, start.start()):
        row = line[indent:]
        if row.startswith("==") and not row.strip("= "):
            borders.append(place + len(line))
            follows_border = True
        elif follows_border and not row:
            break
        else:
            follows_border = False
            if not borders and len(header) < _MAX_HEADER_LINES:
                header.append(row)
    if not borders:
        return None
    if len(borders) == 1 or len(header) == _MAX_HEADER_LINES:
        return _table(text, start, borders[-1], "", 0)
    names = column_names(_cells(header, slices))
    return _table(text, start, borders[-1], names, borders[0] + 1)


def _directive(text: str, start: re.Match[str]) -> Table | None:
    """Return the table of a directive, from its first row to the end of its block."""
    indent = len(start["indent"])
    options: dict[str, str] = {}
    rows: list[_Line] = []
    for place, line in _lines(text, start.start()):
        if line and len(line) - len(line.lstrip(" \t")) <= indent:
            break
        if not rows and (option := _OPTION.match(line)):
            options[option["name"]] = option["value"]
        elif line:
            rows.append((place, line))
    if not rows:
        return None
    end = rows[-1][0] + len(rows[-1][1])
    count = options.get("header-rows", "")
    wanted = int(count) if _SMALL.fullmatch(count) else 0
    if start["directive"] == "list":
        header, rows_start = _list_header(rows, wanted)
    else:
        below = [place for place, _ in rows[wanted:]] or [end]
        header = list(csv.reader([line.strip() for _, line in rows[:wanted]]))
        if options.get("header"):
            header.insert(0, next(csv.reader([options["header"]], skipinitialspace=True)))
        rows_start = below[0]
    names = column_names([[" ".join(cell.split()) for cell in row] for row in header])
    return Table(rows[0][0], end, names, min(rows_start, end))


def _list_header(rows: Sequence[_Line], wanted: int) -> tuple[list[list[str]], int]:
    """Return the cells of the header of a ``list-table``, and where the next row begins."""
    header: list[list[str]] = []
    for place, line in rows[:_MAX_HEADER_LINES]:
        item = _ITEM.match(line)
        if item and item["row"]:
            if len(header) == wanted:
                return header, place
            header.append([])
        if header and item:
            header[-1].append(item["text"] or "")
        elif header and header[-1]:
            header[-1][-1] += " " + line.strip()
    return header if wanted else [], rows[0][0]


def _cells(lines: Sequence[str], slices: Sequence[tuple[int, int | None]]) -> list[list[str]]:
    """Return the parts of lines in columns; those of several lines make one name."""
    return [
        [" ".join(line[left:right].strip(" |").split()) for left, right in slices] for line in lines
    ]


def _table(text: str, start: re.Match[str], end: int, names: str, rows_start: int) -> Table:
    """Return a table; without a header its rows begin below the first border."""
    first = start.start() + len(start["indent"])
    below = rows_start or text.find("\n", start.end()) + 1 or end
    return Table(first, end, names, min(below, end))
