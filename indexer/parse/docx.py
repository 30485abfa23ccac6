"""DOCX (WordprocessingML, ECMA-376 part 1): what a reader sees, with tracked changes accepted.

The XML is walked here, not by python-docx: its paragraphs lack what stands in content controls,
tracked insertions, text boxes and notes.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from indexer.parse.compose import Composer
from indexer.parse.damage import as_damage
from indexer.parse.ooxml import Element, Package, attribute, local
from indexer.parse.outline import words
from retrieval.records import Document

# Deleted text, field codes, ruby's annotations, and properties.
_UNREAD: Final = words(
    """
    annotationRef commentReference del delText fldData instrText moveFrom numPr pPr rPr rt sectPr
    sdtEndPr sdtPr tblGrid tblPr tcPr trPr
    """
)
_BOXES: Final = frozenset({"txbxContent"})
_BREAKS: Final = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "softHyphen": ""}
_NOTES: Final = {"footnoteReference": "footnotes", "endnoteReference": "endnotes"}
_HEADING_STYLE: Final = re.compile(r"heading ([1-9])$", re.IGNORECASE)
_BODY_LEVEL: Final = 9
"""Outline level that is none."""
_MAX_BASES: Final = 20
"""Styles based on styles: longer chains are loops."""
_MAX_INDENT: Final = 8


def parse_docx(uri: str, data: bytes) -> Document:
    """Make a document of a DOCX file.

    Headings are paragraphs whose style is a heading, or that have an outline level. Tables are a
    line for each row. Foot- and endnotes stand at the end; page headers and footers, comments and
    deleted text are left out.

    Raises:
        SkipDocument: it is damaged or encrypted.
    """
    with as_damage():
        package = Package(data)
        main = package.main_part()
        walk = _Walk(_heading_levels(package, main))
        walk.blocks(package.read(main))
        for kind in _NOTES.values():
            for notes in package.read_related(main, kind):
                walk.notes(notes)
        properties = package.properties()
    return walk.composer.document(
        uri, "docx", [properties.get("title", ""), walk.title], _metadata(properties)
    )


def _metadata(properties: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    names = {"creator": "author", "keywords": "keywords", "subject": "subject", "created": "date"}
    for name, key in names.items():
        yield key, properties.get(name, "")


def _heading_levels(package: Package, main: str) -> dict[str, int]:
    """Style → level of the headings that have it; 0 for the title's."""
    own: dict[str, int] = {}
    bases: dict[str, str] = {}
    for root in package.read_related(main, "styles"):
        for style in root:
            identity = attribute(style, "styleId")
            for node in style.iter():
                if local(node) == "basedOn":
                    bases[identity] = attribute(node, "val")
                elif local(node) == "outlineLvl":
                    own.setdefault(identity, _level(node))
                elif local(node) == "name":
                    name = attribute(node, "val")
                    if match := _HEADING_STYLE.match(name):
                        own[identity] = int(match[1])
                    elif name.lower() == "title":
                        own[identity] = 0
    levels = {}
    for identity in {*own, *bases}:
        ancestor = identity
        for _ in range(_MAX_BASES):
            if ancestor in own:
                levels[identity] = own[ancestor]
                break
            ancestor = bases.get(ancestor, "")
    return {name: level for name, level in levels.items() if level <= _BODY_LEVEL}


def _level(node: Element) -> int:
    """Level from 1 up of an outline level, which counts from 0; one more than 9 for body text."""
    value = attribute(node, "val")
    return int(value) + 1 if value.isdecimal() else _BODY_LEVEL + 1


class _Walk:
    """One walk over the parts of a document."""

    def __init__(self, levels: Mapping[str, int]) -> None:
        self.composer = Composer()
        self.title = ""
        """Text of the first paragraph in the title's style."""
        self._levels = levels
        self._boxes: list[Element] = []
        """Text boxes met in a paragraph: they come after it."""
        self._in_list = False

    def blocks(self, node: Element) -> None:
        """Add the paragraphs and tables below a node."""
        for child in _read(node):
            name = local(child)
            if name == "p":
                self._paragraph(child)
            elif name == "tbl":
                rows = "\n".join(filter(None, (self._row(row) for row in _find(child, "tr"))))
                self.composer.add(rows)
                self._in_list = False
                self._add_boxes()
            else:
                self.blocks(child)

    def notes(self, root: Element) -> None:
        """Add foot- or endnotes; those with a type are but lines that set them off."""
        for note in root:
            if not attribute(note, "type"):
                text = " ".join(filter(None, (self._text(part) for part in _find(note, "p"))))
                self.composer.add(f"[{attribute(note, 'id')}] {text.strip()}" if text else "")

    def _paragraph(self, node: Element) -> None:
        text = self._text(node).strip()
        level, indent = self._style(node)
        if text and level is not None:
            self.title = self.title or (text if level == 0 else "")
            self.composer.add_heading(level, text)
            self._in_list = False
        elif text:
            is_item = indent is not None
            mark = "  " * min(indent or 0, _MAX_INDENT) + "- " if is_item else ""
            self.composer.add(mark + text, 1 if is_item and self._in_list else 2)
            self._in_list = is_item
        self._add_boxes()

    def _style(self, node: Element) -> tuple[int | None, int | None]:
        """Level of a heading, if the paragraph is one, and depth of a list item, from 0."""
        level = indent = None
        for properties in (child for child in node if local(child) == "pPr"):
            for child in properties:
                name = local(child)
                if name == "pStyle" and level is None:
                    level = self._levels.get(attribute(child, "val"))
                elif name == "outlineLvl" and _level(child) <= _BODY_LEVEL:
                    level = _level(child)
                elif name == "numPr":
                    depths = [attribute(part, "val") for part in child if local(part) == "ilvl"]
                    indent = int(depths[0]) if depths and depths[0].isdecimal() else 0
        return level, indent

    def _row(self, row: Element) -> str:
        """Cells of a row, those of tables in it included, on one line."""
        cells = [
            " ".join(" ".join(self._text(part) for part in _find(cell, "p")).split())
            for cell in _find(row, "tc")
        ]
        return " | ".join(cells) if any(cells) else ""

    def _text(self, node: Element) -> str:
        """Text of a paragraph."""
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
    """Children that a reader sees; of what is written in several ways, the first."""
    if local(node) == "AlternateContent":
        yield from list(node)[:1]
        return
    for child in node:
        if local(child) not in _UNREAD:
            yield child


def _find(node: Element, name: str) -> Iterator[Element]:
    """The nearest elements of that name below a node."""
    for child in _read(node):
        if local(child) == name:
            yield child
        else:
            yield from _find(child, name)
