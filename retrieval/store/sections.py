"""The section around a passage: those before and after it that are under the same headings."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

MOST_AROUND: Final = 200
"""Passages that are looked at, before one and after it."""


class Neighbour(NamedTuple):
    """A passage, as far as it matters here."""

    ordinal: int
    start: int
    """First character in the document's text."""
    end: int
    headings: str
    """JSON."""


class Stretch(NamedTuple):
    """A stretch of a document's text."""

    start: int
    end: int
    complete: bool
    """Whether all passages of the section are in it."""


def stretch_around(
    ordinal: int, neighbours: Sequence[Neighbour], most_chars: int
) -> Stretch | None:
    """The passage of an ordinal with those after and before it, in turn, as far as there is room.

    Args:
        ordinal: which of the passages.
        neighbours: passages of its document, ``MOST_AROUND`` before it and after it, in order.
        most_chars: length that the stretch stays within, unless the passage itself is longer.

    Returns:
        None if it is not among the passages.
    """
    at = next((i for i, one in enumerate(neighbours) if one.ordinal == ordinal), None)
    if at is None:
        return None
    passage = neighbours[at]
    after, before = iter(neighbours[at + 1 :]), iter(reversed(neighbours[:at]))
    start, end = passage.start, passage.end
    sides: list[Iterator[Neighbour]] = [after, before]
    while sides:
        for side in tuple(sides):
            one = next(side, None)
            if one is None or one.headings != passage.headings:
                sides.remove(side)
                continue
            if max(end, one.end) - min(start, one.start) > most_chars:
                return Stretch(start, end, complete=False)
            start, end = min(start, one.start), max(end, one.end)
            if abs(one.ordinal - ordinal) == MOST_AROUND:
                return Stretch(start, end, complete=False)
    return Stretch(start, end, complete=True)
