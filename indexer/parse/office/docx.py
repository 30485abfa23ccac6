"""DOCX (WordprocessingML, ECMA-376 part 1): the text a reader sees, tracked changes accepted.

The XML is walked here instead of by python-docx, whose paragraphs lack the text of content
controls, tracked insertions, text boxes and notes.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from indexer.parse.base.compose import Composer
from indexer.parse.base.outline import words
from indexer.parse.office.ooxml import Element, Package, attribute, local
from indexer.skip import parser_errors_as_damage
from retrieval.domain.records import Document

# Elements that a reader doesn't see: deleted text, field codes, ruby annotations, properties.
_UNREAD: Final = words(
    """
    annotationRef commentReference del delText fldData instrText moveFrom numPr pPr rPr rt sectPr
    sdtEndPr sdtPr tblGrid tblPr tcPr trPr
    """
)
_BOXES: Final = frozenset({"txbxContent"})
_BREAKS: Final = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "softHyphen": ""}
_NOTES: Final = {"footnoteReference": "footnotes", "endnoteReference": "endnotes"}
_MAX_INDENT: Final = 8
"""List items nested deeper are not indented further: Word has nine levels."""

_TITLE: Final = 0
"""Level of the document's title, above all headings."""
_LAST_LEVEL: Final = 9
"""Deepest outline level of a heading; a paragraph at a deeper level is body text."""

_HEADING: Final = re.compile(r"heading ([1-9])$", re.IGNORECASE)
_CHAPTER: Final = re.compile(r"(?:chapter|part|appendix|(?:front|back)matter) ?title$", re.I)
_LETTERED: Final = re.compile(r"(?i:head(?:ing)?) ?([A-D])(?:$|[A-Z ])")
"""Names of heading styles in the templates of publishers; A is below a chapter's title."""
_CODE: Final = re.compile(r"code|listing|preformatted|source|verbatim", re.IGNORECASE)
_MAX_BASES: Final = 20
"""Longest chain of styles based on each other; a longer one is taken for a loop."""


def parse_docx(uri: str, data: bytes) -> Document:
    """Make a document of a DOCX file.

    A paragraph with a heading's style or an outline level is a heading. A row of a table is a
    line. Footnotes and endnotes follow at the end; page headers and footers, comments and deleted
    text are left out.

    Raises:
        SkipDocument: it is damaged or encrypted.
    """
    with parser_errors_as_damage():
        package = Package(data)
        main = package.main_part()
        walk = _Walk(_read_styles(package, main))
        walk.blocks(package.read(main))
        for kind in _NOTES.values():
            for notes in package.read_related(main, kind):
                walk.notes(notes)
        title, metadata = package.about()
    return walk.composer.document(uri, "docx", [title, walk.title], metadata)


class _Styles(NamedTuple):
    """What the styles of a document say of paragraphs, by the style's id."""

    levels: Mapping[str, int]
    """Level of each heading style, from 1 up; ``_TITLE`` for the style of the document's title."""
    code: frozenset[str]
    """Styles of code."""
    items: frozenset[str]
    """Styles of list items."""


class _Kind(NamedTuple):
    """What a paragraph is."""

    level: int | None = None
    """Level of a heading; None for other paragraphs."""
    indent: int | None = None
    """Depth of a list item, from 0; None for other paragraphs."""
    is_code: bool = False

    def goes_on_from(self, above: "_Kind") -> bool:
        """Whether this paragraph follows the one above without a blank line."""
        return (self.is_code and above.is_code) or None not in (self.indent, above.indent)


