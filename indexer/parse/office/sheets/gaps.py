"""Close the gaps of workbooks whose cells lie far apart.

Calamine holds a sheet as a table of all cells between the first and the last. One stray cell in the
last row and column of a sheet makes that table 17 billion cells, whereas the file has 5 kB. Here
rows and columns without a value are taken out before, up to one between others, because an empty
row separates tables.
"""

import io
import re
import zipfile
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Final, NamedTuple

from indexer.parse.office.ooxml import PART_ERRORS, Package, read_member
from indexer.skip import SkipDocument, SkipReason

_MAX_AREA: Final = 200_000
"""Largest table that calamine may make, in cells, whatever the sheet holds: half a second."""
_MAX_SPREAD: Final = 20
"""Larger tables may have this many cells for each cell that the sheet holds."""

# A sheet is looked at closely only if a cell is in column AA or row 10,000 or beyond: the table of
# any other is hardly larger than allowed.
_FAR: Final = re.compile(rb"\br=[\"'](?:[A-Z]{2,3}[0-9]|[A-Z]?[0-9]{5})")
_REFERENCE: Final = re.compile(rb"(\br=[\"'])([A-Z]{0,3})([0-9]{1,7})(?=[\"'])")
_COLUMN: Final = re.compile(rb"\br=[\"']([A-Z]{1,3})[0-9]")
_ROW_NUMBER: Final = re.compile(rb"\br=[\"'][A-Z]{0,3}([0-9]{1,7})[\"']")
_EMPTY_CELL: Final = re.compile(rb"<(?:\w{1,20}:)?c\s[^<>]{0,500}+(?<=/)>")

_STRINGS: Final = "xl/sharedStrings.xml"
_COUNT: Final = re.compile(
    rb"(<(?:\w{1,20}:)?sst\b[^<>]{0,1000}?)\suniqueCount\s*+=\s*+[\"']\s*+[0-9]{8,}+\s*+[\"']"
)
"""Ten million strings or more; the number serves for nothing else."""

# Records of a binary sheet ([MS-XLSB] 2.3), each of which begins with its row or column.
_ROW: Final = 0
_CELLS: Final = frozenset({*range(2, 12), 62})
_NUMBER_BYTES: Final = 4
_CONTINUED: Final = 0x80


class Reference(NamedTuple):
    """A cell with a value; rows and columns count from 0."""

    row: int
    column: int


def close_gaps(data: bytes, package: Package) -> tuple[bytes, bool]:
    """Return a workbook (XLSX or XLSB) whose sheets can be held as tables, and whether cells moved.

    A number of strings that no workbook has is left out: calamine reserves memory for them.

    Args:
        data: the file.
        package: the same, open.

    Raises:
        SkipDocument: the cells of a sheet lie too far apart.
    """
    main = package.main_part()
    changed: dict[str, bytes] = {}
    for relation in package.relations(main):
        if relation.kind == "worksheet" and package.has(relation.target):
            try:
                part = package.read_bytes(relation.target)
            except SkipDocument:
                raise
            except PART_ERRORS:  # calamine tells which sheet it is
                continue
            close = _close_binary if relation.target.lower().endswith(".bin") else _close_xml
            if (closed := close(part)) is not None:
                changed[package.member(relation.target)] = closed
    moved = bool(changed)
    if package.has(_STRINGS):
        with suppress(*PART_ERRORS):  # without the strings, calamine fails, too
            part = package.read_bytes(_STRINGS)
            if _COUNT.search(part):
                changed[package.member(_STRINGS)] = _COUNT.sub(rb"\1", part, count=1)
    return (_with_members(data, changed) if changed else data), moved


