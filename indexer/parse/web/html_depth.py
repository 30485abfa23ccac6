"""Keep HTML that opens elements without end from costing quadratic time or memory.

An HTML parser looks through the open elements at most tags, and opens all unclosed formatting
elements again in every paragraph, so that a small file can keep it busy for hours. Here tags are
dropped where too many elements are open, before the parser sees them. No text is lost.
"""

import re
from collections import Counter
from typing import Final

from indexer.parse.base.outline import words

MAX_OPEN: Final = 512
"""Most elements open at once; browsers have a limit like this too."""

# Comments match without a name, for what they hold is no tag.
_TAG: Final = re.compile(r"<!--(?:-?>|.*?--!?>|.*)|<(/?)([A-Za-z][^\s/<>]*)[^<>]*>?", re.DOTALL)

# Closed by the next of their kind, so that thousands may be left open in good HTML; or never open;
# or holding raw text, where a dropped tag would let it out.
_UNCOUNTED: Final = words(
    """
    area base body br col colgroup dd dt embed h1 h2 h3 h4 h5 h6 head hr html img input li link meta
    optgroup option p param script source style tbody td textarea tfoot th thead title tr track wbr
    """
)
_INLINE: Final = words(
    "a abbr b big cite code em font i kbd mark nobr q s samp small span strike strong tt u"
)


def limit_depth(html: str) -> str:
    """Drop the tags of elements that would be more than ``MAX_OPEN`` deep.

    Args:
        html: source of the document; returned as it is if it is not as deep.
    """
    if html.count("<") <= MAX_OPEN:
        return html
    return _TAG.sub(_DepthLimit(), html)


class _DepthLimit:
    """Follows which elements are open; errs on the side of too many."""

    def __init__(self) -> None:
        self._depth = 0
        self._dropped_end = -1
        # One counter for each open table: an end tag does not close what is open outside it.
        self._scopes: list[Counter[str]] = [Counter()]

    def __call__(self, tag: re.Match[str]) -> str:
        """Return the tag, or what takes its place."""
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
        """Return what stands for a dropped tag: one line break for each run of blocks."""
        again = tag.start() == self._dropped_end
        self._dropped_end = tag.end()
        return "" if again or name in _INLINE else "<br>"
