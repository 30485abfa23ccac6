"""DOCX (WordprocessingML, ECMA-376 part 1): the text a reader sees, tracked changes accepted.

The XML is walked here instead of by python-docx, whose paragraphs lack the text of content
controls, tracked insertions, text boxes and notes.
"""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from indexer.parse.base.compose import Composer
from indexer.parse.base.outline import words
from indexer.parse.office.docx.numbering import Numbering
from indexer.parse.office.docx.styles import (
    LAST_LEVEL,
    TITLE,
    Item,
    Styles,
    is_on,
    outline_level,
    read_item,
    read_styles,
)
from indexer.parse.office.drawing import described, graphic_words
from indexer.parse.office.grid import add_table
from indexer.parse.office.ooxml import (
    PART_ERRORS,
    Element,
    Package,
    attribute,
    local,
    number_of,
    relation_ids,
)
from indexer.parse.office.repeats import Repeats
from indexer.parse.office.symbols import symbol
from indexer.skip import SkipDocument, SkipReason, parser_errors_as_damage
from retrieval.domain.records import Document

# Elements that a reader doesn't see: deleted text, field codes, ruby annotations, properties.
_UNREAD: Final = words(
    """
    annotationRef commentReference del delText fldData instrText moveFrom numPr pPr rPr rt sectPr
    sdtEndPr sdtPr tblGrid tblPr tcPr trPr
    """
)
_BOXES: Final = frozenset({"txbxContent"})
_DESCRIBED: Final = {"docPr": "descr", "shape": "alt"}
"""Elements of pictures to the attribute with the text for those who can't see them."""
_DRAWN: Final = frozenset({*_DESCRIBED, "chart", "relIds"})
_BREAKS: Final = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "softHyphen": ""}
_NOTES: Final = {"footnoteReference": "footnotes", "endnoteReference": "endnotes"}
_MAX_INDENT: Final = 8
"""List items nested deeper are not indented further: Word has nine levels."""

_NO_LIST: Final = "0"
"""Takes a paragraph out of the list that its style is in."""
_MAX_SPAN: Final = 63
"""Number of columns that a table of Word may have."""
_GRAPHICS: Final = frozenset({"chart", "chartEx", "diagramData"})


def parse_docx(
    uri: str, data: bytes, embedded: Callable[[str, bytes], Document] | None = None
) -> Document:
    """Make a document of a DOCX file.

    A paragraph with a heading's style or an outline level is a heading. A row of a table is a
    line. Footnotes and endnotes follow at the end; page headers and footers, comments, deleted and
    hidden text are left out. A part that can't be read is named in the metadata ``unread``.

    Args:
        uri: as in ``Document``.
        data: the file.
        embedded: makes documents of the files that are embedded in its text; see ``parse_office``.

    Raises:
        SkipDocument: it is damaged or encrypted.
    """
    with parser_errors_as_damage():
        package = Package(data)
        main = package.main_part()
        walk = _Walk(package, main, embedded)
        walk.blocks(package.read(main))
        walk.finish()
        for kind in _NOTES.values():
            walk.notes(kind)
        title, metadata = package.about()
    return walk.composer.document(uri, "docx", [walk.title, title], metadata)


class _Kind(NamedTuple):
    """What a paragraph is."""

    level: int | None = None
    """Level of a heading; None for other paragraphs."""
    indent: int | None = None
    """Depth of a list item, from 0; None for other paragraphs."""
    list: str = ""
    """Which list the item is in."""
    is_code: bool = False

    def goes_on_from(self, above: "_Kind") -> bool:
        """Whether this paragraph follows the one above without a blank line."""
        return (self.is_code and above.is_code) or None not in (self.indent, above.indent)


