"""Workbooks of Excel, read by calamine: a section for each sheet, a line for each row."""

import io
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, time
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from indexer.parse.base.compose import Composer
from indexer.parse.office.legacy.compound import Compound
from indexer.parse.office.ooxml import Package
from indexer.parse.office.repeats import Repeats
from indexer.parse.office.sheets.drawings import add_drawing, drawings_of
from indexer.parse.office.sheets.gaps import close_gaps
from indexer.parse.office.sheets.old_gaps import close_old_gaps
from indexer.parse.office.sheets.table_lines import add_rows
from indexer.skip import MAX_DETAIL_CHARS, SkipDocument, SkipReason, parser_errors_as_damage
from retrieval.domain.records import Document

if TYPE_CHECKING:
    from python_calamine import CalamineSheet

_Merges = dict[int, list[tuple[int, int]]]
"""For each row, the columns of the cells that span rows from here on, and their last rows."""


def parse_workbook(uri: str, data: bytes) -> Document:
    """Make a document of a workbook (XLSX, XLSM, XLSB or XLS): the values, sheet by sheet.

    A sheet that can't be read is named in the metadata ``unread``.

    Raises:
        SkipDocument: it is damaged or encrypted, or its cells lie too far apart.
    """
    from python_calamine import CalamineError, CalamineWorkbook, SheetTypeEnum

    composer = Composer()
    title, metadata = "", list[tuple[str, object]]()
    with parser_errors_as_damage():
        drawings: dict[str, list[str]] = {}
        package: Package | None = None
        if data.startswith(b"PK"):
            package = Package(data)
            drawings = drawings_of(package)
            title, metadata = package.about()
            closed, moved = close_gaps(data, package)
        else:
            file = Compound(data)
            title, metadata = file.about()
            closed, moved = close_old_gaps(file)
        try:
            with _panics_as_damage():
                workbook = CalamineWorkbook.from_filelike(io.BytesIO(closed))
        except CalamineError as error:  # it only says that no format fits
            raise SkipDocument(SkipReason.DAMAGED, "not readable as a workbook") from error
        for sheet in workbook.sheets_metadata:
            cells: CalamineSheet | None
            try:
                with _panics_as_damage():
                    cells = workbook.get_sheet_by_name(sheet.name)
            except (CalamineError, SkipDocument):
                # A sheet that is a chart or a macro has no cells.
                if sheet.typ == SheetTypeEnum.WorkSheet:
                    composer.unread(f"sheet {sheet.name}")
                if not drawings.get(sheet.name):
                    continue
                cells = None
            composer.begin_page()
            composer.add_heading(1, sheet.name)
            if cells is not None:
                # The references of merged cells are those before gaps were closed.
                add_rows(composer, _plain_rows(cells) if moved else _rows(cells))
            for part in drawings.get(sheet.name, ()):
                if package is not None:
                    add_drawing(composer, package, part, sheet.name)
    return composer.document(uri, "spreadsheet", [title, PurePosixPath(uri).stem], metadata)


@contextmanager
def _panics_as_damage() -> Iterator[None]:
    """Turn a panic of calamine, which is no ``Exception`` in Python, into ``SkipDocument``.

    Raises:
        SkipDocument: calamine panicked.
    """
    try:
        yield
    except BaseException as error:
        if type(error).__module__ != "pyo3_runtime":
            raise
        raise SkipDocument(SkipReason.DAMAGED, f"calamine: {error}"[:MAX_DETAIL_CHARS]) from error


def _plain_rows(sheet: "CalamineSheet") -> Iterator[list[str]]:
    """Yield the values of each row."""
    return (list(map(_value, row)) for row in sheet.iter_rows())


def _rows(sheet: "CalamineSheet") -> Iterator[list[str]]:
    """Yield the values of each row; rows that are merged into one cell all have its value."""
    merges = _merged_rows(sheet)
    repeats = Repeats()
    open_: dict[int, tuple[int, str]] = {}
    for number, row in enumerate(_plain_rows(sheet)):
        for column, (last, value) in list(open_.items()):
            if number > last:
                del open_[column]
            elif not row[column]:
                row[column] = repeats.again(value)
        for column, last in merges.get(number, ()):
            if column < len(row) and row[column]:
                open_[column] = (last, row[column])
        yield row


def _merged_rows(sheet: "CalamineSheet") -> _Merges:
    """Return the cells that span several rows, by the row of the first."""
    merges: _Merges = defaultdict(list)
    # The rows that calamine yields begin at the top of the sheet, but at its first column used.
    left = sheet.start[1] if sheet.start else 0
    for (first_row, column), (last_row, _) in sheet.merged_cell_ranges or ():
        if last_row > first_row and column >= left:
            merges[first_row].append((column - left, last_row))
    return merges


def _value(value: object) -> str:
    """Return a cell's value as people write it: ``3``, not ``3.0``; no time at midnight."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime) and value.time() == time():
        return value.date().isoformat()
    return "" if value is None else str(value)
