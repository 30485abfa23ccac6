"""Prepare XLS workbooks for calamine.

Gaps between cells are closed (see ``gaps``), and what would make calamine reserve more memory than
there is is left out.
"""

import struct
from collections.abc import Iterator
from itertools import groupby
from typing import Final, NamedTuple

from indexer.parse.office.legacy.compound import Compound
from indexer.parse.office.legacy.compound_writer import compound_of
from indexer.parse.office.sheets.gaps import Reference, is_sane, new_places
from indexer.skip import SkipDocument, SkipReason

_HEADER: Final = struct.Struct("<HH")
"""Kind and size of a record ([MS-XLS] 2.3); also the row and column with which cells begin."""
_BEGIN: Final = 0x0809
"""Kind of the record with which each sheet begins."""
_PASSWORD: Final = 0x002F
"""Kind of a record that says that those after it are encrypted."""
_SIZE: Final = 0x0200
"""Kind of the record that says how large a sheet is; calamine reserves memory for all its cells."""
_BLANK: Final = 0x0201
"""Kind of a cell without a value, which is not read."""
_CELLS: Final = frozenset({0x06, 0xBD, 0xD6, 0xFD, 0x0203, 0x0204, 0x0205, 0x027E})
"""Kinds of cells with a value."""


class _Cell(NamedTuple):
    sheet: int
    place: Reference
    start: int
    """Where its row is written."""


def close_old_gaps(file: Compound) -> tuple[bytes, bool]:
    """Return an XLS workbook whose sheets can be held as tables, and whether rows were moved.

    Only rows are moved: a sheet has at most 256 columns. The workbook has nothing but its main
    stream.

    Raises:
        SkipDocument: the workbook is encrypted, or the cells of a sheet lie too far apart.
        OSError: it has no such stream, or it is damaged.
    """
    stream = file.read("Workbook" if file.has("Workbook") else "Book")
    closed = bytearray(stream)
    moved = False
    for _, group in groupby(_cells(stream, closed), key=lambda cell: cell.sheet):
        cells = list(group)
        if not is_sane(cell.place for cell in cells):
            rows, _ = new_places(cell.place for cell in cells)
            moved = True
            for cell in cells:
                struct.pack_into("<H", closed, cell.start, rows[cell.place.row])
    return compound_of("Workbook", bytes(closed)), moved


def _cells(stream: bytes, changed: bytearray) -> Iterator[_Cell]:
    """Yield the cells with a value, sheet by sheet; take the sizes of sheets out of ``changed``.

    Raises:
        SkipDocument: they are encrypted.
    """
    at = sheet = 0
    while at + _HEADER.size <= len(stream):
        kind, size = _HEADER.unpack_from(stream, at)
        if kind == _SIZE:
            struct.pack_into("<H", changed, at, _BLANK)
        at += _HEADER.size
        if kind == _PASSWORD:
            raise SkipDocument(SkipReason.ENCRYPTED)
        if kind == _BEGIN:
            sheet += 1
        elif kind in _CELLS and size >= _HEADER.size and at + _HEADER.size <= len(stream):
            yield _Cell(sheet, Reference(*_HEADER.unpack_from(stream, at)), at)
        at += size
