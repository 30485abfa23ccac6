"""Spreadsheets and tables in text: a line for each row, a section for each sheet."""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, time
from itertools import islice
from pathlib import PurePosixPath
from typing import Final

from indexer.decoding.decode import decode
from indexer.decoding.decompress import without_compression
from indexer.parse.base.as_damage import as_damage
from indexer.parse.base.compose import Composer
from indexer.parse.base.table import table_lines
from indexer.parse.office.ooxml import refuse_old_office
from indexer.skip import SkipDocument, SkipReason
from retrieval.domain.records import Document

_DELIMITERS: Final = ",;\t|"
_SNIFFED_LINES: Final = 50
_SNIFFED_CHARS: Final = 64_000
_LINES_PER_BLOCK: Final = 1000


def parse_delimited(uri: str, data: bytes) -> Document:
    """Make a document of a table in text: CSV (RFC 4180, or with another delimiter) or TSV.

    Raises:
        SkipDocument: the data is binary, or no table.
    """
    source, encoding = decode(data)
    composer = Composer()
    csv.field_size_limit(len(source) + 1)
    with as_damage():
        _add_rows(composer, _read_delimited(source, _delimiter(uri, source)))
    return composer.document(uri, "table", encoding=encoding)


def _delimiter(uri: str, source: str) -> str:
    """The delimiter that splits most of the first lines into the same number of values, above 1."""
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
    with as_damage():
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
    """A cell as people write it."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime) and value.time() == time():
        return value.date().isoformat()
    return "" if value is None else str(value)


def _add_rows(composer: Composer, rows: Iterator[Sequence[str]]) -> None:
    """Add a table, some lines at a time."""
    lines = table_lines(rows)
    line_ends = 2
    while block := list(islice(lines, _LINES_PER_BLOCK)):
        composer.add("\n".join(block), line_ends)
        line_ends = 1
