"""DOC ([MS-DOC]): the binary format of Word 97 to 2003, and the text of Word 6 and 95."""

import struct
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from indexer.decoding.detect import detect
from indexer.parse.base.compose import Composer
from indexer.parse.office.docx.styles import TITLE
from indexer.parse.office.grid import add_table
from indexer.parse.office.legacy.compound import Compound, code_page, western
from indexer.parse.office.legacy.doc_format import (
    Paragraph,
    Runs,
    Style,
    hidden_runs,
    paragraph_runs,
    read_styles,
)
from indexer.skip import SkipDocument, SkipReason, parser_errors_as_damage
from retrieval.domain.records import Document

_DOCUMENT: Final = "WordDocument"
_MAGIC: Final = (b"\xa5", b"\xa6")
"""Second bytes of the header; the first depends on the version."""
_WORD_97: Final = 0x00C1
"""First version whose text is Unicode."""
_ENCRYPTED: Final = 0x0100
_SECOND_TABLE: Final = 0x0200

# Offsets in the header of the document ([MS-DOC] 2.5).
_VERSION, _LANGUAGE, _FLAGS, _FIRST_CHARACTER = 0x02, 0x06, 0x0A, 0x18
_STYLES, _NOTES, _CHARACTERS, _PARAGRAPHS, _PIECES, _END_NOTES = (
    *(0xA2, 0xAA, 0xFA, 0x102, 0x1A2, 0x20A),
)
_LENGTHS, _OLD_LENGTHS = 0x4C, 0x34
_OLD_PIECES: Final = 0x160
_NUMBER_OF_LENGTHS: Final = 8

_COMPRESSED: Final = 0x40000000
"""Bit of a piece's offset that says that a character is one byte; the offset is doubled then."""
_PIECE: Final = 8
"""Number of bytes of a piece's description."""

_CELL, _PARAGRAPH, _PAGE, _COLUMN = "\x07", "\r", "\x0c", "\x0e"
_FIELD_BEGIN, _FIELD_SEPARATOR, _FIELD_END = "\x13", "\x14", "\x15"
_ENDS: Final = frozenset({_CELL, _PARAGRAPH, _PAGE, _COLUMN})
_WRITTEN: Final[Mapping[str, str]] = {
    "\x02": "\x02",  # the mark with which a note begins
    "\x0b": "\n",
    "\t": "\t",
    "\x1e": "-",
    "\xa0": " ",
}
_MAX_INDENT: Final = 8
"""List items nested deeper are not indented further."""
_MAX_FIELDS: Final = 100
"""Fields nested deeper are not told apart; Word allows 20."""


class _Piece(NamedTuple):
    """A stretch of the text as it is stored."""

    text: str
    offset: int
    """Where it is in the stream."""
    width: int
    """Number of bytes of a character."""


class _File(NamedTuple):
    """What is read of a file."""

    pieces: list[_Piece]
    lengths: tuple[int, ...]
    """Number of characters of each part: body, footnotes, headers, ..."""
    hidden: Runs[bool | None]
    paragraphs: Runs[Paragraph]
    styles: Mapping[int, Style]
    notes: Mapping[int, int]
    """Number of the note that is referred to at a place in the body."""
    endnotes: int
    """Number of the first endnote, less one."""


def parse_doc(uri: str, data: bytes) -> Document:
    """Make a document of a DOC file.

    Headings are by Word's styles and by outline levels; the rows of tables are lines. Notes and
    text boxes follow at the end. Page headers, comments, hidden and deleted text, and the codes of
    fields are left out.

    Raises:
        SkipDocument: it is damaged or encrypted.
    """
    with parser_errors_as_damage():
        compound = Compound(data)
        walk = _Walk(_read(compound))
        walk.add()
        title, metadata = compound.about()
    return walk.composer.document(uri, "doc", [walk.title, title], metadata)


def _read(compound: Compound) -> _File:
    """Read the text, and what is said of it.

    Raises:
        SkipDocument: it is encrypted.
        Exception: it is damaged.
    """
    document = compound.read(_DOCUMENT)
    if document[1:2] not in _MAGIC:
        raise SkipDocument(SkipReason.DAMAGED, "no Word document in it")
    version, flags = (struct.unpack_from("<H", document, at)[0] for at in (_VERSION, _FLAGS))
    if flags & _ENCRYPTED:
        raise SkipDocument(SkipReason.ENCRYPTED)
    if version < _WORD_97:
        return _read_old(document)
    table = compound.read("1Table" if flags & _SECOND_TABLE else "0Table")

    def part(at: int) -> bytes:
        offset, size = struct.unpack_from("<II", document, at)
        return table[offset : offset + size]

    styles = read_styles(part(_STYLES))
    footnotes, endnotes = (_places(part(at)) for at in (_NOTES, _END_NOTES))
    return _File(
        pieces=list(_pieces(part(_PIECES), document, "")),
        lengths=struct.unpack_from(f"<{_NUMBER_OF_LENGTHS}I", document, _LENGTHS),
        hidden=hidden_runs(document, part(_CHARACTERS)),
        paragraphs=paragraph_runs(document, part(_PARAGRAPHS), styles),
        styles=styles,
        notes={place: number for number, place in enumerate((*footnotes, *endnotes), 1)},
        endnotes=len(footnotes),
    )


