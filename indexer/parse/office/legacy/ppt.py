"""PPT ([MS-PPT]), the format of PowerPoint 97 to 2003: each slide is a page and a section."""

import struct
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final, NamedTuple

from indexer.parse.base.compose import Composer
from indexer.parse.base.outline import one_line
from indexer.parse.office.drawing import described
from indexer.parse.office.grid import add_table
from indexer.parse.office.legacy.compound import Compound, western
from indexer.skip import SkipDocument, SkipReason, parser_errors_as_damage
from retrieval.domain.records import Document

_DOCUMENT: Final = "PowerPoint Document"
_USER: Final = "Current User"
_ENCRYPTED: Final = 0xF3D1C4DF
"""What the stream of the current user says of an encrypted file."""

_HEADER: Final = struct.Struct("<HHI")
"""Of a record: version and instance, kind, size."""
_CONTAINER: Final = 0xF
"""Version of records that hold others."""

# Kinds of records ([MS-PPT] 2.13.24 and [MS-ODRAW] 2.2).
_SLIDE, _NOTES, _NOTES_ATOM = 0x03EE, 0x03F0, 0x03F1
_LIST, _PERSIST = 0x0FF0, 0x03F3
_TEXT_KIND, _UTF_16, _BYTES, _OUTLINE = 0x0F9F, 0x0FA0, 0x0FA8, 0x0F9E
_EDIT, _DIRECTORY, _PLACEHOLDER = 0x0FF5, 0x1772, 0x0BC3
_GROUP, _SHAPE, _ANCHOR, _CHILD_ANCHOR = 0xF003, 0xF004, 0xF010, 0xF00F
_PROPERTIES: Final = frozenset({0xF00B, 0xF122})

_TITLES: Final = frozenset({0, 6})
"""Kinds of texts that are titles."""
_NOTE: Final = 2
"""Kind of text that is a speaker's note."""
_UNREAD: Final = frozenset({7, 8, 9, 10})
"""Placeholders of the date, the number, the footer and the header of a slide."""
_TABLE_PROPERTIES: Final = 0x039F
"""Property that only the group of a table's cells has."""
_DESCRIPTION: Final = 0x0381
"""Property with the text for those who can't see a picture."""
_COMPLEX: Final = 0x8000
"""Mark of a property whose number is the size of its value, which follows all properties."""
_OTHER: Final = 4
"""Kind of text that is neither a title, nor the body, nor a note."""
_NUMBER: Final = 4
"""Number of bytes of a number."""
_LONG_ANCHOR: Final = 16
"""Number of bytes of an anchor whose numbers have four bytes instead of two."""
_MAX_SPARSE: Final = 16
"""A table may have this many places for each cell; others are not taken for tables."""
_MAX_DEPTH: Final = 32
"""Records nested deeper are left out."""
_SAME_LINE: Final = 36
"""Boxes whose tops differ by less are read from left to right: 1/16 inch, in 1/576 inch."""


class _Record(NamedTuple):
    kind: int
    instance: int
    start: int
    """Where its content is."""
    end: int
    is_container: bool


@dataclass(slots=True)
class _Text:
    """A text of a shape, or of the outline."""

    kind: int
    text: str = ""
    is_used: bool = False
    """Whether a shape shows it."""


@dataclass(slots=True)
class _Box:
    """A shape, or a group of shapes."""

    place: tuple[int, int] = (0, 0)
    """Distance from the top and from the left."""
    texts: list[_Text] = field(default_factory=list)
    is_unread: bool = False
    is_table: bool = False
    members: "list[_Box]" = field(default_factory=list)


class _Entry(NamedTuple):
    """A slide or page of notes in the list of all."""

    reference: int
    """Number of its record in the directory."""
    identity: int
    outline: list[_Text]


def parse_ppt(uri: str, data: bytes) -> Document:
    """Make a document of a PPT file: titles, texts, tables, alternative text and speaker's notes.

    Raises:
        SkipDocument: it is damaged or encrypted.
    """
    composer = Composer()
    with parser_errors_as_damage():
        compound = Compound(data)
        if compound.has(_USER) and _number(compound.read(_USER), 12) == _ENCRYPTED:
            raise SkipDocument(SkipReason.ENCRYPTED)
        file = _File(compound.read(_DOCUMENT))
        if not file.has_slides:
            raise SkipDocument(SkipReason.DAMAGED, "no slides in it, or a format before 97")
        first = file.add_slides(composer)
        title, metadata = compound.about()
    return composer.document(uri, "ppt", [first, title, PurePosixPath(uri).stem], metadata)


