"""What a DOC file says of its paragraphs and characters ([MS-DOC] 2.8, 2.9.33, 2.9.175)."""

import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Generic, NamedTuple, TypeVar

from indexer.parse.office.docx.styles import LAST_LEVEL, TITLE

_PAGE: Final = 512
"""Size of a page of formatting."""
_U16: Final = struct.Struct("<H")
_U32: Final = struct.Struct("<I")

# Properties by their number ([MS-DOC] 2.6).
_DELETED: Final = 0x0800
_VANISH: Final = 0x083C
_OUTLINE_LEVEL: Final = 0x2640
_IN_TABLE: Final = 0x2416
_ROW_END: Final = 0x2417
_LIST: Final = 0x460B
_LIST_LEVEL: Final = 0x260A
_DROP_CAP: Final = 0x442C
_TABLE_DEFINITION: Final = 0xD608

_DROP_CAP_KIND: Final = 7
"""Bits that say which kind of drop cap a paragraph is; 0 for none."""

_SIZES: Final = (1, 1, 2, 4, 2, 2, 0, 3)
"""Number of bytes of a property by the upper three bits of its number; 0 if it says so itself."""
_VARIABLE: Final = 6
_TITLE_STYLE: Final = 62
"""Number of Word's own style for the title; those of headings are 1 to 9."""
_PARAGRAPH_STYLE: Final = 1
_NO_BASE: Final = 0xFFF
_MAX_BASES: Final = 20
"""Longest chain of styles based on each other; a longer one is taken for a loop."""


class Paragraph(NamedTuple):
    """What is said of a paragraph."""

    style: int = 0
    level: int | None = None
    """Level of a heading, from 1; ``TITLE`` for the document's title."""
    in_table: bool = False
    ends_row: bool = False
    indent: int | None = None
    """Depth of a list item, from 0; None for other paragraphs."""
    is_drop_cap: bool = False
    """Whether it is a large first letter of the next."""


class Style(NamedTuple):
    """What is said of a style of paragraphs."""

    level: int | None = None
    hidden: bool = False
    is_item: bool = False


T = TypeVar("T")


class Runs(Generic[T]):
    """Values of stretches of the file, found by an offset in them."""

    def __init__(self, runs: list[tuple[int, int, T]], default: T) -> None:
        """Set the stretches.

        Args:
            runs: start, end and value of each.
            default: the value elsewhere.
        """
        self._runs = sorted(runs, key=lambda run: run[0])
        self._starts = [start for start, _, _ in self._runs]
        self._default = default

    def at(self, offset: int) -> T:
        """Return the value at an offset."""
        index = bisect_right(self._starts, offset) - 1
        if index < 0 or offset >= self._runs[index][1]:
            return self._default
        return self._runs[index][2]


def hidden_runs(document: bytes, table: bytes) -> Runs[bool | None]:
    """Return where text is hidden or deleted; None where the paragraph's style decides.

    Args:
        document: the pages of formatting.
        table: the numbers of those pages.
    """

    def value(page: bytes, offset: int) -> bool | None:
        size = page[offset] if offset < len(page) else 0
        found = dict(_properties(page[offset + 1 : offset + 1 + size]))
        if any(found.get(_DELETED, b"")):
            return True
        vanish = found.get(_VANISH)
        return None if vanish is None else vanish != b"\0"

    return Runs(list(_runs(document, table, 1, value)), None)


def paragraph_runs(document: bytes, table: bytes, styles: Mapping[int, Style]) -> Runs[Paragraph]:
    """Return what is said of the paragraphs.

    Args:
        document: the pages of formatting.
        table: the numbers of those pages.
        styles: by their number.
    """

    def value(page: bytes, offset: int) -> Paragraph:
        if offset >= len(page):
            return Paragraph()
        size, start = 2 * page[offset] - 1, offset + 1
        if page[offset] == 0:
            size, start = 2 * page[min(start, _PAGE - 1)], offset + 2
        data = page[start : start + size]
        number = _U16.unpack_from(data)[0] if len(data) >= _U16.size else 0
        return _paragraph(number, dict(_properties(data[_U16.size :])), styles.get(number))

    return Runs(list(_runs(document, table, 13, value)), Paragraph())


def _paragraph(number: int, found: Mapping[int, bytes], style: Style | None) -> Paragraph:
    style = style or Style()
    level = style.level
    if own := found.get(_OUTLINE_LEVEL):
        level = own[0] + 1 if own[0] < LAST_LEVEL else level
    is_item = any(found[_LIST]) if _LIST in found else style.is_item
    return Paragraph(
        style=number,
        level=level,
        in_table=any(found.get(_IN_TABLE, b"")),
        ends_row=any(found.get(_ROW_END, b"")),
        indent=(found.get(_LIST_LEVEL) or b"\0")[0] if is_item else None,
        is_drop_cap=bool((found.get(_DROP_CAP) or b"\0")[0] & _DROP_CAP_KIND),
    )


