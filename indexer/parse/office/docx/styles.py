"""What the styles of a DOCX file say of paragraphs and of runs of text."""

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, TypeVar

from indexer.parse.office.ooxml import Element, attribute, local, number_of

TITLE: Final = 0
"""Level of the document's title, above all headings."""
LAST_LEVEL: Final = 9
"""Deepest outline level of a heading; a paragraph at a deeper level is body text."""

_HEADING: Final = re.compile(r"heading ([1-9])$", re.IGNORECASE)
_CHAPTER: Final = re.compile(r"(?:chapter|part|appendix|(?:front|back)matter) ?title$", re.I)
_LETTERED: Final = re.compile(r"(?i:head(?:ing)?) ?([A-D])(?:$|[A-Z ])")
"""Names of heading styles in the templates of publishers; A is below a chapter's title."""
_CODE: Final = re.compile(r"code|listing|preformatted|source|verbatim", re.IGNORECASE)
_MAX_BASES: Final = 20
"""Longest chain of styles based on each other; a longer one is taken for a loop."""

_T = TypeVar("_T")
_U = TypeVar("_U")


class Item(NamedTuple):
    """Which list an item is in, and at which level, from 0."""

    list: str = ""
    level: int = 0


class Styles(NamedTuple):
    """What the styles of a document say, by the style's id."""

    levels: Mapping[str, int] = {}
    """Level of each heading style, from 1 up; ``TITLE`` for the style of the document's title."""
    code: frozenset[str] = frozenset()
    """Styles of code."""
    items: Mapping[str, Item] = {}
    """Which list the items of a style are in."""
    hidden: frozenset[str] = frozenset()
    """Styles of text that isn't shown."""
    bold: frozenset[str] = frozenset()


def read_styles(roots: Iterable[Element]) -> Styles:
    """Return the styles of a document.

    Args:
        roots: root elements of the parts that hold them.
    """
    own: dict[str, int] = {}
    bases: dict[str, str] = {}
    hidden: dict[str, bool] = {}
    bold: dict[str, bool] = {}
    items: dict[str, Item] = {}
    code = set()
    for style in (style for root in roots for style in root if local(style) == "style"):
        identity, name = attribute(style, "styleId"), ""
        for node in style.iter():
            key = local(node)
            if key == "basedOn":
                bases[identity] = attribute(node, "val")
            elif key == "outlineLvl":
                own.setdefault(identity, outline_level(node))
            elif key == "numPr":
                items[identity] = read_item(node)
            elif key == "name":
                name = attribute(node, "val")
            elif key == "vanish":
                hidden[identity] = is_on(node)
            elif key == "b" and not _is_conditional(node):
                bold[identity] = is_on(node)
        own.update({} if (level := named_level(name)) is None else {identity: level})
        if _CODE.search(name):
            code.add(identity)
    levels = {name: _inherited(name, own, bases, LAST_LEVEL + 1) for name in {*own, *bases}}
    return Styles(
        levels={name: level for name, level in levels.items() if level <= LAST_LEVEL},
        code=frozenset(code),
        items={
            name: item
            for name in {*items, *bases}
            if (item := _inherited(name, items, bases, None)) is not None
        },
        hidden=frozenset(n for n in {*hidden, *bases} if _inherited(n, hidden, bases, 0)),
        bold=frozenset(n for n in {*bold, *bases} if _inherited(n, bold, bases, 0)),
    )


def outline_level(node: Element) -> int:
    """Return a level from 1 up for an outline level, which counts from 0; 10 for body text."""
    value = attribute(node, "val")
    return int(value) + 1 if value.isdecimal() else LAST_LEVEL + 1


def is_on(node: Element) -> bool:
    """Whether a property that is on or off is on."""
    return attribute(node, "val") not in {"0", "false", "off"}


def _is_conditional(node: Element) -> bool:
    """Whether a property is only for a part of a table, such as its first row."""
    return any(local(above) == "tblStylePr" for above in node.iterancestors())


def named_level(name: str) -> int | None:
    """Return the level of a heading style by its name; None for other styles."""
    if name.lower() == "title":
        return TITLE
    if match := _HEADING.match(name):
        return int(match[1])
    if _CHAPTER.match(name):
        return 1
    match = _LETTERED.match(name)
    return "ABCD".index(match[1]) + 2 if match else None


def read_item(node: Element) -> Item:
    """Return which list a paragraph or a style is in."""
    said = {local(one): one for one in node}
    level = number_of(said["ilvl"], "val") if "ilvl" in said else 0
    return Item(attribute(said["numId"], "val") if "numId" in said else "", max(level, 0))


def _inherited(identity: str, own: Mapping[str, _T], bases: Mapping[str, str], none: _U) -> _T | _U:
    """Return the value of a style: its own, or that of the nearest style it is based on."""
    for _ in range(_MAX_BASES):
        if identity in own:
            return own[identity]
        identity = bases.get(identity, "")
    return none
