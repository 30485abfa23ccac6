"""What the styles of an OpenDocument file say of texts."""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from indexer.parse.office.ooxml import Element, attribute, local

TITLE: Final = 0
"""Level of the document's title, above all headings."""
_TITLES: Final = frozenset({"title"})
_CODE: Final = frozenset({"preformatted text", "source text", "source code"})
_MAX_BASES: Final = 20
"""Longest chain of styles based on each other; a longer one is taken for a loop."""


class Styles(NamedTuple):
    """Sets of names of styles."""

    hidden: frozenset[str]
    """Styles of text that isn't shown."""
    titles: frozenset[str]
    """Styles of the document's title."""
    code: frozenset[str]
    """Styles of code."""
    bold: frozenset[str]


def read_styles(parts: Iterable[Element]) -> Styles:
    """Return the styles of a document.

    Args:
        parts: the elements that hold them.
    """
    bases: dict[str, str] = {}
    names: dict[str, str] = {}
    shown: dict[str, bool] = {}
    bold: dict[str, bool] = {}
    for part in parts:
        for style in part:
            name = attribute(style, "name")
            if local(style) != "style" or name in names:
                continue
            names[name] = attribute(style, "display-name") or name.replace("_20_", " ")
            bases[name] = attribute(style, "parent-style-name")
            for properties in style:
                if local(properties) == "text-properties":
                    if display := attribute(properties, "display"):
                        shown[name] = display != "none"
                    if weight := attribute(properties, "font-weight"):
                        bold[name] = weight == "bold"
    chains = {name: _chain(name, bases) for name in names}
    return Styles(
        hidden=frozenset(n for n, chain in chains.items() if _first(chain, shown) is False),
        titles=_called(_TITLES, chains, names),
        code=_called(_CODE, chains, names),
        bold=frozenset(n for n, chain in chains.items() if _first(chain, bold)),
    )


def _chain(name: str, bases: Mapping[str, str]) -> list[str]:
    """Return a style and those that it is based on, nearest first."""
    chain: list[str] = []
    while name and len(chain) < _MAX_BASES:
        chain.append(name)
        name = bases.get(name, "")
    return chain


def _first(chain: Iterable[str], values: Mapping[str, bool]) -> bool | None:
    return next((values[name] for name in chain if name in values), None)


def _called(
    wanted: frozenset[str], chains: Mapping[str, list[str]], names: Mapping[str, str]
) -> frozenset[str]:
    """Return the styles that have one of these names, or are based on one that has."""
    return frozenset(
        name
        for name, chain in chains.items()
        if any(names.get(base, base).lower() in wanted for base in chain)
    )
