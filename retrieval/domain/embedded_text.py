"""The text that a passage's vector and its words are made from.

It is the passage's own text without what no reader sees: the ranges that ``Chunk.omitted`` lists,
and invisible characters. Before it stand the names of a table's columns where the passage begins
below them, and title and headings if the index was built so.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

CONTEXT_TOKENS: Final = 64
"""Tokens of the model's maximum that are kept for a context; 160 characters seldom need more."""
_CONTEXT_CHARS: Final = 160
"""Maximum characters of a context. It is cut at the beginning, which is the least specific."""
_BETWEEN: Final = " › "

_INVISIBLE: Final = re.compile("[\u00ad\u200b\u2060\ufeff]+")
"""Soft hyphen, zero-width space, word joiner, byte order mark. Tokenizers for BERT drop them,
others cut a word there. The joiners U+200C and U+200D stay: they change how Persian and Indic words
and emoji are read."""


class Readable(Protocol):
    """What a chunk and a passage have in common."""

    @property
    def text(self) -> str:
        """See ``Chunk``."""
        ...

    @property
    def heading_path(self) -> Sequence[str]:
        """See ``Chunk``."""
        ...

    @property
    def table_header(self) -> str:
        """See ``Chunk``."""
        ...

    @property
    def omitted(self) -> Sequence[tuple[int, int]]:
        """See ``Chunk``."""
        ...


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


def without(text: str, omitted: Iterable[tuple[int, int]]) -> str:
    """Return a text without some ranges (start, end), which are in order and apart."""
    parts, at = list[str](), 0
    for start, end in omitted:
        parts.append(text[at:start])
        at = end
    return "".join([*parts, text[at:]]) if parts else text


def embedded_text(
    text: str,
    *,
    title: str,
    heading_path: Sequence[str],
    context: bool,
    table_header: str = "",
    omitted: Iterable[tuple[int, int]] = (),
    invisible: bool = False,
) -> str:
    """Return the text that a passage's vector is made from.

    Args:
        text: the passage's own text.
        title: its document's title.
        heading_path: the headings above it, outermost first.
        context: whether to put title and headings before the text, on a line of their own.
        table_header: as in ``Chunk``; put before the text, on a line of its own.
        omitted: as in ``Chunk``.
        invisible: whether to keep invisible characters, as versions before 0.2 did.
    """
    shown = without(text, omitted)
    if table_header:
        shown = f"{table_header}\n{shown}"
    if context:
        shown = f"{context_line(title, heading_path)[-_CONTEXT_CHARS:].lstrip()}\n\n{shown}"
    return shown if invisible or shown.isascii() else _INVISIBLE.sub("", shown)


def embedded_text_of(passage: Readable, *, title: str, context: bool) -> str:
    """Return the text that the vector of a chunk or passage is made from.

    Args:
        passage: the chunk or passage, with its text.
        title: its document's title.
        context: as for ``embedded_text``.
    """
    return embedded_text(
        passage.text,
        title=title,
        heading_path=passage.heading_path,
        context=context,
        table_header=passage.table_header,
        omitted=passage.omitted,
    )
