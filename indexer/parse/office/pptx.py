"""PPTX (PresentationML, ECMA-376 part 1): each slide is a page and a section."""

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Final, NamedTuple

from lxml import etree

from indexer.parse.base.compose import Composer
from indexer.parse.base.outline import one_line
from indexer.parse.office.drawing import alternative_text, graphic_words
from indexer.parse.office.grid import Cell, add_table, spread
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
from indexer.skip import parser_errors_as_damage
from retrieval.domain.records import Document

_TITLES: Final = frozenset({"title", "ctrTitle"})
_UNREAD: Final = frozenset({"dt", "ftr", "hdr", "sldImg", "sldNum"})
"""Placeholders of content that is the same on every slide, such as its number."""
_SHAPES: Final = frozenset({"sp", "graphicFrame", "cxnSp", "pic", "contentPart"})
_GRAPHICS: Final = frozenset({"chart", "chartEx", "diagramData"})
_PROPERTIES: Final = frozenset({"nvSpPr", "nvGraphicFramePr", "nvPicPr", "nvCxnSpPr", "nvGrpSpPr"})
_MAX_INDENT: Final = 8
"""Paragraphs at deeper levels are not indented further; PowerPoint has nine levels."""
_SAME_LINE: Final = 228_600
"""Boxes whose tops differ by less are read from left to right: a quarter of an inch, in EMU."""

_Place = tuple[int, int]
"""Distance from the top and from the left, in EMU."""


class _Shape(NamedTuple):
    """A shape, or a group of shapes, on a slide."""

    node: Element
    place: _Place | None
    """Where it says that it is; None if a layout says so, or nothing does."""
    members: "Sequence[_Shape]" = ()
    """Shapes of a group."""


def parse_pptx(uri: str, data: bytes) -> Document:
    """Make a document of a PPTX file: titles, texts, tables, words of charts, speaker's notes.

    Slides are in the order in which they are shown, hidden slides included, and the boxes of a
    slide from top to bottom. A part that can't be read is named in the metadata ``unread``.

    Raises:
        SkipDocument: the file is damaged or encrypted.
    """
    with parser_errors_as_damage():
        package = Package(data)
        walk = _Walk(package)
        for number, part in enumerate(_slides(package), 1):
            walk.add_slide(part, number)
        title, metadata = package.about()
    titles = [walk.title, title, PurePosixPath(uri).stem]
    return walk.composer.document(uri, "pptx", titles, metadata)


def _slides(package: Package) -> Iterator[str]:
    """Yield the names of the slides' parts; empty for one that is missing."""
    main = package.main_part()
    targets = {relation.id: relation.target for relation in package.relations(main)}
    for node in package.read(main).iter():
        if local(node) == "sldId":
            yield next((targets[one] for one in relation_ids(node) if one in targets), "")


class _Walk:
    """One walk over the slides of a presentation."""

    def __init__(self, package: Package) -> None:
        self.composer = Composer()
        self.title = ""
        """Title of the first slide."""
        self._package = package
        self._repeats = Repeats()
        self._places: dict[str, dict[str, _Place]] = {}
        """For each layout, the places of its placeholders."""

    def add_slide(self, part: str, number: int) -> None:
        """Add a slide, and its notes."""
        self.composer.begin_page()
        try:
            slide = self._package.read(part)
            relations = self._package.relations(part)
        except PART_ERRORS:
            self.composer.unread(f"slide {number}")
            return
        graphics = {one.id: one.target for one in relations if one.kind in _GRAPHICS}
        layouts = [relation.target for relation in relations if relation.kind == "slideLayout"]
        places = self._layout(layouts[0]) if layouts else {}
        shapes = list(_flat(_in_order(_shapes(slide), places)))
        titles = [shape for shape in shapes if _placeholder(shape)[0] in _TITLES]
        title = one_line(" ".join(" ".join(_paragraphs(shape)) for shape in titles))
        if title:
            self.composer.add_heading(1, title)
        else:
            self.composer.begin_section(1, f"Slide {number}")
        if number == 1:
            self.title = title
        for shape in shapes:
            if shape not in titles and _placeholder(shape)[0] not in _UNREAD:
                self._add_shape(shape, graphics, number)
        for relation in relations:
            if relation.kind == "notesSlide":
                self._add_notes(relation.target, number)

    def _add_shape(self, shape: Element, graphics: dict[str, str], number: int) -> None:
        """Add what a shape shows: text, a table, the words of a chart or diagram, a picture."""
        rows = [node for node in shape.iter() if local(node) == "tr"]
        if rows:
            cells = spread([list(_cells(row)) for row in rows], self._repeats)
            add_table(self.composer, cells, header_rows=int(_has_header(shape)))
        elif local(shape) == "graphicFrame":
            identities = [one for node in shape.iter() for one in relation_ids(node)]
            for part in dict.fromkeys(graphics[one] for one in identities if one in graphics):
                try:
                    self.composer.add(graphic_words(self._package, part))
                except PART_ERRORS:
                    self.composer.unread(f"graphic on slide {number}")
        else:
            self.composer.add("\n".join(_paragraphs(shape)))
        self.composer.add(alternative_text(shape))

    def _add_notes(self, part: str, number: int) -> None:
        try:
            notes = self._package.read(part)
        except PART_ERRORS:
            self.composer.unread(f"notes of slide {number}")
            return
        shapes = (shape for shape in _flat(_shapes(notes)) if _placeholder(shape)[0] not in _UNREAD)
        text = "\n".join(text for shape in shapes for text in _paragraphs(shape))
        self.composer.add(f"Notes: {text}" if text else "")

    def _layout(self, part: str) -> dict[str, _Place]:
        """Return the places of the placeholders of a layout, by their kind and their index."""
        if part not in self._places:
            self._places[part] = {}  # also where layouts refer to each other in a loop
            found: dict[str, _Place] = {}
            try:
                for relation in self._package.relations(part):
                    if relation.kind == "slideMaster":
                        found.update(self._layout(relation.target))
                for shape in _flat_shapes(_shapes(self._package.read(part))):
                    kind, index = _placeholder(shape.node)
                    if kind and shape.place is not None:
                        found[kind] = found[f"#{index}"] = shape.place
            except PART_ERRORS:
                pass  # only the order of boxes depends on it
            self._places[part] = found
        return self._places[part]