class _Walk:
    """One walk over the parts of a document."""

    def __init__(self, styles: _Styles) -> None:
        self.composer = Composer()
        self.title = ""
        """Text of the first paragraph in the title's style."""
        self._styles = styles
        self._boxes: list[Element] = []
        """Text boxes met in a paragraph; they follow it."""
        self._above = _Kind()

    def blocks(self, node: Element) -> None:
        """Add the paragraphs and tables below a node."""
        for child in _read(node):
            name = local(child)
            if name == "p":
                self._paragraph(child)
            elif name == "tbl":
                rows = "\n".join(filter(None, (self._row(row) for row in _find(child, "tr"))))
                self.composer.add(rows)
                self._above = _Kind()
                self._add_boxes()
            else:
                self.blocks(child)

    def notes(self, root: Element) -> None:
        """Add footnotes or endnotes, but not separators, which are notes with a type."""
        for note in root:
            if not attribute(note, "type"):
                text = " ".join(filter(None, (self._text(part) for part in _find(note, "p"))))
                self.composer.add(f"[{attribute(note, 'id')}] {text.strip()}" if text else "")

    def _paragraph(self, node: Element) -> None:
        text = self._text(node)
        kind = self._kind(node)
        if not text.strip():
            pass
        elif kind.level is not None:
            self.title = self.title or (text.strip() if kind.level == _TITLE else "")
            self.composer.add_heading(kind.level, text)
            self._above = kind
        else:
            mark = "" if kind.indent is None else "  " * min(kind.indent, _MAX_INDENT) + "- "
            goes_on = kind.goes_on_from(self._above)
            self.composer.add(text if kind.is_code else mark + text.strip(), 1 if goes_on else 2)
            self._above = kind
        self._add_boxes()

    def _kind(self, node: Element) -> "_Kind":
        level = indent = None
        style = ""
        for properties in (child for child in node if local(child) == "pPr"):
            for child in properties:
                name = local(child)
                if name == "pStyle":
                    style = attribute(child, "val")
                elif name == "outlineLvl" and _outline_level(child) <= _LAST_LEVEL:
                    level = _outline_level(child)
                elif name == "numPr":
                    depths = [attribute(part, "val") for part in child if local(part) == "ilvl"]
                    indent = int(depths[0]) if depths and depths[0].isdecimal() else 0
        level = self._styles.levels.get(style, level) if level is None else level
        if indent is None and style in self._styles.items:
            indent = 0
        return _Kind(level, indent, style in self._styles.code)

    def _row(self, row: Element) -> str:
        """Return the cells of a row, nested tables included, on one line."""
        cells = [
            " ".join(" ".join(self._text(part) for part in _find(cell, "p")).split())
            for cell in _find(row, "tc")
        ]
        return " | ".join(cells) if any(cells) else ""

    def _text(self, node: Element) -> str:
        """Return the text of a paragraph, and keep its text boxes for later."""
        parts: list[str] = []
        pending = [iter(_read(node))]
        while pending:
            child = next(pending[-1], None)
            if child is None:
                pending.pop()
                continue
            name = local(child)
            if name == "t":
                parts.append(child.text or "")
            elif name in _BREAKS:
                parts.append(_BREAKS[name])
            elif name in _NOTES:
                parts.append(f"[{attribute(child, 'id')}]")
            elif name in _BOXES:
                self._boxes.append(child)
            else:
                pending.append(iter(_read(child)))
        return "".join(parts)

    def _add_boxes(self) -> None:
        boxes, self._boxes = self._boxes, []
        for box in boxes:
            self.blocks(box)


def _read(node: Element) -> Iterator[Element]:
    """Yield the children that a reader sees; of alternatives, the first."""
    if local(node) == "AlternateContent":
        yield from list(node)[:1]
        return
    for child in node:
        if local(child) not in _UNREAD:
            yield child


def _find(node: Element, name: str) -> Iterator[Element]:
    """Yield the elements of a name below a node, but none within another of them."""
    for child in _read(node):
        if local(child) == name:
            yield child
        else:
            yield from _find(child, name)


def _read_styles(package: Package, main: str) -> _Styles:
    """Return the styles of the document whose main part this is."""
    own: dict[str, int] = {}
    bases: dict[str, str] = {}
    code, items = set(), set()
    for root in package.read_related(main, "styles"):
        for style in root:
            identity, name = attribute(style, "styleId"), ""
            for node in style.iter():
                if local(node) == "basedOn":
                    bases[identity] = attribute(node, "val")
                elif local(node) == "outlineLvl":
                    own.setdefault(identity, _outline_level(node))
                elif local(node) == "numPr":
                    items.add(identity)
                elif local(node) == "name":
                    name = attribute(node, "val")
            own.update({} if (level := _named_level(name)) is None else {identity: level})
            if _CODE.search(name):
                code.add(identity)
    levels = {identity: _inherited(identity, own, bases) for identity in {*own, *bases}}
    headings = {name: level for name, level in levels.items() if level <= _LAST_LEVEL}
    return _Styles(headings, frozenset(code), frozenset(items))


def _outline_level(node: Element) -> int:
    """Return a level from 1 up for an outline level, which counts from 0; 10 for body text."""
    value = attribute(node, "val")
    return int(value) + 1 if value.isdecimal() else _LAST_LEVEL + 1


def _named_level(name: str) -> int | None:
    """Return the level of a heading style by its name; None for other styles."""
    if name.lower() == "title":
        return _TITLE
    if match := _HEADING.match(name):
        return int(match[1])
    if _CHAPTER.match(name):
        return 1
    match = _LETTERED.match(name)
    return "ABCD".index(match[1]) + 2 if match else None


def _inherited(identity: str, own: Mapping[str, int], bases: Mapping[str, str]) -> int:
    """Return the level of a style: its own, or that of the nearest style it is based on."""
    for _ in range(_MAX_BASES):
        if identity in own:
            return own[identity]
        identity = bases.get(identity, "")
    return _LAST_LEVEL + 1
