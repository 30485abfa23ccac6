"""Put units together to chunks that are full but not too full, and end where a reader would.

A section starts a new chunk, except that small sections share one. Where a chunk is cut within a
section, the next one repeats its last units, so that what stands across the cut is whole in one
of them. Only units of that section are repeated; the first of them may hold its heading.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, NamedTuple

from indexer.chunking.spans import Grain
from indexer.chunking.units import CHARS_PER_TOKEN, Unit, cut_units, split
from retrieval.domain.records import ChunkSettings, Document, TokenCounter

_SMALL: Final = 4
"""A chunk with less than this part of its tokens goes on into a section that fits as a whole."""
_STUB: Final = 8
"""A chunk with less than this part of its tokens goes on into the next section anyway."""
_FULL: Final = 0.75
"""A chunk this full may end early if a paragraph ends there."""

_LINE_WITH_WORDS: Final = re.compile("[^\\W_][^\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]*+")
"""What is left of a line from its first letter or digit on."""


class Stretch(NamedTuple):
    """A chunk before its tokens are counted."""

    start: int
    end: int
    tokens: int | None
    """Those of its units together; None if not all of them are cut beside white space."""


def pack(document: Document, counter: TokenCounter, settings: ChunkSettings) -> Iterator[Stretch]:
    """Yield a document's chunks, white space around them included.

    Args:
        document: what is cut.
        counter: tokenizer of the model that the chunks are for.
        settings: sizes in tokens; ``chunk_tokens`` is not 0.
    """
    units = cut_units(document, counter, settings.chunk_tokens)
    return _Packer(document, counter, settings).pack(units)


@dataclass(slots=True)
class _Packer:
    """The chunk under construction."""

    document: Document
    counter: TokenCounter
    settings: ChunkSettings
    units: list[Unit] = field(default_factory=list)
    tokens: int = 0
    repeated: int = 0
    """How many units at the start are those that the chunk before ended with."""
    mark: int = 0
    """Where a section starts that is to fit as a whole, or else goes into the next chunk: how many
    units there are before it; 0 if there is none."""

    def pack(self, units: Iterable[Unit]) -> Iterator[Stretch]:
        """Yield the chunks, white space around them included."""
        done: list[Unit] = []
        for unit in units:
            if self._goes_on(unit):
                self._take(unit)
                continue
            for chunk in self._add(unit):
                if done:
                    yield self._stretch(done)
                done = chunk
        if self._joins(done):
            done += self.units
            self.units = []
        if done:
            yield self._stretch(done)
        if self.repeated < len(self.units):
            yield self._stretch(self.units)

    def _stretch(self, units: Sequence[Unit]) -> Stretch:
        text = self.document.text
        before = "".join([text[unit.start - 1] for unit in units[1:]])
        tokens = _total(units) if not before or before.isspace() else None
        return Stretch(units[0].start, units[-1].end, tokens)

    def _goes_on(self, unit: Unit) -> bool:
        """Whether the unit plainly belongs to the chunk: most do."""
        same_section = bool(self.units) and unit.section == self.units[-1].section
        return same_section and self._fits(unit)

    def _take(self, unit: Unit) -> None:
        self.units.append(unit)
        self.tokens += unit.tokens

    def _add(self, unit: Unit) -> Iterator[list[Unit]]:
        """Add a unit to the chunk; yield the chunks that are done before it."""
        if self.units and unit.section != self.units[-1].section and (done := self._end_section()):
            yield done
        while not self._fits(unit):
            if self._is_to_split(unit):
                for part in self._split(unit):
                    yield from self._add(part)
                return
            if self.repeated == len(self.units):
                self._keep(self.units[1:], self.repeated - 1)
            else:
                yield self._end_chunk(unit)
        self._take(unit)

    def _is_to_split(self, unit: Unit) -> bool:
        """Whether the start of a unit that does not fit goes into the chunk."""
        if unit.grain is not Grain.PARAGRAPH:
            return unit.grain is Grain.SECTION
        stays = unit.kept and not self._is_stub()
        return not stays and not self.mark and not self._ends_well()

    def _split(self, unit: Unit) -> list[Unit]:
        return split(self.document, unit, self.counter, self.settings.chunk_tokens)

    def _ends_well(self) -> bool:
        """Whether the chunk is full enough to end here, with a paragraph."""
        enough = self.tokens >= _FULL * self.settings.chunk_tokens
        return self.repeated < len(self.units) and enough and self.units[-1].ends_paragraph

    def _fits(self, unit: Unit, after: int = 0) -> bool:
        """Whether the unit fits into the chunk without its first ``after`` units."""
        if after >= len(self.units):
            return True
        tokens = _total(self.units[after:]) if after else self.tokens
        return self._within_limits(tokens + unit.tokens, unit.end - self.units[after].start)

    def _within_limits(self, tokens: int, chars: int) -> bool:
        most = self.settings.chunk_tokens
        return tokens <= most and chars <= CHARS_PER_TOKEN * most

    def _end_section(self) -> list[Unit]:
        """End the chunk with its section and return it, or let it go on into the next: empty."""
        if self._is_stub():
            self.mark = 0
        elif self.tokens * _SMALL < self.settings.chunk_tokens:
            self.mark = len(self.units)
        else:
            done = self.units
            self._keep([], 0)
            return done
        return []

    def _is_stub(self) -> bool:
        """Whether the chunk is too little to stand alone.

        A few words are, and headings without text, and little before the first heading.
        """
        if self.tokens * _STUB < self.settings.chunk_tokens:
            return True
        first, last = self.units[0], self.units[-1]
        section = self.document.sections[first.section]
        if not section.level:
            return first.start == 0 and self.tokens * _SMALL < self.settings.chunk_tokens
        if first.start != section.char_start:
            return False
        # Without letters or digits a line is blank, or the rule under a heading.
        most = last.section - first.section + 1
        titles = _LINE_WITH_WORDS.finditer(self.document.text, first.start, last.end)
        return sum(1 for _ in islice(titles, most + 1)) <= most

    def _joins(self, done: list[Unit]) -> bool:
        """Whether the document's last chunk is a stub that fits into the chunk before it."""
        if not done or not self.units or self.repeated or not self._is_stub():
            return False
        tokens = self.tokens + _total(done)
        return self._within_limits(tokens, self.units[-1].end - done[0].start)

    def _end_chunk(self, unit: Unit) -> list[Unit]:
        """End the chunk, as ``unit`` does not fit, and return it; begin the next."""
        units = self.units
        if self.mark:
            done = units[: self.mark]
            self._keep(units[self.mark :], 0)
            return done
        left = len(units) - self._cut_point(unit)
        start = self._overlap_start(len(units) - left, (units[-left:] if left else [unit])[0])
        cut = len(units) - left
        # A whole paragraph that does not fit is split: its first sentence may.
        while start < cut and unit.grain is Grain.PIECE and not self._fits(unit, after=start):
            start += 1
        self._keep(units[start:], cut - start)
        return units[:cut]

    def _cut_point(self, unit: Unit) -> int:
        """Return how many units the chunk ends after, now that ``unit`` does not fit."""
        tokens = self.tokens
        for cut in range(len(self.units), self.repeated, -1):
            if tokens < _FULL * self.settings.chunk_tokens or not self._fits(unit, after=cut):
                break
            if self.units[cut - 1].ends_paragraph:
                return cut
            tokens -= self.units[cut - 1].tokens
        return len(self.units)

    def _overlap_start(self, cut: int, following: Unit) -> int:
        """Return the first unit that the next chunk repeats, when this one ends after ``cut``.

        Splits the paragraph of which only the end is repeated.
        """
        start, left = cut, self.settings.chunk_overlap
        while left and start and self.units[start - 1].section == following.section:
            last = self.units[start - 1]
            if last.grain is Grain.PARAGRAPH and (last.tokens > left or start == 1):
                parts = self._split(last)
                self.units[start - 1 : start] = parts
                start += len(parts) - 1
                continue
            left -= last.tokens
            if left < 0 or start == 1:
                break
            start -= 1
        return start

    def _keep(self, units: list[Unit], repeated: int) -> None:
        self.units = units
        self.tokens = _total(units)
        self.repeated = repeated
        self.mark = 0


def _total(units: Sequence[Unit]) -> int:
    return sum([unit.tokens for unit in units])
