"""PPTX (PresentationML, ECMA-376 part 1): each slide is a page and a section."""

from collections.abc import Iterator
from typing import Final

from indexer.parse.base.compose import Composer
from indexer.parse.base.outline import one_line
from indexer.parse.office.ooxml import Element, Package, Relation, attribute, local
from indexer.skip import parser_errors_as_damage
from retrieval.domain.records import Document

_TITLES: Final = frozenset({"title", "ctrTitle"})
_UNREAD: Final = frozenset({"dt", "ftr", "hdr", "sldImg", "sldNum"})
"""Placeholders of content that is the same on every slide, such as its number."""
_GRAPHICS: Final = frozenset({"chart", "diagramData"})
_MAX_INDENT: Final = 8
"""Paragraphs at deeper levels are not indented further; PowerPoint has nine levels."""


def parse_pptx(uri: str, data: bytes) -> Document:
    """Make a document of a PPTX file: titles, texts, tables, words of charts, speaker's notes.

    Slides are in the order in which they are shown, hidden slides included.

    Raises:
        SkipDocument: the file is damaged or encrypted.
    """
    composer = Composer()
    with parser_errors_as_damage():
        package = Package(data)
        for number, part in enumerate(_slides(package), 1):
            _add_slide(composer, package, part, number)
        title, metadata = package.about()
    return composer.document(uri, "pptx", [title], metadata)


def _slides(package: Package) -> Iterator[str]:
    """Yield the names of the slides' parts."""
    main = package.main_part()
    targets = {relation.id: relation.target for relation in package.relations(main)}
    for node in package.read(main).iter():
        if local(node) == "sldId":
            # The attribute "id" without a namespace is the slide's number.
            identities = [str(value) for key, value in node.items() if str(key).endswith("}id")]
            yield from (targets[identity] for identity in identities)


def _add_slide(composer: Composer, package: Package, part: str, number: int) -> None:
    composer.begin_page()
    slide = package.read(part)
    shapes = list(_shapes(slide))
    titles = [shape for shape in shapes if _placeholder(shape) in _TITLES]
    title = one_line(" ".join(" ".join(_paragraphs(shape)) for shape in titles))
    if title:
        composer.add_heading(1, title)
    else:
        composer.begin_section(1, f"Slide {number}")
    for shape in shapes:
        if shape not in titles and _placeholder(shape) not in _UNREAD:
            composer.add(_shape_text(shape))
    for relation in package.relations(part):
        if relation.kind in _GRAPHICS:
            composer.add(_graphic_text(package, relation))
        elif relation.kind == "notesSlide":
            notes = list(_shapes(package.read(relation.target)))
            bodies = [_shape_text(shape) for shape in notes if _placeholder(shape) not in _UNREAD]
            text = "\n".join(filter(None, bodies))
            composer.add(f"Notes: {text}" if text else "")


def _shapes(node: Element) -> Iterator[Element]:
    """Yield shapes with text, and tables, including those in groups."""
    for child in node:
        name = local(child)
        if name in {"sp", "graphicFrame", "cxnSp"}:
            yield child
        elif name == "AlternateContent":
            yield from _shapes(child[0]) if len(child) else ()
        else:
            yield from _shapes(child)


def _placeholder(shape: Element) -> str:
    """Return the kind of placeholder that a shape is; empty if it is none."""
    for node in shape.iter():
        if local(node) == "ph":
            return attribute(node, "type") or "obj"
        if local(node) == "txBody":
            break
    return ""


def _shape_text(shape: Element) -> str:
    rows = [node for node in shape.iter() if local(node) == "tr"]
    if rows:
        return "\n".join(filter(None, map(_row, rows)))
    return "\n".join(_paragraphs(shape))


def _row(row: Element) -> str:
    cells = [" ".join(_paragraphs(cell)) for cell in row if local(cell) == "tc"]
    return " | ".join(cells) if any(cells) else ""


def _paragraphs(node: Element) -> Iterator[str]:
    """Yield the paragraphs that have any text, indented by their level."""
    for paragraph in node.iter():
        if local(paragraph) == "p":
            text = "".join(_runs(paragraph)).strip()
            levels = [attribute(child, "lvl") for child in paragraph if local(child) == "pPr"]
            depth = int(levels[0]) if levels and levels[0].isdecimal() else 0
            if text:
                yield f"{'  ' * min(depth, _MAX_INDENT)}{'- ' if depth else ''}{text}"


def _runs(paragraph: Element) -> Iterator[str]:
    for node in paragraph.iter():
        if local(node) == "t":
            yield node.text or ""
        elif local(node) == "br":
            yield "\n"


def _graphic_text(package: Package, relation: Relation) -> str:
    """Return the words of a chart or diagram: titles, names of series and categories."""
    words = dict[str, None]()
    for node in package.read(relation.target).iter():
        text = one_line(node.text or "")
        kept = local(node) == "t" or (local(node) == "v" and _is_name(node))
        if text and kept:
            words[text] = None
    return "\n".join(words)


def _is_name(value: Element) -> bool:
    """Whether a chart's value is a text and not a number."""
    point = value.getparent()
    cache = point.getparent() if point is not None else None
    return cache is not None and local(cache) == "strCache"
