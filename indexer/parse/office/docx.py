"""DOCX (WordprocessingML, ECMA-376 part 1): what a reader sees, with tracked changes accepted.

The XML is walked here, not by python-docx: its paragraphs lack what stands in content controls,
tracked insertions, text boxes and notes.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from indexer.parse.base.as_damage import as_damage
from indexer.parse.base.compose import Composer
from indexer.parse.base.outline import words
from indexer.parse.office.docx_styles import BODY_LEVEL, TITLE, Styles, outline_level, read_styles
from indexer.parse.office.ooxml import Element, Package, attribute, local
from retrieval.domain.records import Document

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
        walk = _Walk(read_styles(package, main))
        walk.blocks(package.read(main))
        for kind in _NOTES.values():
            for notes in package.read_related(main, kind):
                walk.notes(notes)
        title, metadata = package.about()
    return walk.composer.document(uri, "docx", [title, walk.title], metadata)


class _Kind(NamedTuple):
    """What a paragraph is."""

    level: int | None = None
    """Of a heading."""
    indent: int | None = None
    """Depth of a list's item, from 0."""
    is_code: bool = False

    def goes_on_from(self, above: "_Kind") -> bool:
        """Whether no blank line is to stand between this one and the one above."""
        return (self.is_code and above.is_code) or None not in (self.indent, above.indent)


class _Walk:
    """One walk over the parts of a document."""

    def __init__(self, styles: Styles) -> None:
        self.composer = Composer()
        self.title = ""
        """Text of the first paragraph in the title's style."""
        self._styles = styles
        self._boxes: list[Element] = []
        """Text boxes met in a paragraph: they come after it."""
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
        """Add foot- or endnotes; those with a type are but lines that set them off."""
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
            self.title = self.title or (text.strip() if kind.level == TITLE else "")
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
                elif name == "outlineLvl" and outline_level(child) <= BODY_LEVEL:
                    level = outline_level(child)
                elif name == "numPr":
                    depths = [attribute(part, "val") for part in child if local(part) == "ilvl"]
                    indent = int(depths[0]) if depths and depths[0].isdecimal() else 0
        level = self._styles.levels.get(style, level) if level is None else level
        if indent is None and style in self._styles.items:
            indent = 0
        return _Kind(level, indent, style in self._styles.code)

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