class _File:
    """The stream that holds the slides."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offsets: dict[int, int] = {}
        """Where the records are that others refer to by number."""
        self._lists: dict[int, list[_Entry]] = {0: [], 2: []}
        """Slides and notes in order."""
        self._used: set[int] = set()
        """Where slides, notes and texts are that were read: a hostile file names one many times."""
        known = {_DIRECTORY, _LIST}
        found = [record for record in self._walk(0, len(data)) if record.kind in known]
        for record in found:  # a later edit replaces records of earlier ones
            if record.kind == _DIRECTORY:
                self._read_directory(record)
        for record in found:
            if record.kind == _LIST and record.instance in self._lists:
                entries = list(self._entries(record))
                if entries:
                    self._lists[record.instance] = entries

    @property
    def has_slides(self) -> bool:
        """Whether there is a list of slides."""
        return bool(self._lists[0])

    def add_slides(self, composer: Composer) -> str:
        """Add the slides with their notes, and return the title of the first."""
        notes = self._notes()
        first = ""
        for number, entry in enumerate(self._lists[0], 1):
            composer.begin_page()
            record = self._record(entry.reference, _SLIDE)
            if record is None:
                composer.unread(f"slide {number}")
                boxes = [_Box(texts=entry.outline)]
            else:
                boxes = _in_order(self._boxes(record, entry.outline))
            texts = [text for box in _flat(boxes) for text in box.texts]
            # Some programs write titles only into the outline.
            titles = [one for one in texts or entry.outline if one.kind in _TITLES]
            title = one_line(" ".join(one.text for one in titles))
            first = title if number == 1 else first
            if title:
                composer.add_heading(1, title)
            else:
                composer.begin_section(1, f"Slide {number}")
            for box in boxes:
                _add_box(composer, box)
            note = "\n".join(notes.get(entry.identity, ()))
            composer.add(f"Notes: {note}" if note else "")
        return first

    def _notes(self) -> dict[int, list[str]]:
        """Return the speaker's notes of each slide."""
        notes: dict[int, list[str]] = {}
        for entry in self._lists[2]:
            if (record := self._record(entry.reference, _NOTES)) is None:
                continue
            atoms = [one for one in self._children(record) if one.kind == _NOTES_ATOM]
            slide = _number(self._data, atoms[0].start) if atoms else 0
            boxes = _flat(self._boxes(record, entry.outline))
            texts = (one for box in boxes for one in box.texts if one.kind == _NOTE)
            notes.setdefault(slide, []).extend(
                one.text.strip() for one in texts if one.text.strip()
            )
        return notes

    def _records(self, start: int, end: int) -> Iterator[_Record]:
        """Yield the records of a stretch, but not those in them."""
        at = start
        while at + _HEADER.size <= end:
            head, kind, size = _HEADER.unpack_from(self._data, at)
            at += _HEADER.size
            stop = min(at + size, end)
            yield _Record(kind, head >> 4, at, stop, head & 0xF == _CONTAINER)
            at = stop

    def _children(self, record: _Record) -> Iterator[_Record]:
        return self._records(record.start, record.end)

    def _walk(self, start: int, end: int) -> Iterator[_Record]:
        """Yield the records of a stretch, and those in them, but no drawings."""
        pending = [self._records(start, end)]
        while pending:
            record = next(pending[-1], None)
            if record is None:
                pending.pop()
                continue
            yield record
            inner = record.is_container and record.kind not in {_SLIDE, _NOTES, _LIST}
            if inner and len(pending) < _MAX_DEPTH:
                pending.append(self._children(record))

    def _read_directory(self, directory: _Record) -> None:
        at = directory.start
        while at + 4 <= directory.end:
            head = _number(self._data, at)
            at += 4
            for number in range(head >> 20):
                if at + 4 > directory.end:
                    return
                self._offsets[(head & 0xFFFFF) + number] = _number(self._data, at)
                at += 4

    def _record(self, reference: int, kind: int) -> _Record | None:
        """Return the record of a number, if it is of the kind."""
        offset = self._offsets.get(reference, len(self._data))
        record = next(self._records(offset, len(self._data)), None)
        if record is None or record.kind != kind or offset in self._used:
            return None
        self._used.add(offset)
        return record

    def _entries(self, record: _Record) -> Iterator[_Entry]:
        entry: _Entry | None = None
        for child in self._children(record):
            if child.kind == _PERSIST:
                if entry is not None:
                    yield entry
                entry = _Entry(
                    _number(self._data, child.start), _number(self._data, child.start + 12), []
                )
            elif entry is not None:
                self._take_text(child, entry.outline)
        if entry is not None:
            yield entry

    def _take_text(self, record: _Record, texts: list[_Text]) -> None:
        """Add what a record says of a text."""
        data = self._data[record.start : record.end]
        if record.kind == _TEXT_KIND:
            texts.append(_Text(_number(data, 0)))
        elif record.kind in {_UTF_16, _BYTES}:
            text = data.decode("utf-16-le", "replace") if record.kind == _UTF_16 else western(data)
            if not texts or texts[-1].text:
                texts.append(_Text(_NOTE if not texts else texts[-1].kind))
            texts[-1].text = text.replace("\r", "\n").replace("\x0b", "\n")

    def _boxes(self, record: _Record, outline: Sequence[_Text], depth: int = 0) -> list[_Box]:
        """Return the shapes and groups of a drawing."""
        boxes: list[_Box] = []
        for child in self._children(record):
            if child.kind == _SHAPE:
                boxes.append(self._box(child, outline))
            elif child.kind == _GROUP and depth < _MAX_DEPTH:
                members = self._boxes(child, outline, depth + 1)
                # The first shape of a group is the group itself. The outermost group is the slide.
                if members and depth:
                    boxes.append(members[0])
                    boxes[-1].members = members[1:]
                else:
                    boxes += members
            elif child.is_container and depth < _MAX_DEPTH:
                boxes += self._boxes(child, outline, depth)
        return boxes

    def _box(self, shape: _Record, outline: Sequence[_Text]) -> _Box:
        box = _Box()
        for record in self._walk(shape.start, shape.end):
            size = record.end - record.start
            if record.kind == _ANCHOR and size:
                box.place = struct.unpack_from(
                    "<hh" if size < _LONG_ANCHOR else "<ii", self._data, record.start
                )
            elif record.kind == _CHILD_ANCHOR and size:
                left, top = struct.unpack_from("<ii", self._data, record.start)
                box.place = (top, left)
            elif record.kind == _PLACEHOLDER and size > _NUMBER:
                box.is_unread = self._data[record.start + _NUMBER] in _UNREAD
            elif record.kind in _PROPERTIES:
                properties = dict(self._properties(record))
                box.is_table = box.is_table or _TABLE_PROPERTIES in properties
                words = properties.get(_DESCRIPTION, b"").decode("utf-16-le", "replace")
                if text := described(words.rstrip("\0")):
                    box.texts.append(_Text(_OTHER, text))
            elif record.kind == _OUTLINE:
                index = _number(self._data, record.start)
                box.texts += (one for one in outline[index : index + 1] if not one.is_used)
                for one in box.texts:
                    one.is_used = True
            else:
                self._take_text(record, box.texts)
        return box

    def _properties(self, record: _Record) -> Iterator[tuple[int, bytes]]:
        """Yield the properties of a shape: their numbers, and the values that are not numbers."""
        values = record.start + 6 * record.instance
        for at in range(record.start, min(values, record.end - 5), 6):
            name = struct.unpack_from("<H", self._data, at)[0]
            size = _number(self._data, at + 2) if name & _COMPLEX else 0
            yield name & 0x3FFF, self._data[values : min(values + size, record.end)]
            values += size


