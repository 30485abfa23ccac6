"""Words of messages: a number with its noun, and the name that was probably meant."""

import difflib
import unicodedata
from collections.abc import Iterable

_SHORTEST_PART = 2
"""Characters; as short a part is in too many names."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: ``1 chunk``, ``2 chunks``.

    Args:
        number: how many.
        noun: the word for one.
        plural: the word for any other number; empty: ``noun`` with an s.
    """
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'right'?``, or nothing where no known name is close.

    Args:
        wrong: what was typed.
        known: the names that exist; case does not count.
    """
    by_folded = {name.casefold(): name for name in known}
    typed = wrong.casefold()
    close = difflib.get_close_matches(typed, by_folded, n=1, cutoff=0.6)
    # A name typed in part is close as well, however long the rest of it is.
    close = close or [name for name in by_folded if len(typed) > _SHORTEST_PART and typed in name]
    return f"; did you mean {by_folded[close[0]]!r}?" if close else ""


def printable(text: str) -> str:
    """Text with control and direction characters shown as escapes.

    A document can't then move the terminal's cursor, recolour it or reverse what is on it.
    """
    return "".join(
        char
        if char == "\n" or unicodedata.category(char) not in ("Cc", "Cf", "Cs")
        else char.encode("unicode_escape", "surrogatepass").decode()
        for char in text.expandtabs(4)
    )
