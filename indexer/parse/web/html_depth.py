"""Limit the depth of HTML, so that a hostile file can't cost quadratic time or memory.

An HTML parser searches the open elements at most tags, and reopens all unclosed formatting elements
in every paragraph, so a small file can keep it busy for hours. Here tags are dropped where too many
elements are open, before the parser sees them. No text is lost.
"""

import re
from collections import Counter
from typing import Final

from indexer.parse.base.outline import words

MAX_OPEN: Final = 512
"""Maximum number of open elements; Chromium has the same limit."""

# Comments match without a name, because what looks like a tag in them is none.
_TAG: Final = re.compile(r"<!--(?:-?>|.*?--!?>|.*)|<(/?)([A-Za-z][^\s/<>]*)[^<>]*>?", re.DOTALL)

# Not counted: elements that the next of their kind closes, so that good HTML leaves thousands open;
# elements without content; and elements with raw text, which would show if their tag were dropped.
_UNCOUNTED: Final = words(
    """
    area base body br col colgroup dd dt embed h1 h2 h3 h4 h5 h6 head hr html img input li link meta
    optgroup option p param script source style tbody td textarea tfoot th thead title tr track wbr
    """
)
_COUNTED: Final = re.compile(
    rf"<!--(?:-?>|.*?--!?>|.*)|<(/?)(?!(?:{'|'.join(sorted(_UNCOUNTED))})(?![^\s/<>]))"
    r"([A-Za-z][^\s/<>]*)",
    re.DOTALL | re.IGNORECASE,
)
"""Comments, and the tags that count."""
_INLINE: Final = words(
    "a abbr b big cite code em font i kbd mark nobr q s samp small span strike strong tt u"
)


def limit_depth(html: str) -> str:
    """Return HTML without the tags of elements that would be more than ``MAX_OPEN`` deep.

    Args:
        html: source of the document; returned as it is if it has few tags, or is not deep.
    """
    if html.count("<") <= MAX_OPEN or not _is_deep(html):
        return html
    return _TAG.sub(_DepthLimit(), html)


def _is_deep(html: str) -> bool:
    """Whether more than ``MAX_OPEN`` elements may be open at once; counts as ``_DepthLimit``."""
    depth = 0
    scope: dict[str, int] = {}
    scopes = [scope]
    for tag in _COUNTED.finditer(html):
        end, name = tag.groups()
        if name is None:
            continue
        name = name.lower()
        if not end:
            if depth >= MAX_OPEN:
                return True
            depth += 1
            scope[name] = scope.get(name, 0) + 1
            if name == "table":
                scope = {}
                scopes.append(scope)
            continue
        if name == "table" and len(scopes) > 1:
            depth -= sum(scopes.pop().values())
            scope = scopes[-1]
        if scope.get(name):
            scope[name] -= 1
            depth -= 1
    return False


class _DepthLimit:
    """Tracks which elements are open; may count too many, never too few."""

    def __init__(self) -> None:
        self._depth = 0
        self._dropped_end = -1
        # One counter for each open table: an end tag in a table closes nothing outside.
        self._scopes: list[Counter[str]] = [Counter()]

    def __call__(self, tag: re.Match[str]) -> str:
        """Return the tag, or its replacement."""
        name = (tag[2] or "").lower()
        if not name or name in _UNCOUNTED:
            return tag[0]
        if tag[1]:
            self._close(name)
        elif self._depth >= MAX_OPEN:
            return self._replace(tag, name)
        else:
            self._open(name)
        return tag[0]

    def _open(self, name: str) -> None:
        self._depth += 1
        self._scopes[-1][name] += 1
        if name == "table":
            self._scopes.append(Counter())

    def _close(self, name: str) -> None:
        if name == "table" and len(self._scopes) > 1:
            self._depth -= self._scopes.pop().total()
        if self._scopes[-1][name]:
            self._scopes[-1][name] -= 1
            self._depth -= 1

    def _replace(self, tag: re.Match[str], name: str) -> str:
        """Return the replacement of a dropped tag: one line break for each run of blocks."""
        again = tag.start() == self._dropped_end
        self._dropped_end = tag.end()
        return "" if again or name in _INLINE else "<br>"