def _read_old(document: bytes) -> _File:
    """Read the text of a file of Word 6 or 95, which has a character in a byte."""
    language, first = (
        struct.unpack_from("<H", document, _LANGUAGE)[0],
        struct.unpack_from("<I", document, _FIRST_CHARACTER)[0],
    )
    lengths = struct.unpack_from(f"<{_NUMBER_OF_LENGTHS}I", document, _OLD_LENGTHS)
    encoding = _OF_LANGUAGE.get(language & 0x3FF, "")
    if not encoding:  # the language is that of the program, and often not that of the text
        encoding = detect(document[first : first + sum(lengths)].translate(None, _CONTROLS))
        encoding = encoding if encoding.startswith(_SINGLE_BYTE) else "cp1252"
    offset, size = struct.unpack_from("<II", document, _OLD_PIECES)
    pieces = list(_pieces(document[offset : offset + size], document, encoding))
    if not pieces:
        text = document[first : first + sum(lengths)].decode(encoding, "replace")
        pieces = [_Piece(text, first, 1)]
    none = Runs[Paragraph]([], Paragraph())
    return _File(pieces, lengths, Runs[bool | None]([], None), none, {}, {}, 0)


_CONTROLS: Final = bytes({*range(0x20)} - {0x09, 0x0A, 0x0D})
_SINGLE_BYTE: Final = ("cp125", "cp86", "koi8", "iso8859", "mac")
"""How the names of encodings begin that have a character in a byte."""
_OF_LANGUAGE: Final = {
    **dict.fromkeys((0x05, 0x0E, 0x15, 0x18, 0x1A, 0x1B, 0x24), code_page(1250)),
    **dict.fromkeys((0x02, 0x19, 0x22, 0x23), code_page(1251)),
    **{0x08: "cp1253", 0x1F: "cp1254", 0x0D: "cp1255", 0x01: "cp1256", 0x1E: "cp874"},
    **{0x11: "cp932", 0x12: "cp949", 0x04: "cp936"},
}
"""Language of an old file to the encoding of its text."""


def _pieces(data: bytes, document: bytes, encoding: str) -> Iterator[_Piece]:
    """Yield the pieces of the text in their order ([MS-DOC] 2.9.38).

    Args:
        data: the list of pieces.
        document: holds the text.
        encoding: of an old file; empty if the pieces themselves tell.
    """
    at = 0
    while at < len(data) and data[at] == 1:  # formatting, which is not needed
        at += 3 + struct.unpack_from("<H", data, at + 1)[0]
    if at >= len(data):
        return
    size = struct.unpack_from("<I", data, at + 1)[0]
    plex = data[at + 5 : at + 5 + size]
    number = (len(plex) - 4) // (4 + _PIECE)
    places = struct.unpack_from(f"<{number + 1}I", plex) if number > 0 else (0,)
    left = len(document)  # a hostile list may refer to the same text many times
    for index in range(number):
        offset = struct.unpack_from("<I", plex, 4 * (number + 1) + _PIECE * index + 2)[0]
        count = max(0, min(places[index + 1] - places[index], left))
        if encoding or offset & _COMPRESSED:
            start = offset if encoding else (offset & ~_COMPRESSED) // 2
            raw = document[start : start + count]
            text = raw.decode(encoding, "replace") if encoding else western(raw)
            yield _Piece(text, start, 1)
        else:
            raw = document[offset : offset + 2 * count]
            # Surrogates stay apart, so that a character is two bytes.
            text = "".join(map(chr, struct.unpack(f"<{len(raw) // 2}H", raw[: len(raw) & ~1])))
            yield _Piece(text, offset, 2)
        left -= count


