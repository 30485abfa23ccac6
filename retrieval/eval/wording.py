"""Numbers and lists in sentences."""

from collections.abc import Sequence
from typing import Final

from retrieval.domain.wording import counted

__all__ = ["counted", "named"]

_NAMED: Final = 5
"""Items of a list that are named; the rest is counted."""
_NAME_CHARS: Final = 100


def named(names: Sequence[str]) -> str:
    """Return the first few of a list, and how many more there are."""
    shown = ", ".join(
        name if len(name) <= _NAME_CHARS else f"{name[: _NAME_CHARS - 1]}…"
        for name in names[:_NAMED]
    )
    more = len(names) - _NAMED
    return shown if more <= 0 else f"{shown} … and {more} more"