def _with_members(data: bytes, changed: Mapping[str, bytes]) -> bytes:
    """Return a ZIP file with other contents of some members."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w") as new:
        for name in dict.fromkeys(old.namelist()):
            new.writestr(name, changed[name] if name in changed else read_member(old, name))
    return stream.getvalue()


def is_sane(references: Iterable[Reference]) -> bool:
    """Whether a table of all cells between these is small enough."""
    count = bottom = right = 0
    for row, column in references:
        count += 1
        bottom, right = max(bottom, row), max(right, column)
    return (bottom + 1) * (right + 1) <= max(_MAX_AREA, _MAX_SPREAD * count)


def _closed(numbers: Iterable[int]) -> dict[int, int]:
    """Return the numbers in order, and for each the number it has once the gaps are closed."""
    closed: dict[int, int] = {}
    last = new = -1
    for number in sorted(set(numbers)):
        new += min(number - last, 2) if closed else 1
        closed[number] = new
        last = number
    return closed


def new_places(references: Iterable[Reference]) -> tuple[dict[int, int], dict[int, int]]:
    """Return the new numbers of rows and columns.

    Raises:
        SkipDocument: the cells lie too far apart even so.
    """
    cells = list(references)
    rows = _closed(cell.row for cell in cells)
    columns = _closed(cell.column for cell in cells)
    if not is_sane(Reference(rows[cell.row], columns[cell.column]) for cell in cells):
        raise SkipDocument(SkipReason.OVER_LIMIT, "cells of a sheet lie too far apart")
    return rows, columns


def _close_xml(part: bytes) -> bytes | None:
    """Return a sheet of an XLSX file with its gaps closed; None if they don't matter."""
    if not _FAR.search(part) or _is_sane_xml(part):
        return None
    part = _EMPTY_CELL.sub(b"", part)
    rows, columns = new_places(_xml_references(part))
    old_rows = list(rows)

    def moved(match: re.Match[bytes]) -> bytes:
        row = int(match[3]) - 1
        if match[2]:
            return b"%b%b%d" % (match[1], _letters(columns[_column(match[2])]), rows[row] + 1)
        # A row without a value gets the number of the next one with a value.
        index = bisect_left(old_rows, row)
        row = rows[old_rows[index]] if index < len(old_rows) else len(rows) * 2
        return b"%b%d" % (match[1], row + 1)

    return _REFERENCE.sub(moved, part)


def _is_sane_xml(part: bytes) -> bool:
    """Return what ``is_sane`` does, by passes over the XML that make few objects."""
    columns = set(_COLUMN.findall(part))
    rows = set(_ROW_NUMBER.findall(part))
    right, bottom = max(map(_column, columns), default=0), max(map(int, rows), default=0)
    cells = part.count(b"<c ") + part.count(b":c ")
    return (right + 1) * bottom <= max(_MAX_AREA, _MAX_SPREAD * cells)


def _xml_references(part: bytes) -> Iterator[Reference]:
    for match in _REFERENCE.finditer(part):
        if match[2]:
            yield Reference(int(match[3]) - 1, _column(match[2]))


def _column(letters: bytes) -> int:
    """Return the number of a column, from 0: A is 0, Z is 25, AA is 26."""
    number = 0
    for letter in letters:
        number = 26 * number + letter - ord("A") + 1
    return number - 1


def _letters(column: int) -> bytes:
    """Return the letters of a column."""
    letters = b""
    number = column + 1
    while number:
        number, rest = divmod(number - 1, 26)
        letters = bytes([ord("A") + rest]) + letters
    return letters


def _close_binary(part: bytes) -> bytes | None:
    """Return a sheet of an XLSB file with its gaps closed; None if they don't matter."""
    records = list(_binary_cells(part))
    if is_sane(cell for cell, _, _ in records):
        return None
    rows, columns = new_places(cell for cell, _, _ in records)
    closed = bytearray(part)
    for (row, column), row_at, column_at in records:
        for number, at in ((rows[row], row_at), (columns[column], column_at)):
            closed[at : at + _NUMBER_BYTES] = number.to_bytes(_NUMBER_BYTES, "little")
    return bytes(closed)


def _binary_cells(part: bytes) -> Iterator[tuple[Reference, int, int]]:
    """Yield cells of a binary sheet, and where their row and column are written."""
    row = row_at = 0
    for kind, start, end in _binary_records(part):
        number = int.from_bytes(part[start : start + _NUMBER_BYTES], "little")
        if end - start < _NUMBER_BYTES:
            continue
        if kind == _ROW:
            row, row_at = number, start
        elif kind in _CELLS:
            yield Reference(row, number), row_at, start


def _binary_records(part: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the kind of each record of a binary part, and where its content begins and ends."""
    at = 0
    while at + 1 < len(part):
        kind = part[at]
        at += 1
        if kind & _CONTINUED:
            kind = kind & 0x7F | (part[at] & 0x7F) << 7
            at += 1
        size = 0
        for shift in range(0, 28, 7):
            if at >= len(part):
                return
            size |= (part[at] & 0x7F) << shift
            at += 1
            if not part[at - 1] & _CONTINUED:
                break
        yield kind, at, min(at + size, len(part))
        at += size
