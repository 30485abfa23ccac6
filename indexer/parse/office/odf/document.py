"""Make documents of OpenDocument files: texts, presentations and spreadsheets."""

from collections.abc import Iterator, Sequence
from itertools import repeat
from pathlib import PurePosixPath
from typing import Final

from indexer.parse.base.compose import Composer
from indexer.parse.base.outline import one_line, words
from indexer.parse.office.odf.package import OpenDocument, children, repeats
from indexer.parse.office.odf.styles import read_styles
from indexer.parse.office.odf.text import TextWalk, table_rows
from indexer.parse.office.ooxml import Element, attribute, local
from indexer.parse.office.sheets.table_lines import add_rows
from indexer.skip import parser_errors_as_damage
from retrieval.domain.records import Document

_FORMATS: Final = {
    "text": "odt",
    "presentation": "odp",
    "spreadsheet": "spreadsheet",
    "drawing": "odp",
}
_UNREAD: Final = words("date-time footer header page-number page")
"""Kinds of frames whose content is the same on every slide, such as its number."""
_MAX_REPEATED: Final = 2_000_000
"""Maximum number of characters that a sheet repeats; bounds hostile files."""
_MAX_COLUMNS: Final = 16_384
"""Width of the largest sheets of any program."""


def parse_open_document(uri: str, data: bytes) -> Document:
    """Make a document of an OpenDocument file, zipped or flat.

    Slides are pages and sections; sheets are, too, with a line for each row. Tracked deletions,
    comments and hidden text are left out.

    Raises:
        SkipDocument: it is damaged or encrypted.
    """
    composer = Composer()
    with parser_errors_as_damage():
        file = OpenDocument(data)
        kind, body = file.body()
        walk = TextWalk(file, read_styles(file.styles()), composer)
        titles: list[str] = []
        title, metadata = file.about()
        if kind == "spreadsheet":
            for table in children(body, "table"):
                _add_sheet(walk, table)
            titles = [title, PurePosixPath(uri).stem]
        elif kind == "text":
            walk.blocks(body)
            walk.add_notes()
            titles = [title, walk.title]
        else:
            slides = [_add_slide(walk, page, n) for n, page in enumerate(children(body, "page"), 1)]
            titles = [title, slides[0] if slides else "", PurePosixPath(uri).stem]
    return composer.document(uri, _FORMATS[kind], titles, metadata)


def _add_slide(walk: TextWalk, page: Element, number: int) -> str:
    """Add a slide with its notes, and return its title."""
    composer = walk.composer
    composer.begin_page()
    frames = [node for node in page if attribute(node, "class") not in _UNREAD]
    titles = [node for node in frames if attribute(node, "class") == "title"]
    title = one_line(" ".join(" ".join(_texts(walk, node)) for node in titles))
    if title:
        composer.add_heading(1, title)
    else:
        composer.begin_section(1, f"Slide {number}")
    for frame in sorted(frames, key=_place):
        if frame not in titles and local(frame) != "notes":
            walk.add_frame(frame)
    notes = [
        text
        for part in children(page, "notes")
        for frame in part
        if attribute(frame, "class") not in _UNREAD
        for text in _texts(walk, frame)
    ]
    composer.add("Notes: " + "\n".join(notes) if notes else "")
    walk.add_notes()
    return title


def _texts(walk: TextWalk, frame: Element) -> list[str]:
    """Return the paragraphs of a frame that have any text."""
    texts = (walk.text(node).strip() for node in frame.iter() if local(node) == "p")
    return list(filter(None, texts))


def _place(frame: Element) -> tuple[float, float]:
    """Return how far down and how far right a frame begins."""
    return _length(attribute(frame, "y")), _length(attribute(frame, "x"))


def _length(text: str) -> float:
    """Return a length such as ``2.5cm`` without its unit, which is the same on a page."""
    try:
        return float(text.rstrip("abcdefghijklmnopqrstuvwxyz%"))
    except ValueError:
        return 0.0


def _add_sheet(walk: TextWalk, table: Element) -> None:
    walk.composer.begin_page()
    walk.composer.add_heading(1, attribute(table, "name"))
    add_rows(walk.composer, _sheet_rows(walk, table))
    for shapes in children(table, "shapes"):
        for shape in shapes:
            walk.add_frame(shape)


def _sheet_rows(walk: TextWalk, table: Element) -> Iterator[Sequence[str]]:
    """Yield the values of the rows; cells that are repeated are there as often."""
    left = _MAX_REPEATED
    merged: dict[int, tuple[int, str]] = {}
    for row, _ in table_rows(table):
        values: list[str] = []
        for cell in row:
            if local(cell) not in {"table-cell", "covered-table-cell"}:
                continue
            value = _value(walk, cell)
            column = len(values)
            if not value and column in merged and local(cell) == "covered-table-cell":
                value = merged[column][1] if len(merged[column][1]) <= left else ""
                left -= len(value)
            elif (spanned := repeats(cell, "number-rows-spanned")) > 1:
                merged[column] = (spanned, value)
            number = min(repeats(cell, "number-columns-repeated"), _MAX_COLUMNS)
            if value:
                number = min(number, max(left, 0) // (len(value) + 1) + 1)
                left -= (number - 1) * (len(value) + 1)
            values.extend(repeat(value, number))
        merged = {column: (n - 1, text) for column, (n, text) in merged.items() if n > 1}
        while values and not values[-1]:
            values.pop()
        # An empty row separates tables, however often it is repeated.
        size = sum(map(len, values)) + len(values)
        number = min(repeats(row, "number-rows-repeated"), max(left, 0) // max(size, 1) + 1)
        number = number if values else 1
        left -= (number - 1) * size
        yield from repeat(values, number)


def _value(walk: TextWalk, cell: Element) -> str:
    """Return a cell's value as people write it: ``3``, a date, or what is shown."""
    kind = attribute(cell, "value-type")
    if kind == "date":
        return attribute(cell, "date-value").removesuffix("T00:00:00").replace("T", " ")
    if kind == "float":
        return attribute(cell, "value")
    return walk.cell(cell)
