"""Spreadsheets and delimited tables: a line for each row, a section for each sheet."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, time
from itertools import chain, islice
from pathlib import PurePosixPath
from typing import Final

from indexer.decoding.decode import decode
from indexer.decoding.decompress import without_compression
from indexer.parse.base.compose import Composer
from indexer.parse.office.ooxml import refuse_old_office
from indexer.skip import SkipDocument, SkipReason, parser_errors_as_damage
from retrieval.domain.records import Document

_DELIMITERS: Final = ",;\t|"
_SNIFFED_LINES: Final = 50
"""Number of rows that the delimiter is guessed from."""
_SNIFFED_CHARS: Final = 64_000
"""Maximum number of characters that the delimiter is guessed from, in case rows are long."""
_LINES_PER_BLOCK: Final = 1000
"""Number of lines joined at once: bounds the memory on top of the text itself."""
_LOOK_AHEAD: Final = 20
"""Number of rows that tell whether the first row names the columns."""
_LONGEST_NAME: Final = 80
"""A first row of texts that are all longer than this is a row of values."""


def parse_delimited(uri: str, data: bytes) -> Document:
    """Make a document of a CSV file (RFC 4180, or with another delimiter) or a TSV file.

    Raises:
        SkipDocument: the data is binary, or not a table.
    """
    source, encoding = decode(data)
    composer = Composer()
    csv.field_size_limit(len(source) + 1)
    with parser_errors_as_damage():
        _add_rows(composer, _read_delimited(source, _delimiter(uri, source)))
    return composer.document(uri, "table", encoding=encoding)


def _delimiter(uri: str, source: str) -> str:
    """Return the delimiter that splits most of the first rows into the same number of values."""
    if PurePosixPath(uri.lower()).suffixes[-1:] == [".tsv"] or ".tsv." in uri.lower():
        return "\t"
    best, found = (0.0, 0), ","
    for delimiter in _DELIMITERS:
        rows = _read_delimited(source[:_SNIFFED_CHARS], delimiter)
        widths = Counter(len(row) for row in islice(rows, _SNIFFED_LINES) if row)
        if widths:
            width, count = widths.most_common(1)[0]
            score = (count / widths.total(), width)
            if width > 1 and score > best:
                best, found = score, delimiter
    return found


def _read_delimited(source: str, delimiter: str) -> Iterator[list[str]]:
    return csv.reader(io.StringIO(source, newline=""), delimiter=delimiter)


def parse_workbook(uri: str, data: bytes) -> Document:
    """Make a document of a spreadsheet (XLSX, XLSB, XLS or ODS): the values, sheet by sheet.

    Raises:
        SkipDocument: it is damaged or encrypted.
    """
    from python_calamine import CalamineError, CalamineWorkbook, PasswordError

    if not without_compression(uri).lower().endswith(".xls"):
        refuse_old_office(data)
    composer = Composer()
    with parser_errors_as_damage():
        try:
            workbook = CalamineWorkbook.from_filelike(io.BytesIO(data))
        except PasswordError as error:
            raise SkipDocument(SkipReason.ENCRYPTED) from error
        for name in workbook.sheet_names:
            try:
                sheet = workbook.get_sheet_by_name(name)
            except CalamineError:  # a sheet that is a chart has no cells
                continue
            composer.begin_page()
            composer.add_heading(1, name)
            _add_rows(composer, (list(map(_value, row)) for row in sheet.iter_rows()))
    return composer.document(uri, "spreadsheet", [PurePosixPath(uri).stem])


def _value(value: object) -> str:
    """Return a cell's value as people write it: ``3``, not ``3.0``; no time at midnight."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime) and value.time() == time():
        return value.date().isoformat()
    return "" if value is None else str(value)


def _add_rows(composer: Composer, rows: Iterator[Sequence[str]]) -> None:
    """Add a table, block by block."""
    lines = table_lines(rows)
    line_ends = 2
    while block := list(islice(lines, _LINES_PER_BLOCK)):
        composer.add("\n".join(block), line_ends)
        line_ends = 1


def table_lines(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield a line for each row that has any text.

    If the first row names the columns, other rows become ``name: value | name: value``, so that a
    line makes sense without the first, and empty values are left out. Otherwise a line is the
    values with bars between them.

    Args:
        rows: values of each row; rows may differ in length.
    """
    filled = (row for row in (_tidy(row) for row in rows) if any(row))
    first = list(islice(filled, _LOOK_AHEAD))
    names = first[0] if first and _are_names(first[0], first[1:]) else []
    if names:
        yield " | ".join(name for name in names if name)
    for row in chain(first[bool(names) :], filled):
        yield _line(names, row)


def _tidy(row: Sequence[str]) -> list[str]:
    """Return values on one line each, without empty ones at the end."""
    values = [" ".join(value.split()) for value in row]
    while values and not values[-1]:
        values.pop()
    return values


def _are_names(row: Sequence[str], below: Sequence[Sequence[str]]) -> bool:
    """Whether a first row plainly names the columns: no name is a number or there twice."""
    names = [name for name in row if name]
    return (
        len(names) > 1
        and len(set(names)) == len(names)
        and not any(_is_number(name) for name in names)
        and len(below) > 0
        and max(map(len, below)) <= len(row)
        and not all(len(name) > _LONGEST_NAME for name in names)
    )


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", ""))
    except ValueError:
        return False
    return True


def _line(names: Sequence[str], row: Sequence[str]) -> str:
    if not names:
        return " | ".join(row)
    named = (
        f"{name}: {value}" if name else value
        for name, value in zip(chain(names, [""] * len(row)), row, strict=False)
        if value
    )
    return " | ".join(named)