class _Walk:
    """One walk over the parts of a document."""

    def __init__(
        self, package: Package, main: str, embedded: Callable[[str, bytes], Document] | None
    ) -> None:
        self.composer = Composer()
        self.title = ""
        """Text of the first paragraph in the title's style."""
        self._package = package
        self._main = main
        self._embedded = embedded
        self._added: set[str] = set()
        """Names of the embedded parts that were added."""
        self._relations = {one.id: one for one in package.relations(main)}
        try:
            self._styles = read_styles(package.read_related(main, "styles"))
        except PART_ERRORS:
            self._styles = Styles()
            self.composer.unread("styles")
        try:
            self._numbering = Numbering(package.read_related(main, "numbering"))
        except PART_ERRORS:
            self._numbering = Numbering()
            self.composer.unread("numbering")
        self._boxes: list[Element] = []
        """Text boxes and drawings met in a paragraph; they follow it."""
        self._above = _Kind()
        self._repeats = Repeats()
        self._drop_cap = ""
        """First letters of the next paragraph, which stand in a frame of their own."""

    def blocks(self, node: Element) -> None:
        """Add the paragraphs and tables below a node."""
        for child in _read(node):
            name = local(child)
            if name == "p":
                self._paragraph(child)
            elif name == "tbl":
                self._table(child)
            elif name == "altChunk":
                self._add_embedded(child)
            else:
                self.blocks(child)

    def _add_embedded(self, node: Element) -> None:
        """Add the text of an embedded file, once however often it is referred to."""
        self.finish()
        self._above = _Kind()
        for relation in map(self._relations.get, relation_ids(node) or [""]):
            part = relation.target if relation else ""
            if part in self._added:
                continue
            try:
                if self._embedded is None:
                    raise SkipDocument(SkipReason.UNSUPPORTED)
                data = self._package.read_bytes(part)
                self.composer.add_document(self._embedded(part, data))
                self._added.add(part)
            except PART_ERRORS:
                name = part.rpartition("/")[2]
                self.composer.unread(f"embedded document {name}".strip())

    def finish(self) -> None:
        """Add what waits for a paragraph that is missing."""
        self.composer.add(self._drop_cap)
        self._drop_cap = ""

    def notes(self, kind: str) -> None:
        """Add footnotes or endnotes, but not separators, which are notes with a type."""
        try:
            roots = list(self._package.read_related(self._main, kind))
        except PART_ERRORS:
            self.composer.unread(kind)
            return
        for note in (note for root in roots for note in root):
            if not attribute(note, "type"):
                text = " ".join(filter(None, (self._text(part) for part in _find(note, "p"))))
                self.composer.add(f"[{attribute(note, 'id')}] {text.strip()}" if text else "")
                self._add_boxes()

    def _paragraph(self, node: Element) -> None:
        text = self._drop_cap + self._text(node)
        self._drop_cap = ""
        kind = self._kind(node)
        if not text.strip():
            pass
        elif _is_drop_cap(node):
            self._drop_cap = text.strip()
        elif kind.level is not None:
            self.title = self.title or (text.strip() if kind.level == TITLE else "")
            self.composer.add_heading(kind.level, text)
            self._above = kind
        else:
            mark = ""
            if kind.indent is not None:
                number = self._numbering.next_mark(kind.list, kind.indent) or "-"
                mark = "  " * min(kind.indent, _MAX_INDENT) + number + " "
            goes_on = kind.goes_on_from(self._above)
            self.composer.add(text if kind.is_code else mark + text.strip(), 1 if goes_on else 2)
            self._above = kind
        self._add_boxes()

    def _kind(self, node: Element) -> "_Kind":
        level = None
        item: Item | None = None
        style = ""
        for properties in (child for child in node if local(child) == "pPr"):
            for child in properties:
                name = local(child)
                if name == "pStyle":
                    style = attribute(child, "val")
                elif name == "outlineLvl" and outline_level(child) <= LAST_LEVEL:
                    level = outline_level(child)
                elif name == "numPr":
                    item = read_item(child)
        level = self._styles.levels.get(style, level) if level is None else level
        by_style = self._styles.items.get(style)
        item = by_style if item is None else item
        if item is None or item.list == _NO_LIST:
            return _Kind(level, is_code=style in self._styles.code)
        if not item.list and by_style is not None:
            item = item._replace(list=by_style.list)
        return _Kind(level, item.level, item.list, style in self._styles.code)

    def _table(self, table: Element) -> None:
        rows: list[list[str]] = []
        embedded: list[Element] = []
        header = 0
        is_bold = True
        for row in _find(table, "tr"):
            properties = {
                local(one): one
                for part in row
                if local(part) == "trPr"
                for one in part
                if is_on(one)
            }
            if not {"del", "hidden"} & properties.keys():
                header += "tblHeader" in properties and header == len(rows)
                cells = self._cells(row, rows[-1] if rows else [], _columns_before(properties))
                if not rows:
                    is_bold = self._is_bold(row)
                elif any(cells) and len(rows) == 1:
                    is_bold = is_bold and not self._is_bold(row)
                rows.append(cells)
                embedded += _find(row, "altChunk")
        add_table(self.composer, rows, header or int(is_bold and len(rows) > 1))
        self._above = _Kind()
        self._add_boxes()
        for node in embedded:
            self._add_embedded(node)

    def _cells(self, row: Element, above: list[str], before: int) -> list[str]:
        """Return the texts of a row; merged cells all have the text of the first.

        Args:
            row: the row.
            above: the texts of the row above.
            before: number of columns left out before the first cell.
        """
        texts = [""] * min(before, _MAX_SPAN)
        cells = list(_find(row, "tc"))
        for cell in cells:
            # Nested tables are on the same line.
            paragraphs = " ".join(self._text(part) for part in _find(cell, "p"))
            text = " ".join(paragraphs.split())
            span = 1
            for part in cell:
                for one in part if local(part) == "tcPr" else ():
                    if local(one) == "gridSpan":
                        span = min(max(number_of(one, "val", 1), 1), _MAX_SPAN)
                    elif attribute(one, "val") == "restart" or text:
                        continue
                    elif local(one) == "vMerge":
                        text = self._repeats.again("".join(above[len(texts) : len(texts) + 1]))
                    elif local(one) == "hMerge":
                        text = self._repeats.again("".join(texts[-1:]))
            texts.append(text)
            if len(cells) > 1:  # a cell over the whole width is a title
                texts += [self._repeats.again(text) for _ in range(span - 1)]
        return texts

    def _is_bold(self, row: Element) -> bool:
        """Whether all text of a row is bold."""
        runs = [
            (paragraph, run)
            for paragraph in _find(row, "p")
            for run in _find(paragraph, "r")
            if any(local(node) == "t" and (node.text or "").strip() for node in run)
        ]
        return bool(runs) and all(
            self._has(run, "b", self._style(paragraph), self._styles.bold)
            for paragraph, run in runs
        )

    @staticmethod
    def _style(paragraph: Element) -> str:
        """Return the style of a paragraph; empty for the usual one."""
        for properties in paragraph:
            if local(properties) == "pPr":
                for child in properties:
                    if local(child) == "pStyle":
                        return attribute(child, "val")
        return ""

    @staticmethod
    def _has(run: Element, name: str, style: str, styles: frozenset[str]) -> bool:
        """Whether a run has a property, by itself, by its style, or by that of its paragraph."""
        found = style in styles
        for properties in run:
            if local(properties) == "rPr":
                for child in properties:
                    if local(child) == name:
                        return is_on(child)
                    if local(child) == "rStyle":
                        found = found or attribute(child, "val") in styles
        return found

    def _text(self, node: Element) -> str:
        """Return the text of a paragraph, and keep its text boxes and drawings for later."""
        parts: list[str] = []
        style = self._style(node)
        pending = [iter(_read(node))]
        while pending:
            child = next(pending[-1], None)
            if child is None:
                pending.pop()
                continue
            name = local(child)
            if name == "t":
                parts.append(child.text or "")
            elif name == "r" and self._has(child, "vanish", style, self._styles.hidden):
                continue
            elif name in _BREAKS:
                parts.append(_BREAKS[name])
            elif name == "sym":
                parts.append(symbol(attribute(child, "font"), attribute(child, "char")))
            elif name in _NOTES:
                parts.append(f"[{attribute(child, 'id')}]")
            elif name in _BOXES:
                self._boxes.append(child)
            else:
                if name in _DRAWN:
                    self._boxes.append(child)
                pending.append(iter(_read(child)))
        return "".join(parts)

    def _add_boxes(self) -> None:
        boxes, self._boxes = self._boxes, []
        for box in boxes:
            if local(box) in _BOXES:
                self.blocks(box)
            elif local(box) in _DESCRIBED:
                self.composer.add(described(attribute(box, _DESCRIBED[local(box)])))
            else:
                self._add_graphic(box)

    def _add_graphic(self, node: Element) -> None:
        """Add the words of a chart or diagram."""
        for relation in filter(None, map(self._relations.get, relation_ids(node))):
            if relation.kind in _GRAPHICS:
                try:
                    self.composer.add(graphic_words(self._package, relation.target))
                except PART_ERRORS:
                    self.composer.unread(f"graphic {relation.target.rpartition('/')[2]}")


def _is_drop_cap(paragraph: Element) -> bool:
    """Whether a paragraph is a large first letter of the next."""
    return any(
        attribute(frame, "dropCap") in {"drop", "margin"}
        for properties in paragraph
        if local(properties) == "pPr"
        for frame in properties
        if local(frame) == "framePr"
    )


def _columns_before(properties: dict[str, Element]) -> int:
    """Return the number of columns left out before the first cell of a row."""
    before = properties.get("gridBefore")
    return 0 if before is None else max(number_of(before, "val"), 0)


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
