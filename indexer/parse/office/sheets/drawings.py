"""Words of the charts, text boxes and pictures on the sheets of an Excel file."""

from collections.abc import Iterator

from indexer.parse.base.compose import Composer
from indexer.parse.office.drawing import alternative_text, graphic_words
from indexer.parse.office.ooxml import (
    PART_ERRORS,
    Element,
    Package,
    Relation,
    attribute,
    local,
    relation_ids,
)


def drawings_of(package: Package) -> dict[str, list[str]]:
    """Return the parts with drawings of each sheet, by the sheet's name.

    Binary workbooks name none, and neither do damaged ones.
    """
    try:
        main = package.main_part()
        if main.lower().endswith(".bin"):
            return {}
        sheets = {one.id: one for one in package.relations(main)}
        found: dict[str, list[str]] = {}
        for node in package.read(main).iter():
            if local(node) == "sheet":
                for sheet in filter(None, map(sheets.get, relation_ids(node))):
                    parts = [one.target for one in _drawings(package, sheet)]
                    found[attribute(node, "name")] = parts
    except PART_ERRORS:
        return {}
    return found


def _drawings(package: Package, sheet: Relation) -> Iterator[Relation]:
    return (one for one in package.relations(sheet.target) if one.kind == "drawing")


def add_drawing(composer: Composer, package: Package, part: str, sheet: str) -> None:
    """Add the words of a drawing.

    Args:
        composer: where to add them.
        package: holds the drawing.
        part: the drawing.
        sheet: name of its sheet.
    """
    try:
        targets = {one.id: one.target for one in package.relations(part) if one.kind == "chart"}
        for anchor in package.read(part):
            composer.add("\n".join(_texts(anchor)))
            composer.add(alternative_text(anchor))
            for node in anchor.iter():
                for chart in filter(None, map(targets.get, relation_ids(node))):
                    composer.add(graphic_words(package, chart))
    except PART_ERRORS:
        composer.unread(f"drawing on sheet {sheet}")


def _texts(anchor: Element) -> Iterator[str]:
    """Yield the paragraphs of the text boxes of an anchor."""
    for paragraph in anchor.iter():
        if local(paragraph) == "p":
            text = "".join(node.text or "" for node in paragraph.iter() if local(node) == "t")
            if text.strip():
                yield text.strip()