def _places(plex: bytes) -> tuple[int, ...]:
    """Return the places of the references to notes."""
    number = max((len(plex) - 4) // 6, 0)
    return struct.unpack_from(f"<{number}I", plex)


class _Walk:
    """One walk over the text of a file."""

    def __init__(self, file: _File) -> None:
        self.composer = Composer()
        self.title = ""
        """Text of the first paragraph in the title's style."""
        self._file = file
        self._rows: list[list[str]] = []
        self._cells: list[str] = []
        self._cell: list[str] = []
        """Paragraphs of the cell that is being read."""
        self._was_item = False
        self._drop_cap = ""
        """First letters of the next paragraph, which stand in a frame of their own."""

    def add(self) -> None:
        """Add the body, text boxes and notes."""
        body, footnotes, headers, macros, comments, endnotes, boxes, _ = self._file.lengths
        at = 0
        parts: list[tuple[int, int]] = []
        for length in (body, footnotes, headers, macros, comments, endnotes, boxes):
            parts.append((at, at + length))
            at += length
        for part in (parts[0], parts[-1]):
            self._add_part(*part)
        self._add_notes(*parts[1], first=0)
        self._add_notes(*parts[5], first=self._file.endnotes)

    def _add_part(self, start: int, end: int) -> None:
        for text, mark, paragraph in self._paragraphs(start, end):
            self._paragraph(text.replace("\x02", ""), mark, paragraph)
        self._end_table()
        self.composer.add(self._drop_cap)  # of a paragraph that is missing
        self._drop_cap = ""

    def _add_notes(self, start: int, end: int, *, first: int) -> None:
        """Add notes, each of which begins with its mark."""
        notes: list[list[str]] = []
        for text, _, _ in self._paragraphs(start, end):
            if text.startswith("\x02") or not notes:
                notes.append([])
            notes[-1].append(text.strip("\x02 "))
        for number, note in enumerate(notes, first + 1):
            text = " ".join(" ".join(note).split())
            self.composer.add(f"[{number}] {text}" if text else "")

    def _paragraphs(self, start: int, end: int) -> Iterator[tuple[str, str, Paragraph]]:
        """Yield the paragraphs of a part: its text, the character that ends it, what is said."""
        parts: list[str] = []
        fields = _Fields()
        for place, character, hidden, offset in self._characters(start, end):
            if character in _ENDS:
                yield _joined(parts), character, self._file.paragraphs.at(offset)
                parts = []
            elif not fields.take(character) and not hidden:
                if place in self._file.notes:
                    parts.append(f"[{self._file.notes[place]}]")
                elif character >= " " or character in _WRITTEN:
                    parts.append(_WRITTEN.get(character, character))
        if parts:
            yield _joined(parts), _PARAGRAPH, Paragraph()

    def _characters(self, start: int, end: int) -> Iterator[tuple[int, str, bool, int]]:
        """Yield the place of each character of a part, itself, whether it is hidden, its offset."""
        place = 0
        for text, offset, width in self._file.pieces:
            if place + len(text) > start and place < end:
                first, last = max(start - place, 0), min(end - place, len(text))
                styled = self._styled(text, first, last, offset, width)
                for index in range(first, last):
                    at = offset + width * index
                    yield place + index, text[index], styled[index - first], at
            place += len(text)

    def _styled(self, text: str, first: int, last: int, offset: int, width: int) -> list[bool]:
        """Return whether each character of a stretch is hidden."""
        hidden: list[bool] = []
        by_style = False
        for index in range(last - 1, first - 1, -1):  # the end of a paragraph names its style
            at = offset + width * index
            if text[index] in _ENDS or index == last - 1:
                style = self._file.styles.get(self._file.paragraphs.at(at).style)
                by_style = style is not None and style.hidden
            own = self._file.hidden.at(at)
            hidden.append(by_style if own is None else own)
        hidden.reverse()
        return hidden

    def _paragraph(self, text: str, mark: str, said: Paragraph) -> None:
        if mark == _CELL:
            # Without what is said, an empty cell after another cell ends a row.
            if said.ends_row or (not said.in_table and self._cells and not (text or self._cell)):
                self._rows.append(self._cells)
                self._cells, self._cell = [], []
            else:
                self._cell.append(text)
                self._cells.append(" ".join(" ".join(self._cell).split()))
                self._cell = []
            return
        if said.in_table:
            self._cell.append(text)
            return
        self._end_table()
        text, self._drop_cap = self._drop_cap + text.strip(), ""
        if not text:
            return
        if said.is_drop_cap:
            self._drop_cap = text
            return
        if said.level is not None:
            self.title = self.title or (text if said.level == TITLE else "")
            self.composer.add_heading(said.level, text)
            self._was_item = False
            return
        is_item = said.indent is not None
        indent = "" if said.indent is None else "  " * min(said.indent, _MAX_INDENT) + "- "
        self.composer.add(indent + text, 1 if is_item and self._was_item else 2)
        self._was_item = is_item

    def _end_table(self) -> None:
        cells = [*self._cells, " ".join(self._cell)] if self._cell else self._cells
        if cells:
            self._rows.append(cells)
            self._cells, self._cell = [], []
        if self._rows:
            add_table(self.composer, self._rows)
            self._rows = []
            self._was_item = False


class _Fields:
    """Tells the codes of fields, which a reader doesn't see, from their results."""

    def __init__(self) -> None:
        self._are_codes: list[bool] = []
        """Whether each open field is in its code."""
        self._codes = 0

    def take(self, character: str) -> bool:
        """Return whether the next character is part of a code, or marks one."""
        if character == _FIELD_BEGIN and len(self._are_codes) < _MAX_FIELDS:
            self._are_codes.append(True)
            self._codes += 1
        elif character == _FIELD_SEPARATOR and self._are_codes:
            self._codes -= self._are_codes[-1]
            self._are_codes[-1] = False
        elif character == _FIELD_END and self._are_codes:
            self._codes -= self._are_codes.pop()
        return self._codes > 0


def _joined(parts: list[str]) -> str:
    """Return the characters as text, surrogates in pairs."""
    text = "".join(parts)
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
