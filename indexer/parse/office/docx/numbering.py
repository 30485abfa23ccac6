"""Numbers of the list items of a DOCX file, which Word counts when it shows them."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from indexer.parse.office.ooxml import Element, attribute, local, number_of

_BULLETS: Final = frozenset({"bullet", "none"})
_MAX_LEVELS: Final = 9
_MAX_NUMBER: Final = 4_000
"""Greater numbers are written in digits, whatever the list says."""
_ROMAN: Final = (
    *((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l")),
    *((40, "xl"), (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i")),
)
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"


class _Level(NamedTuple):
    """How the items of a level are numbered."""

    format: str = "bullet"
    text: str = ""
    """``%1`` stands for the number of the first level, and so on."""
    start: int = 1


class Numbering:
    """The lists of a document, which counts their items."""

    def __init__(self, roots: Iterable[Element] = ()) -> None:
        """Read the lists.

        Args:
            roots: root elements of the parts that define them.
        """
        self._levels: dict[str, dict[int, _Level]] = {}
        """Levels of each definition."""
        self._definitions: dict[str, str] = {}
        """Definition that a list follows; lists that share one count on."""
        self._restarts: dict[str, dict[int, int]] = {}
        """Levels at which a list begins anew, and with which number."""
        self._counts: dict[str, dict[int, int]] = {}
        for node in (node for root in roots for node in root):
            if local(node) == "abstractNum":
                levels = dict(_level(one) for one in node if local(one) == "lvl")
                self._levels[attribute(node, "abstractNumId")] = levels
            elif local(node) == "num":
                self._add_list(node)

    def _add_list(self, node: Element) -> None:
        identity = attribute(node, "numId")
        for child in node:
            if local(child) == "abstractNumId":
                self._definitions[identity] = attribute(child, "val")
            elif local(child) == "lvlOverride":
                for one in child:
                    if local(one) == "startOverride":
                        restarts = self._restarts.setdefault(identity, {})
                        restarts[number_of(child, "ilvl")] = number_of(one, "val", 1)

    def next_mark(self, identity: str, level: int) -> str:
        """Return the mark of the next item of a list; empty if it is a bullet or none.

        Args:
            identity: of the list.
            level: of the item, from 0.
        """
        definition = self._definitions.get(identity, "")
        levels = self._levels.get(definition, {})
        here = levels.get(level, _Level())
        counts = self._counts.setdefault(definition, {})
        start = self._restarts.get(identity, {}).pop(level, None)
        if start is not None:
            counts[level] = start
        else:
            counts[level] = counts[level] + 1 if level in counts else here.start
        for deeper in range(level + 1, _MAX_LEVELS):
            counts.pop(deeper, None)
        if here.format in _BULLETS:
            return ""
        mark = here.text
        for above in range(_MAX_LEVELS):
            if (place := f"%{above + 1}") in mark:
                one = levels.get(above, _Level())
                mark = mark.replace(place, _written(counts.get(above, one.start), one.format))
        return mark.strip()


def _level(node: Element) -> tuple[int, _Level]:
    said = {local(one): attribute(one, "val") for one in node}
    start = said.get("start", "")
    return number_of(node, "ilvl"), _Level(
        said.get("numFmt", "decimal"),
        said.get("lvlText", ""),
        int(start) if start.isdecimal() and len(start) <= len(str(_MAX_NUMBER)) else 1,
    )


def _written(number: int, how: str) -> str:
    """Return a number as digits, letters or Roman numerals."""
    if not 0 < number < _MAX_NUMBER:
        return str(number)
    text = str(number)
    if how.endswith("Letter"):
        times, letter = divmod(number - 1, len(_LETTERS))
        text = _LETTERS[letter] * (times + 1)
    elif how.endswith("Roman"):
        text = ""
        for value, letters in _ROMAN:
            text += letters * (number // value)
            number %= value
    elif how == "decimalZero":
        text = f"{number:02}"
    return text.upper() if how.startswith("upper") else text
