"""The section around a passage: the adjacent passages under the same headings."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from retrieval.errors import NotFound
from retrieval.store.records import PassageKey, SectionSpan

AROUND: Final = (8, 40, 200)
"""Number of passages to look at on either side, step by step; the first step usually suffices."""


class Neighbour(NamedTuple):
    """Place and headings of a passage."""

    ordinal: int
    start: int
    """First character in the document's text."""
    end: int
    headings: str
    """The heading path as JSON."""


ReadNeighbours = Callable[[Sequence[tuple[int, int, int]]], Mapping[int, Mapping[int, Neighbour]]]
"""Reads passages by document and ordinal, given documents with their first and last ordinals."""


def section_spans(
    places: Sequence[PassageKey], most_chars: int, read: ReadNeighbours
) -> list[SectionSpan]:
    """Find the span of the section around each of some passages; see ``Reader``.

    Passages are read at most once for each step of ``AROUND``, however many are asked for.
    """
    found: dict[PassageKey, SectionSpan] = {}
    for around in AROUND:
        left = [place for place in dict.fromkeys(places) if place not in found]
        if not left:
            break
        neighbours = read([(document, at - around, at + around) for document, at in left])
        for document_id, ordinal in left:
            beside = neighbours.get(document_id, {})
            if ordinal not in beside:
                raise no_passage(document_id, ordinal)
            stretch = section_around(ordinal, beside, most_chars, around)
            if stretch is not None:
                found[document_id, ordinal] = stretch
    return [found[place] for place in places]


def no_passage(document_id: int, ordinal: int) -> NotFound:
    """Return the error for a passage that does not exist."""
    return NotFound(f"no passage {ordinal} of a document {document_id}")


def section_around(
    ordinal: int, neighbours: Mapping[int, Neighbour], most_chars: int, around: int
) -> SectionSpan | None:
    """Return the span of a passage's section, extended after and before it while there is room.

    Args:
        ordinal: ordinal of the passage.
        neighbours: passages of its document by ordinal, at least ``around`` on either side.
        most_chars: maximum length of the span, unless the passage itself is longer.
        around: number of passages to look at on either side.

    Returns:
        the span, or None if it depends on passages further away. At the last step of ``AROUND``
        the section is cut there and marked as incomplete.
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
