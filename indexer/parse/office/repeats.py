"""Bound the text that spans of tables repeat: a hostile file repeats a long one very often."""

from typing import Final

_MAX_CHARS: Final = 10_000_000
"""Number of characters that a document may repeat: more than the text of most."""
_LONGEST: Final = 200
"""A longer text in a cell that spans others is a passage and no value: it is there once. One form
of 300 kB became three times as long by such cells."""


class Repeats:
    """Repeats texts as long as a document's budget lasts."""

    def __init__(self) -> None:
        self._left = _MAX_CHARS

    def again(self, text: str) -> str:
        """Return a text once more; empty if it is long, or the budget is spent."""
        if len(text) > min(self._left, _LONGEST):
            return ""
        self._left -= len(text) + 1
        return text
