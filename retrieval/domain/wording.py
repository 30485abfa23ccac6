"""Wording of messages: numbers with nouns, shortened lists, suggested names, printable text."""

import difflib
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final

_SHORTEST_PART: Final = 2
"""Characters of a part of a name that suggest nothing: too many names contain them."""
_CLOSE: Final = 0.6
"""Similarity from which ``difflib`` calls two names close; its own default."""
_NAMED: Final = 5
"""Items of a list that a sentence names; the rest is only counted. Five fit on one line."""
_NAME_CHARS: Final = 100
"""Characters of a name that a sentence shows."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: ``1 chunk``, ``2 chunks``.

    Args:
        number: how many.
        noun: the word for one.
        plural: the word for any other number; ``noun`` with an s if empty.
    """
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def named(names: Sequence[str]) -> str:
    """Return the first few names of a list, and how many more there are."""
    shown = ", ".join(
        name if len(name) <= _NAME_CHARS else f"{name[: _NAME_CHARS - 1]}…"
        for name in names[:_NAMED]
    )
    more = len(names) - _NAMED
    return shown if more <= 0 else f"{shown} … and {more} more"


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'right'?``, or an empty string if no known name is close.

    Args:
        wrong: the name that was typed.
        known: the names that exist; their case does not matter.
    """
    by_folded = {name.casefold(): name for name in known}
    typed = wrong.casefold()
    close = difflib.get_close_matches(typed, by_folded, n=1, cutoff=_CLOSE)
    # A part of a name is close as well, however long the rest is.
    close = close or [name for name in by_folded if len(typed) > _SHORTEST_PART and typed in name]
    return f"; did you mean {by_folded[close[0]]!r}?" if close else ""


def printable(text: str) -> str:
    """Return text with control and direction characters shown as escapes.

    So a document can't move the terminal's cursor, or recolour or reverse what is on the screen.
    """
    return "".join(
        char
        if char == "\n" or unicodedata.category(char) not in ("Cc", "Cf", "Cs")
        else char.encode("unicode_escape", "surrogatepass").decode()
        for char in text.expandtabs(4)
    )


def on_one_line(text: str) -> str:
    """Return text as ``printable`` does, with line ends as escapes too: names may contain them."""
    return "".join(
        char.encode("unicode_escape").decode() if char in "\n\u2028\u2029" else char
        for char in printable(text)
    )