def _shapes(node: Element) -> list[_Shape]:
    """Return the shapes below a node that are shown, groups with their members."""
    shapes: list[_Shape] = []
    for child in node:
        name = local(child)
        if name in _SHAPES | {"grpSp"} and not _is_hidden(child):
            members = _shapes(child) if name == "grpSp" else ()
            shapes.append(_Shape(child, _own_place(child), members))
        elif name == "AlternateContent":
            shapes += _shapes(child[0]) if len(child) else []
        elif name not in _SHAPES | {"grpSp"}:
            shapes += _shapes(child)
    return shapes


def _flat_shapes(shapes: Sequence[_Shape]) -> Iterator[_Shape]:
    """Yield shapes, and the members of groups instead of the groups."""
    for shape in shapes:
        if local(shape.node) == "grpSp":
            yield from _flat_shapes(shape.members)
        else:
            yield shape


def _flat(shapes: Sequence[_Shape]) -> Iterator[Element]:
    return (shape.node for shape in _flat_shapes(shapes))


def _in_order(shapes: Sequence[_Shape], places: dict[str, _Place]) -> list[_Shape]:
    """Return shapes from top to bottom, and from left to right on a line; groups stay together."""
    placed: list[tuple[_Place, _Shape]] = []
    last: _Place = (0, 0)
    for shape in shapes:
        last = _place_of(shape, places) or last
        members = _in_order(shape.members, places) if shape.members else ()
        placed.append((last, shape._replace(members=members)))
    placed.sort(key=lambda pair: pair[0][0])
    lines: list[list[tuple[_Place, _Shape]]] = []
    for pair in placed:
        if lines and pair[0][0] - lines[-1][0][0][0] < _SAME_LINE:
            lines[-1].append(pair)
        else:
            lines.append([pair])
    return [shape for line in lines for _, shape in sorted(line, key=lambda pair: pair[0][1])]


def _place_of(shape: _Shape, places: dict[str, _Place]) -> _Place | None:
    """Return where a shape is, by itself or by its layout; None if nothing says so."""
    if shape.place is not None:
        return shape.place
    kind, index = _placeholder(shape.node)
    return places.get(f"#{index}", places.get(kind)) if kind else None


def _own_place(shape: Element) -> _Place | None:
    """Return where a shape says that it is."""
    for node in shape:
        if local(node) in {"spPr", "grpSpPr", "xfrm"}:
            for offset in node.iter():
                if local(offset) == "off":
                    return number_of(offset, "y"), number_of(offset, "x")
    return None


def _is_hidden(shape: Element) -> bool:
    for node in shape:
        if local(node) in _PROPERTIES:
            return any(attribute(child, "hidden") in {"1", "true"} for child in node)
    return False


def _placeholder(shape: Element) -> tuple[str, str]:
    """Return the kind of placeholder that a shape is, and its index; empty if it is none."""
    for node in shape:
        if local(node) in _PROPERTIES:
            for child in node.iter():
                if local(child) == "ph":
                    return attribute(child, "type") or "obj", attribute(child, "idx")
    return "", ""


def _has_header(shape: Element) -> bool:
    """Whether the first row of a table is set apart as names of columns."""
    return any(
        local(node) == "tblPr" and attribute(node, "firstRow") in {"1", "true"}
        for node in shape.iter()
    )


def _cells(row: Element) -> Iterator[Cell]:
    """Yield the cells of a row, but none that another covers."""
    for cell in row:
        if local(cell) == "tc" and not {"hMerge", "vMerge"} & set(map(str, cell.keys())):
            text = " ".join(_paragraphs(cell))
            yield Cell(text, number_of(cell, "gridSpan", 1), number_of(cell, "rowSpan", 1))


def _paragraphs(node: Element) -> Iterator[str]:
    """Yield the paragraphs that have any text, indented by their level."""
    for paragraph in node.iter():
        if local(paragraph) == "p":
            text = "".join(_runs(paragraph)).strip()
            levels = [number_of(child, "lvl") for child in paragraph if local(child) == "pPr"]
            depth = levels[0] if levels else 0
            if text:
                yield f"{'  ' * min(depth, _MAX_INDENT)}{'- ' if depth else ''}{text}"


def _runs(paragraph: Element) -> Iterator[str]:
    walk = etree.iterwalk(paragraph, events=("start",))
    for _, node in walk:
        name = local(node)
        if name == "t":
            yield node.text or ""
        elif name == "br":
            yield "\n"
        elif name == "Fallback" or (name == "fld" and attribute(node, "type") == "slidenum"):
            walk.skip_subtree()
