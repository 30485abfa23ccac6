"""Bound the text that spans of tables repeat: a hostile file repeats a long one very often."""

from typing import Final

_MAX_CHARS: Final = 10_000_000
"""Number of characters that a document may repeat: more than the text of most."""


class Repeats:
    """Repeats texts as long as a document's budget lasts."""

    def __init__(self) -> None:
        self._left = _MAX_CHARS

    def again(self, text: str) -> str:
        """Return a text once more; empty if the budget is spent."""
        if len(text) > self._left:
            return ""
        self._left -= len(text) + 1
        return text