def _number(data: bytes, at: int) -> int:
    """Return four bytes as a number; 0 if they aren't there."""
    return int.from_bytes(data[at : at + 4], "little")


def _flat(boxes: Sequence[_Box]) -> Iterator[_Box]:
    """Yield boxes and the members of groups, without those that are the same on each slide."""
    for box in boxes:
        if not box.is_unread:
            yield box
            yield from _flat(box.members)


def _in_order(boxes: Sequence[_Box]) -> list[_Box]:
    """Return boxes from top to bottom, and from left to right on a line; groups stay together."""
    lines: list[list[_Box]] = []
    for box in sorted(boxes, key=lambda box: box.place):
        box.members = _in_order(box.members)
        if lines and box.place[0] - lines[-1][0].place[0] < _SAME_LINE:
            lines[-1].append(box)
        else:
            lines.append([box])
    return [box for line in lines for box in sorted(line, key=lambda box: box.place[1])]


def _add_box(composer: Composer, box: _Box) -> None:
    """Add the texts of a shape, or of a group, without titles."""
    if box.is_unread:
        return
    for one in box.texts:
        if one.kind not in _TITLES:
            composer.add("\n".join(filter(None, map(str.strip, one.text.split("\n")))))
    if box.is_table:
        lefts, tops = (sorted({cell.place[n] for cell in box.members}) for n in (1, 0))
        if len(lefts) * len(tops) <= _MAX_SPARSE * len(box.members):
            rows = {top: [""] * len(lefts) for top in tops}
            for cell in box.members:
                text = " ".join(one.text for one in cell.texts)
                rows[cell.place[0]][bisect_left(lefts, cell.place[1])] += text
            add_table(composer, list(rows.values()))
            return
    for member in box.members:
        _add_box(composer, member)
