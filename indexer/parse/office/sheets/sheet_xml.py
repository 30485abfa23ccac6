"""SpreadsheetML, the XML of Excel 2002 and 2003, which programs still export as ``.xls``."""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final

from indexer.parse.base.compose import Composer
from indexer.parse.base.titles import is_junk_title
from indexer.parse.office.ooxml import Element, attribute, local, number_of, parse_xml, whole_text
from indexer.parse.office.repeats import Repeats
from indexer.parse.office.sheets.table_lines import add_rows
from indexer.skip import parser_errors_as_damage
from retrieval.domain.records import Document

_MAX_GAP: Final = 100
"""Columns without a value beyond are left out, so that a stray cell costs nothing."""
_MAX_REPEATED: Final = 1_000
"""Rows beyond, in a cell merged over more, don't repeat its value."""


def parse_sheet_xml(uri: str, data: bytes) -> Document:
    """Make a document of a SpreadsheetML file: the values, sheet by sheet.

    Raises:
        SkipDocument: it is damaged.
    """
    composer = Composer()
    with parser_errors_as_damage():
        root = parse_xml(data)
        about = {local(one): one.text or "" for node in root for one in node if _is_about(node)}
        for sheet in root:
            if local(sheet) == "Worksheet":
                composer.begin_page()
                composer.add_heading(1, attribute(sheet, "Name"))
                for table in sheet:
                    add_rows(composer, _rows(table) if local(table) == "Table" else ())
    title = about.get("Title", "")
    titles = ["" if is_junk_title(title) else title, PurePosixPath(uri).stem]
    metadata = [("author", about.get("Author", "")), ("date", about.get("Created", ""))]
    return composer.document(uri, "spreadsheet", titles, metadata)


def _is_about(node: Element) -> bool:
    return local(node) == "DocumentProperties"


def _rows(table: Element) -> Iterator[list[str]]:
    """Yield the values of each row; rows that are merged into one cell all have its value."""
    number = 1
    merged: dict[int, tuple[int, str]] = {}
    repeats = Repeats()
    for row in table:
        if local(row) != "Row":
            continue
        at = number_of(row, "Index", number)
        if at > number:
            yield []
        values: list[str] = []
        for cell in row:
            if local(cell) == "Cell":
                gap = number_of(cell, "Index", len(values) + 1) - 1 - len(values)
                values += [""] * min(gap, _MAX_GAP)
                value = " ".join(map(whole_text, _data(cell)))
                if down := min(number_of(cell, "MergeDown"), _MAX_REPEATED):
                    merged[len(values)] = (at + down, value)
                values += [value, *[""] * min(max(number_of(cell, "MergeAcross"), 0), _MAX_GAP)]
        for column, (last, value) in list(merged.items()):
            if at > last:
                del merged[column]
            else:
                values += [""] * (column + 1 - len(values))
                values[column] = values[column] or repeats.again(value)
        number = max(at, number) + 1
        yield values


def _data(cell: Element) -> Iterator[Element]:
    """Yield the values of a cell, but no comments."""
    return (node for node in cell if local(node) == "Data")