def _runs(
    document: bytes, table: bytes, size: int, value: Callable[[bytes, int], T]
) -> Iterator[tuple[int, int, T]]:
    """Yield the stretches of the pages of formatting that a table lists.

    Args:
        document: holds the pages.
        table: offsets in the text, then the number of the page for each.
        size: number of bytes that a page has for each stretch, beside its offset.
        value: returns the value of a stretch of a page whose properties are at an offset.
    """
    number = (len(table) - _U32.size) // (2 * _U32.size)
    number = min(number, len(document) // _PAGE)  # a hostile table may name a page many times
    pages = table[(number + 1) * _U32.size :]
    for index in range(number):
        start = (_U32.unpack_from(pages, index * _U32.size)[0] & 0x3FFFFF) * _PAGE
        page = document[start : start + _PAGE]
        if len(page) < _PAGE:
            continue
        count = min(page[-1], (_PAGE - _U32.size - 1) // (_U32.size + size))
        edges = struct.unpack_from(f"<{count + 1}I", page)
        for run in range(count):
            offset = 2 * page[(count + 1) * _U32.size + run * size]
            default = offset == 0
            yield edges[run], edges[run + 1], value(page, _PAGE if default else offset)


def _properties(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the number of each property in a list, and its value."""
    at = 0
    while at + _U16.size <= len(data):
        number = _U16.unpack_from(data, at)[0]
        at += _U16.size
        size = _SIZES[number >> 13]
        if number >> 13 == _VARIABLE:
            if number == _TABLE_DEFINITION:
                size = _U16.unpack_from(data, at)[0] + 1 if at + 2 <= len(data) else 0
            else:
                size = data[at] + 1 if at < len(data) else 0
        yield number, data[at : at + size]
        at += size


def read_styles(data: bytes) -> dict[int, Style]:
    """Return the styles of paragraphs by their number ([MS-DOC] 2.9.271).

    Args:
        data: the style sheet.
    """
    if len(data) < 3 * _U16.size:
        return {}
    header, count, base_size = struct.unpack_from("<HHH", data)
    at = _U16.size + header
    own: dict[int, Style] = {}
    bases: dict[int, int] = {}
    for number in range(count):
        if at + _U16.size > len(data):
            break
        size = _U16.unpack_from(data, at)[0]
        at += _U16.size
        style = data[at : at + size]
        at += size + size % 2
        if len(style) >= base_size + _U16.size and len(style) >= 2 * _U16.size:
            first, second = struct.unpack_from("<HH", style)
            if second & 0xF == _PARAGRAPH_STYLE:
                bases[number] = second >> 4
                own[number] = _style(first & 0xFFF, style, base_size)
    return {number: _inherited(number, own, bases) for number in own}


def _style(identity: int, style: bytes, base_size: int) -> Style:
    """Return what a style itself says."""
    level = identity if 1 <= identity <= LAST_LEVEL else None
    level = TITLE if identity == _TITLE_STYLE else level
    name_chars = _U16.unpack_from(style, base_size)[0]
    at = base_size + _U16.size * (name_chars + 2)
    lists: list[dict[int, bytes]] = []
    for skipped in (_U16.size, 0):  # of paragraphs, which begin with the style's number; of text
        if at + _U16.size > len(style):
            break
        size = _U16.unpack_from(style, at)[0]
        at += _U16.size
        lists.append(dict(_properties(style[at + skipped : at + size])))
        at += size + size % 2
    paragraph, text = (*lists, {}, {})[:2]
    if level is None and (outline := paragraph.get(_OUTLINE_LEVEL)):
        level = outline[0] + 1 if outline[0] < LAST_LEVEL else None
    return Style(level, any(text.get(_VANISH, b"")), any(paragraph.get(_LIST, b"")))


def _inherited(number: int, own: Mapping[int, Style], bases: Mapping[int, int]) -> Style:
    """Return a style with what those that it is based on say."""
    style = own[number]
    for _ in range(_MAX_BASES):
        number = bases.get(number, _NO_BASE)
        if number not in own:
            break
        base = own[number]
        style = Style(
            base.level if style.level is None and base.level != TITLE else style.level,
            style.hidden or base.hidden,
            style.is_item or base.is_item,
        )
    return style
