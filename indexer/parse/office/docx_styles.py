"""What the styles of a DOCX file say: which paragraphs are headings, and which are code."""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from indexer.parse.office.ooxml import Element, Package, attribute, local

TITLE: Final = 0
"""Level of the document's title, above all headings."""
BODY_LEVEL: Final = 9
"""Outline levels below this one are those of body text."""

_HEADING: Final = re.compile(r"heading ([1-9])$", re.IGNORECASE)
_CHAPTER: Final = re.compile(r"(?:chapter|part|appendix|(?:front|back)matter) ?title$", re.I)
_LETTERED: Final = re.compile(r"(?i:head(?:ing)?) ?([A-D])(?:$|[A-Z ])")
"""Headings in the templates of publishers; A is below a chapter's title."""
_CODE: Final = re.compile(r"code|listing|preformatted|source|verbatim", re.IGNORECASE)
_MAX_BASES: Final = 20
"""Styles based on styles: longer chains are loops."""


class Styles(NamedTuple):
    """What paragraphs are, by their style's id."""

    levels: Mapping[str, int]
    """Level of headings, from 1 up; that of the document's title is ``TITLE``."""
    code: frozenset[str]
    items: frozenset[str]
    """Of lists."""


def read_styles(package: Package, main: str) -> Styles:
    """Read the styles of a document's main part; those without a say are left out."""
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
                    own.setdefault(identity, outline_level(node))
                elif local(node) == "numPr":
                    items.add(identity)
                elif local(node) == "name":
                    name = attribute(node, "val")
            own.update({} if (level := _named_level(name)) is None else {identity: level})
            if _CODE.search(name):
                code.add(identity)
    levels = {identity: _inherited(identity, own, bases) for identity in {*own, *bases}}
    headings = {name: level for name, level in levels.items() if level <= BODY_LEVEL}
    return Styles(headings, frozenset(code), frozenset(items))


def outline_level(node: Element) -> int:
    """Level from 1 up of an outline level, which counts from 0; one more than 9 for body text."""
    value = attribute(node, "val")
    return int(value) + 1 if value.isdecimal() else BODY_LEVEL + 1


def _named_level(name: str) -> int | None:
    """Level of a heading by the name of its style; None if that is no heading's."""
    if name.lower() == "title":
        return TITLE
    if match := _HEADING.match(name):
        return int(match[1])
    if _CHAPTER.match(name):
        return 1
    match = _LETTERED.match(name)
    return "ABCD".index(match[1]) + 2 if match else None


def _inherited(identity: str, own: Mapping[str, int], bases: Mapping[str, str]) -> int:
    for _ in range(_MAX_BASES):
        if identity in own:
            return own[identity]
        identity = bases.get(identity, "")
    return BODY_LEVEL + 1
