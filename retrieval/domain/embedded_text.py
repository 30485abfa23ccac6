"""The text that a passage's vector is made from: its own, with or without title and headings."""

from collections.abc import Sequence
from typing import Final

CONTEXT_TOKENS: Final = 64
"""Tokens of the model's maximum that are kept for a context; 160 characters seldom need more."""
_CONTEXT_CHARS: Final = 160
"""Maximum characters of a context. It is cut at the beginning, which is the least specific."""
_BETWEEN: Final = " › "


def context_line(title: str, heading_path: Sequence[str]) -> str:
    """Return the title of a passage's document and the headings above the passage, on one line.

    Args:
        title: the document's title.
        heading_path: the headings, outermost first.
    """
    steps = [title, *heading_path]
    if len(steps) > 1 and steps[0] == steps[1]:  # the title is the first heading
        del steps[0]
    return _BETWEEN.join(steps)


def embedded_text(text: str, *, title: str, heading_path: Sequence[str], context: bool) -> str:
    """Return the text that a passage's vector is made from.

    Args:
        text: the passage's own text.
        title: its document's title.
        heading_path: the headings above it, outermost first.
        context: whether to put title and headings before the text, on a line of their own.
    """
    if not context:
        return text
    return f"{context_line(title, heading_path)[-_CONTEXT_CHARS:].lstrip()}\n\n{text}"
