"""A document without what readers don't see, to be cut in its place.

Comments and encoded data take no tokens and no words, but chunks keep them in their text. So the
document is cut without them, and the places of the chunks are found again in the whole text. What
stands at an end of a chunk is not part of it, so a chunk has it only between two of its parts.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Final

from indexer.chunking.encoded import encoded_ranges
from indexer.chunking.rules import rule_ranges
from retrieval.domain.embedded_text import without
from retrieval.domain.records import Document, Section, Table

MAX_OMITTED_CHARS: Final = 1 << 17
"""Characters of a chunk at most that are left out: a picture of 98 kB. A chunk with more is cut
there, and the range is in neither part. Passages are returned with their whole texts, and a page of
them has to fit into a message."""


@dataclass(frozen=True, slots=True)
class ReadDocument:
    """A document as it is read, and the way back to the whole text."""

    document: Document
    """The document without the ranges; offsets are those of its own text."""
    ranges: Sequence[tuple[int, int]]
    """The ranges that are left out, in order and apart, in the whole text."""
    _places: Sequence[int]
    """For each range, where it is missing."""
    _before: Sequence[int]
    """For each range, the number of characters that are left out before it; then their total."""

    def parts(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield (start, end) of the parts of a chunk, cut where too much would be left out."""
        left_out = 0
        for number in range(bisect_right(self._places, start), bisect_left(self._places, end)):
            length = self._before[number + 1] - self._before[number]
            left_out += length
            if left_out > MAX_OMITTED_CHARS:
                yield start, self._places[number]
                start, left_out = self._places[number], 0
        yield start, end

    def whole(self, start: int, end: int) -> tuple[int, int]:
        """Return where a range, not empty, of the text as it is read lies in the whole text."""
        before = self._before[bisect_right(self._places, start)]
        return start + before, end + self._before[bisect_left(self._places, end)]

    def within(self, start: int, end: int) -> tuple[tuple[int, int], ...]:
        """Return the ranges within a part of the whole text, relative to its start."""
        first = bisect_left(self.ranges, (start,))
        last = bisect_left(self.ranges, (end,))
        return tuple((left - start, right - start) for left, right in self.ranges[first:last])


def read_document(document: Document) -> ReadDocument:
    """Return a document without what is omitted, encoded data and long rules."""
    text = document.text
    united = _united([*document.omitted, *encoded_ranges(text), *rule_ranges(text)])
    if not united:
        return ReadDocument(document, (), (), (0,))
    before = [0, *accumulate(end - start for start, end in united)]
    places = [start - left for (start, _), left in zip(united, before, strict=False)]
    starts = [start for start, _ in united]

    def read(offset: int) -> int:
        """Return where a character of the whole text is in the text as it is read."""
        number = bisect_right(starts, offset)
        if number and offset < united[number - 1][1]:
            return places[number - 1]
        return offset - before[number]

    shorter = replace(
        document,
        text=without(text, united),
        sections=_sections(
            replace(one, char_start=read(one.char_start)) for one in document.sections
        ),
        tables=tuple(
            Table(read(one.char_start), read(one.char_end), one.header, read(one.rows_start))
            for one in document.tables
        ),
        omitted=(),
    )
    return ReadDocument(shorter, united, places, before)


def _united(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return ranges in order; those that overlap or touch are joined, empty ones are left out."""
    united: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if united and start <= united[-1][1]:
            united[-1] = (united[-1][0], max(end, united[-1][1]))
        elif start < end:
            united.append((start, end))
    return united


def _sections(sections: Iterator[Section]) -> tuple[Section, ...]:
    """Return sections that tile a text; of several at one place, the last has the text."""
    kept = {section.char_start: section for section in sections}
    return tuple(kept.values())
