"""Make chunks of a document: passages that fit the model, along the document's structure.

Units (see ``indexer.chunking.units``) are put together into chunks that are full but not too full,
and end where a reader would pause. A section starts a new chunk, except that small sections share
one. Where a chunk ends within a section, the next one repeats its last units, so that a passage
across the cut is whole in one of the two. Only units of that section are repeated; the first of
them may hold its heading.

Finally the tokens of each chunk are counted, and the chunk gets its lines, pages and headings.
"""

import re
import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import Final, NamedTuple

from indexer.chunking.omit import ReadDocument, read_document
from indexer.chunking.table_headers import TableHeaders
from indexer.chunking.units import (
    BATCH_CHARS,
    BATCH_TEXTS,
    CHARS_PER_TOKEN,
    Grain,
    Unit,
    count_within,
    cut_units,
    split,
    windows,
)
from retrieval.domain.records import Chunk, ChunkSettings, Document, Section, TokenCounter
from retrieval.errors import InvalidArgument

_SMALL: Final = 4
"""A chunk below a quarter of its tokens would leave most of its room empty: it runs on into the
next section if that fits as a whole."""
_STUB: Final = 8
"""A chunk below an eighth of its tokens says too little on its own: it runs on into the next
section in any case."""
_FULL: Final = 0.75
"""A chunk with this share of its tokens may end early if a paragraph ends there: a clean end is
worth a quarter of a chunk."""

_LINE_WITH_WORDS: Final = re.compile("[^\\W_][^\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]*+")
"""Rest of a line from its first letter or digit on."""
_MAX_HEADING_CHARS: Final = 1_000
"""A longer heading, markup included, is text: bounds the time to look for one."""
_WORD: Final = re.compile("[^\\W_]+")


class _Draft(NamedTuple):
    """A chunk before its tokens are counted, white space around it included."""

    start: int
    end: int
    tokens: int | None
    """Sum of its units' tokens; None if a unit does not begin after white space."""


def chunk_document(
    document: Document, counter: TokenCounter, settings: ChunkSettings
) -> list[Chunk]:
    r"""Cut a document into chunks.

    Chunks are in order. Every chunk is exactly ``document.text[char_start:char_end]``, without
    white space around it, and every character that is neither white space nor left out is in at
    least one chunk. A chunk has at most ``chunk_tokens`` tokens, counted on its own text (a single
    character may have more), and at most ``CHARS_PER_TOKEN * chunk_tokens`` characters. Its heading
    path is that of the section with most of its characters. Lines are counted by ``\n``. Memory in
    addition to the document and the chunks is bounded.

    The ranges in ``document.omitted``, encoded data and long rules are left out: they don't count,
    and a chunk neither begins nor ends with them. ``Chunk.omitted`` says which of its characters
    they are.

    A chunk that begins in a table, below the rows that name its columns, has their names in
    ``table_header``. They are within ``chunk_tokens``: as many as fit into a quarter of it, and
    into what the text leaves if a single row takes more than the rest.

    Args:
        document: the document to cut.
        counter: tokenizer of the model that the chunks are for.
        settings: sizes in tokens. With ``chunk_tokens`` 0 there is one chunk, under the headings
            that all sections share.

    Raises:
        InvalidArgument: a size is negative, or ``chunk_overlap`` more than half of
            ``chunk_tokens``.
    """
    _check(settings)
    read = read_document(document)
    headers = TableHeaders(read.document.tables, counter, settings.chunk_tokens)
    if settings.chunk_tokens:
        units = cut_units(read.document, counter, settings.chunk_tokens)
        drafts = _ChunkBuilder(read.document, counter, settings, headers).build(units)
        counted = _count_drafts(read.document.text, drafts, counter, settings.chunk_tokens)
    else:
        counted = _count_whole(read.document.text, counter)
    if read.ranges:
        counted = _count_parts(read, counted, counter)
    return list(_finish(document, read, counted, headers, settings.chunk_tokens))


def _check(settings: ChunkSettings) -> None:
    if settings.chunk_tokens < 0:
        raise InvalidArgument("chunk_tokens must not be negative", field="chunk_tokens")
    if settings.chunk_overlap < 0:
        raise InvalidArgument("chunk_overlap must not be negative", field="chunk_overlap")
    if settings.chunk_tokens and settings.chunk_overlap > settings.chunk_tokens // 2:
        raise InvalidArgument(
            f"chunk_overlap must be at most half of chunk_tokens ({settings.chunk_tokens // 2})",
            field="chunk_overlap",
        )


