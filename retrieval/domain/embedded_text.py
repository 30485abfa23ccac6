"""What a passage is embedded with: its own text alone, or under its title and headings."""

from collections.abc import Sequence
from typing import Final

CONTEXT_TOKENS: Final = 64
"""Room that is left in a model for the context."""
_CONTEXT_CHARS: Final = 160
"""Most characters of a context; what is cut off is at its beginning, where it says least."""
_BETWEEN: Final = " › "


def context_line(title: str, heading_path: Sequence[str]) -> str:
    """Where a passage stands, on one line: its document's title, and the headings over it.

    Args:
        title: the document's.
        heading_path: outermost first.
    """
    steps = [title, *heading_path]
    if len(steps) > 1 and steps[0] == steps[1]:  # the title is the first heading
        del steps[0]
    return _BETWEEN.join(steps)


def embedded_text(text: str, *, title: str, heading_path: Sequence[str], context: bool) -> str:
    """The text that a passage's vector is made of.

    Args:
        text: the passage's own.
        title: its document's.
        heading_path: headings that it stands under, outermost first.
        context: whether title and headings go before it, on a line of their own.
    """
    if not context:
        return text
    return f"{context_line(title, heading_path)[-_CONTEXT_CHARS:].lstrip()}\n\n{text}"
