"""The section around a passage: those before and after it that are under the same headings."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from retrieval.store.records import SectionSpan

AROUND: Final = (8, 40, 200)
"""Passages to look at before and after one, step by step; the first step decides nearly always."""


class Neighbour(NamedTuple):
    """A passage, as far as it matters here."""

    ordinal: int
    start: int
    """First character in the document's text."""
    end: int
    headings: str
    """JSON."""


def section_around(
    ordinal: int, neighbours: Mapping[int, Neighbour], most_chars: int, around: int
) -> SectionSpan | None:
    """Return the span of a passage with those after and before it, as far as there is room.

    Args:
        ordinal: which of the passages.
        neighbours: passages of its document by ordinal, at least ``around`` before it and after it.
        most_chars: length that the stretch stays within, unless the passage itself is longer.
        around: how far to look.

    Returns:
        None if that depends on passages further away. At the last step of ``AROUND`` the section
        is cut there, and incomplete.
    """
    passage = neighbours[ordinal]
    start, end = passage.start, passage.end
    sides = [1, -1]
    for distance in range(1, around + 1):
        for side in tuple(sides):
            one = neighbours.get(ordinal + side * distance)
            if one is None or one.headings != passage.headings:
                sides.remove(side)
                continue
            if max(end, one.end) - min(start, one.start) > most_chars:
                return SectionSpan(start, end, complete=False)
            start, end = min(start, one.start), max(end, one.end)
            if distance == AROUND[-1]:
                return SectionSpan(start, end, complete=False)
        if not sides:
            return SectionSpan(start, end, complete=True)
    return None