def _count_drafts(
    text: str, drafts: Iterable[_Draft], counter: TokenCounter, max_tokens: int
) -> Iterator[tuple[int, int, int]]:
    """Yield (start, end, tokens) of chunks without white space around them.

    Only for some tokenizers do the counts of units add up to those of chunks. A chunk that turns
    out to have too many tokens is halved.
    """
    if counter.adds_up(text):
        for start, end, tokens in drafts:
            left, right = _trim(text, start, end)
            if left == right:
                continue
            if tokens is None:
                yield from _count_again(text, [(left, right)], counter, max_tokens)
            else:
                yield left, right, tokens
        return
    for batch in _batches(_trim(text, start, end) for start, end, _ in drafts):
        yield from _count_again(text, batch, counter, max_tokens)


def _count_again(
    text: str, ranges: list[tuple[int, int]], counter: TokenCounter, max_tokens: int
) -> Iterator[tuple[int, int, int]]:
    """Yield (start, end, tokens) of ranges, halved where they have too many tokens."""
    for start, end, tokens in count_within(text, ranges, counter, max_tokens):
        trimmed = _trim(text, start, end)
        if trimmed == (start, end):
            yield start, end, tokens
        elif trimmed[0] < trimmed[1]:  # a half with white space at the cut
            yield *trimmed, counter.count([text[slice(*trimmed)]])[0]


