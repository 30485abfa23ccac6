"""Numbers and lists in sentences."""

from collections.abc import Sequence
from typing import Final

_NAMED: Final = 5
"""Items of a list that are named; the rest is counted."""
_NAME_CHARS: Final = 100


def counted(count: int, one: str, many: str = "") -> str:
    """Return a number with its noun: ``1 query``, ``2 queries``.

    Args:
        count: the number.
        one: the noun's singular.
        many: its plural; by default the singular with an s.
    """
    return f"{count} {one if count == 1 else many or one + 's'}"


def named(names: Sequence[str]) -> str:
    """Return the first few of a list, and how many more there are."""
    shown = ", ".join(
        name if len(name) <= _NAME_CHARS else f"{name[: _NAME_CHARS - 1]}…"
        for name in names[:_NAMED]
    )
    more = len(names) - _NAMED
    return shown if more <= 0 else f"{shown} … and {more} more"
