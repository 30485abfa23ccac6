"""Words of pictures, charts and diagrams in Office Open XML files (DrawingML)."""

import re
from typing import Final

from indexer.parse.base.outline import one_line
from indexer.parse.base.titles import is_junk_title
from indexer.parse.office.ooxml import Element, Package, attribute, local

_BY_MACHINE: Final = re.compile(
    r"\s*+(?:Description automatically generated(?: with [\w ]++confidence)?"
    r"|AI-generated content may be incorrect)\.?\s*+$"
)
"""What Office adds to the descriptions that it makes."""


_FILE: Final = re.compile(
    r"(?:\S*|[a-z]:\\.*)\.(?:bmp|emf|gif|jpe?g|png|svg|tiff?|webp|wmf)", re.IGNORECASE
)


def alternative_text(shape: Element) -> str:
    """Return the descriptions of the pictures in a shape, for those who can't see them."""
    found = dict.fromkeys(
        text
        for node in shape.iter()
        if local(node) in {"cNvPr", "docPr"} and (text := described(attribute(node, "descr")))
    )
    return "\n".join(found)


def described(description: str) -> str:
    """Return a description without what programs add; empty if it is the name of a file."""
    text = one_line(_BY_MACHINE.sub("", _BY_MACHINE.sub("", description)))
    return "" if is_junk_title(text) or _FILE.fullmatch(text) else text


def graphic_words(package: Package, part: str) -> str:
    """Return the words of a chart or diagram: titles, names of series and categories.

    Raises:
        Exception: one of ``PART_ERRORS``.
    """
    words = dict[str, None]()
    for node in package.read(part).iter():
        text = one_line(node.text or "")
        kept = local(node) == "t" or (local(node) == "v" and _is_name(node))
        if text and kept:
            words[text] = None
    return "\n".join(words)


def _is_name(value: Element) -> bool:
    """Whether a chart's value is a text and not a number."""
    point = value.getparent()
    if point is not None and local(point) == "tx":  # the name of a series, not that of a cell
        return True
    cache = point.getparent() if point is not None else None
    return cache is not None and local(cache) in {"strCache", "strLit", "lvl"}