def _batches(ranges: Iterable[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Group the ranges that are not empty into batches that the tokenizer takes at once."""
    batch: list[tuple[int, int]] = []
    chars = 0
    for start, end in ranges:
        if start == end:
            continue
        if batch and (chars + end - start > BATCH_CHARS or len(batch) == BATCH_TEXTS):
            yield batch
            batch, chars = [], 0
        batch.append((start, end))
        chars += end - start
    if batch:
        yield batch


def _count_whole(text: str, counter: TokenCounter) -> Iterator[tuple[int, int, int]]:
    """Yield (start, end, tokens) of the whole text."""
    start, end = _trim(text, 0, len(text))
    if start < end:
        parts = windows(text, start, end, BATCH_CHARS)
        yield start, end, sum(counter.count([text[left:right]])[0] for left, right in parts)


def _count_parts(
    read: ReadDocument, counted: Iterable[tuple[int, int, int]], counter: TokenCounter
) -> Iterator[tuple[int, int, int]]:
    """Yield (start, end, tokens) of chunks, cut where they would hold too much that is left out."""
    text = read.document.text
    for start, end, tokens in counted:
        parts = [_trim(text, *part) for part in read.parts(start, end)]
        if len(parts) == 1:
            yield start, end, tokens
            continue
        for left, right in parts:
            if left < right:
                yield left, right, counter.count([text[left:right]])[0]


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    """Return a range without the white space at its ends."""
    within = text[start:end]
    start += len(within) - len(within.lstrip())
    return start, max(start, end - (len(within) - len(within.rstrip())))


def _finish(
    document: Document,
    read: ReadDocument,
    counted: Iterable[tuple[int, int, int]],
    headers: TableHeaders,
    chunk_tokens: int,
) -> Iterator[Chunk]:
    """Yield the chunks with their lines, pages, headings and names of columns.

    Args:
        document: the whole document.
        read: the document as it was cut.
        counted: (start, end, tokens) in the text as it was cut.
        headers: of the tables in the text as it was cut.
        chunk_tokens: as in ``ChunkSettings``.
    """
    common = None if chunk_tokens else _common_path(document)
    starts = [section.char_start for section in read.document.sections]
    pages = document.page_starts
    offset, line = 0, 1
    for ordinal, (*cut, tokens) in enumerate(counted):
        start, end = read.whole(*cut) if read.ranges else cut
        if start >= offset:
            line += document.text.count("\n", offset, start)
        else:
            line -= document.text.count("\n", start, offset)
        offset = start
        yield Chunk(
            ordinal=ordinal,
            char_start=start,
            char_end=end,
            text=document.text[start:end],
            line_start=line,
            line_end=line + document.text.count("\n", start, end),
            heading_path=_path(read.document, starts, *cut) if common is None else common,
            token_count=tokens,
            page_start=bisect_right(pages, start),
            page_end=bisect_right(pages, end - 1),
            table_header=headers.within(cut[0], (chunk_tokens or sys.maxsize) - tokens),
            omitted=read.within(start, end) if read.ranges else (),
        )


def _path(document: Document, starts: list[int], start: int, end: int) -> tuple[str, ...]:
    """Return the heading path of the section that most characters of a range lie in."""
    first = bisect_right(starts, start) - 1
    longest, path = 0, document.sections[first].heading_path
    for index in range(first, len(starts)):
        if starts[index] >= end:
            break
        section_end = starts[index + 1] if index + 1 < len(starts) else end
        length = min(end, section_end) - max(start, starts[index])
        if length > longest:
            longest, path = length, document.sections[index].heading_path
    return path


def _common_path(document: Document) -> tuple[str, ...]:
    """Return the headings that all sections share."""
    paths = [section.heading_path for section in document.sections if section.level]
    common = paths[0] if paths else ()
    for path in paths:
        same = takewhile(lambda pair: pair[0] == pair[1], zip(common, path, strict=False))
        common = tuple(step for step, _ in same)
    return common


@dataclass(slots=True)
class _ChunkBuilder:
    """Puts units together; holds the chunk under construction."""

    document: Document
    counter: TokenCounter
    settings: ChunkSettings
    headers: TableHeaders
    units: list[Unit] = field(default_factory=list)
    tokens: int = 0
    room: int = 0
    """Number of tokens that it may have, without the names of columns above it."""
    repeated: int = 0
    """Number of units at the start that repeat the end of the chunk before."""
    mark: int = 0
    """Number of units before a section that must fit as a whole or else move to the next chunk;
    0 if there is no such section."""

    def build(self, units: Iterable[Unit]) -> Iterator[_Draft]:
        """Yield the chunks that units make."""
        done: list[Unit] = []
        for unit in units:
            if self._goes_on(unit):
                self._take(unit)
                continue
            for chunk in self._add(unit):
                if done:
                    yield self._draft(done)
                done = chunk
        if self._joins(done):
            done += self.units
            self.units = []
        if done:
            yield self._draft(done)
        if self.repeated < len(self.units):
            yield self._draft(self.units)

    def _draft(self, units: Sequence[Unit]) -> _Draft:
        text = self.document.text
        before = "".join([text[unit.start - 1] for unit in units[1:]])
        tokens = _total(units) if not before or before.isspace() else None
        return _Draft(units[0].start, units[-1].end, tokens)

    def _goes_on(self, unit: Unit) -> bool:
        """Whether the unit simply continues the chunk, as most do."""
        units = self.units
        return bool(units) and unit.section == units[-1].section and self._fits(unit)

    def _take(self, unit: Unit) -> None:
        if not self.units:
            self.room = self._room(unit.start)
        self.units.append(unit)
        self.tokens += unit.tokens

    def _add(self, unit: Unit) -> Iterator[list[Unit]]:
        """Add a unit to the chunk, after yielding the chunks that end before it."""
        if self.units and unit.section != self.units[-1].section and (done := self._end_section()):
            yield done
        while not self._fits(unit):
            if parts := self._parts_to_add(unit):
                for part in parts:
                    yield from self._add(part)
                return
            if self.repeated == len(self.units):
                self._keep(self.units[1:], self.repeated - 1)
            else:
                yield self._end_chunk(unit)
        self._take(unit)

    def _parts_to_add(self, unit: Unit) -> list[Unit]:
        """Return the parts of a unit that does not fit, if its start is to go into the chunk."""
        if unit.grain is Grain.SENTENCE:
            return self._after_heading(unit)
        if not self.units:
            return self._split(unit)
        stays = unit.kept_whole and not self._is_stub()
        if unit.grain is Grain.PARAGRAPH and (stays or self.mark or self._ends_well()):
            return []
        return self._split(unit)

    def _split(self, unit: Unit) -> list[Unit]:
        return split(self.document, unit, self.counter, self.settings.chunk_tokens)

    def _after_heading(self, unit: Unit) -> list[Unit]:
        """Return the parts of a sentence that does not fit under headings alone, if it has any."""
        if not self.units:
            return []
        room = self.room - self.tokens
        is_heading = unit.start == self.document.sections[unit.section].char_start
        if room < 1 or is_heading or self._end_of_text(len(self.units)):
            return []
        parts = split(self.document, unit, self.counter, room)
        return parts if len(parts) > 1 else []

    def _ends_well(self) -> bool:
        """Whether the chunk is full enough to end here, at the end of a paragraph."""
        enough = self.tokens >= _FULL * self.settings.chunk_tokens
        ends = self.repeated < len(self.units) and self.units[-1].ends_paragraph
        return enough and ends and self._end_of_text(len(self.units)) > 0

    def _fits(self, unit: Unit, after: int = 0) -> bool:
        """Whether the unit fits into the chunk without its first ``after`` units."""
        if self.units and not after:
            max_chars = CHARS_PER_TOKEN * self.settings.chunk_tokens
            tokens = self.tokens + unit.tokens
            return tokens <= self.room and unit.end - self.units[0].start <= max_chars
        if after >= len(self.units):
            # A row that leaves no room for the names of its columns stands without them.
            return unit.grain is Grain.SENTENCE or unit.tokens <= self._room(unit.start)
        tokens = _total(self.units[after:]) + unit.tokens
        return self._within_limits(self.units[after].start, unit.end, tokens)

    def _within_limits(self, start: int, end: int, tokens: int) -> bool:
        max_chars = CHARS_PER_TOKEN * self.settings.chunk_tokens
        return tokens <= self._room(start) and end - start <= max_chars

    def _room(self, start: int) -> int:
        """Return how many tokens a chunk may have that begins at a place."""
        return self.settings.chunk_tokens - self.headers.at(start).tokens

    def _end_section(self) -> list[Unit]:
        """End the chunk with its section and return it; empty if the chunk runs on instead."""
        if self._is_stub():
            self.mark = 0
            return []
        # Headings without text of their own go on to the section below them.
        end = self._end_of_text(len(self.units)) or len(self.units)
        if self.tokens * _SMALL < self.settings.chunk_tokens:
            self.mark = end
            return []
        done = self.units[:end]
        self._keep(self.units[end:], 0)
        return done

    def _end_of_text(self, end: int) -> int:
        """Return after how many of the first ``end`` units there are only headings."""
        while end:
            last = self.units[end - 1]
            section = self.document.sections[last.section]
            has_heading = section.char_start >= self.units[0].start
            if not has_heading or not _is_heading(self.document, section, last.end):
                break
            while end and self.units[end - 1].section == last.section:
                end -= 1
        return end

    def _is_stub(self) -> bool:
        """Whether the chunk is too short to stand alone.

        Stubs are a few words, headings without text, and a short text before the first heading.
        """
        if self.tokens * _STUB < self.settings.chunk_tokens:
            return True
        first, last = self.units[0], self.units[-1]
        section = self.document.sections[first.section]
        if not section.level:
            return first.start == 0 and self.tokens * _SMALL < self.settings.chunk_tokens
        if first.start != section.char_start:
            return False
        # A line without letters or digits is blank, or the rule under a heading.
        headings = last.section - first.section + 1
        lines = _LINE_WITH_WORDS.finditer(self.document.text, first.start, last.end)
        return next(islice(lines, headings, None), None) is None

    def _joins(self, done: list[Unit]) -> bool:
        """Whether the document's last chunk is a stub that fits into the chunk before it."""
        if not done or not self.units or self.repeated or not self._is_stub():
            return False
        tokens = self.tokens + _total(done)
        return self._within_limits(done[0].start, self.units[-1].end, tokens)

    def _end_chunk(self, unit: Unit) -> list[Unit]:
        """End the chunk, because ``unit`` does not fit, and return it; begin the next."""
        units = self.units
        if self.mark:
            done = units[: self.mark]
            self._keep(units[self.mark :], 0)
            return done
        left = len(units) - self._cut_point(unit)
        start = self._overlap_start(len(units) - left, (units[-left:] if left else [unit])[0])
        cut = len(units) - left
        # A whole paragraph that does not fit is split later: its first sentence may fit.
        while start < cut and unit.grain is Grain.SENTENCE and not self._fits(unit, after=start):
            start += 1
        self._keep(units[start:], cut - start)
        return units[:cut]

    def _cut_point(self, unit: Unit) -> int:
        """Return after how many units the chunk ends, now that ``unit`` does not fit."""
        tokens = self.tokens
        for cut in range(len(self.units), self.repeated, -1):
            if tokens < _FULL * self.settings.chunk_tokens or not self._fits(unit, after=cut):
                break
            if self.units[cut - 1].ends_paragraph and self._end_of_text(cut) == cut:
                return cut
            tokens -= self.units[cut - 1].tokens
        end = len(self.units)
        while end and self.headers.names_columns(self.units[end - 1].start):
            end -= 1  # the names of columns go on to the rows
        end = self._end_of_text(end)
        return end if end > self.repeated else len(self.units)

    def _overlap_start(self, cut: int, following: Unit) -> int:
        """Return the index of the first unit that the next chunk repeats.

        Splits the paragraph of which only the end is repeated.

        Args:
            cut: number of units after which this chunk ends.
            following: the unit after that.
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
        if units:
            self.room = self._room(units[0].start)
        self.tokens = _total(units)
        self.repeated = repeated
        self.mark = 0


def _is_heading(document: Document, section: Section, end: int) -> bool:
    """Whether a section holds nothing but its heading up to a place.

    The heading is the section's first line with words, if it has a word of the title. Lines without
    words below it are blank, or the rule under the heading.
    """
    if not section.level or end - section.char_start > _MAX_HEADING_CHARS:
        return False
    line = _LINE_WITH_WORDS.search(document.text, section.char_start, end)
    if line is None:
        return False
    words = _WORD.findall(section.heading_path[-1])
    if words and not any(word in line[0] for word in words):
        return False
    return _LINE_WITH_WORDS.search(document.text, line.end(), end) is None


def _total(units: Sequence[Unit]) -> int:
    return sum([unit.tokens for unit in units])
