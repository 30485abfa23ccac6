r"""Cut a document into units: the small pieces, in order and without gaps, that chunks are made of.

A unit ends, white space after it included,

- where its section ends, at a blank line, or where fenced code begins or ends (a blank line within
  it ends none);
- within a paragraph, after a sentence: ``.``, ``!``, ``?`` or ``…`` with the quotes and brackets
  that close it, then white space, then neither a lower-case letter nor a
  table's bar; not after a single letter or a
  number of one or two digits, so that neither ``e. g. This`` nor ``1. This`` is torn; or after
  ``。``, ``！``, ``？``;
- before a line that is a list item, a table row, a quotation or indented; in code, and in formats
  where a line's end is more than the width of the page, before any line;
- in what is still longer than a chunk, every quarter of a chunk or so, between words if it has
  words.

All rules take time linear in the text.

Most sections go into one chunk whole, and so do most paragraphs of the others: they come as one
unit each. ``split`` cuts those that don't.
"""

import re
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Final, NamedTuple

from retrieval.records import Document, TokenCounter

CHARS_PER_TOKEN: Final = 32
"""A chunk holds at most this many characters for each token that it may have: tokenizers make one
token of a word of any length that they don't know."""

BATCH_CHARS: Final = 1 << 20
"""Most characters given to the tokenizer at once."""
BATCH_TEXTS: Final = 4096
"""Most texts given to the tokenizer at once."""
_SPANS_CHARS: Final = 50_000
"""Most characters that the tokenizer is asked the spans of at once."""
_SECTION_CHARS_PER_TOKEN: Final = 4
"""A section longer than this, for each token of a chunk, is taken to have too many tokens: its
paragraphs are counted at once. Of English prose, four characters and a half are a token."""

# Where a pattern begins with a set of characters, the search passes over all others at once.
_MAY_END: Final = r"[.!?…。！？｡\n]"
_END_OF_SENTENCE: Final = (
    r"(?<=[.!?…])(?<!\b\w.)(?<!\b\d\d.)[.!?…]*+[)\"'\]»”’*_`]*+\s++(?=[^\sa-z|])"
    r"|(?<=[。！？｡])[。！？｡]*+[」』）”’]*+\s*+"
)
_BEFORE_ITEM: Final = r"(?<=\n)(?=[ \t]*+(?:[-*+•|>]\s|\d{1,3}[.)]\s|\.\.\s)| {4}|\t)"
_PROSE_END: Final = re.compile(rf"{_MAY_END}(?:{_END_OF_SENTENCE}|{_BEFORE_ITEM})")
_LINE_OR_SENTENCE_END: Final = re.compile(rf"{_MAY_END}(?:{_END_OF_SENTENCE}|(?<=\n))")
_LINE_END: Final = re.compile(r"\n")

_FENCED: Final = frozenset({"markdown", "notebook"})
"""Formats with fenced code."""
_HARD_WRAPPED: Final = frozenset({"asciidoc", "mail", "markdown", "notebook", "pdf", "rst", "text"})
"""Formats whose paragraphs have many lines."""

_BLANK_LINE: Final = r"(?:[^\S\n]*+\n)"
_BLANK_END: Final = r"(?:[^\S\n]*+\Z)?"
_BLANK_LINES: Final = rf"\n{_BLANK_LINE}++{_BLANK_END}"
_LINE_END_AND_BLANK_LINES: Final = re.compile(rf"\n{_BLANK_LINE}*+{_BLANK_END}")
_FENCE: Final = r"^[ \t]*+(?P<fence>`{3,}+|~{3,}+)[^\n]*+"
_BREAK: Final = re.compile(_BLANK_LINES)
_BREAK_OR_FENCE: Final = re.compile(f"{_BLANK_LINES}|{_FENCE}", re.MULTILINE)
_FENCE_MARKS: Final = ("```", "~~~")
_TABLE: Final = re.compile(r"[^\n|]*+\|[^\n]*+\n[^\n|]*+\|")
"""Two lines with bars in them."""


class Grain(Enum):
    """What a unit is, and so how it is split."""

    SECTION = "section"
    """Into its paragraphs."""
    PARAGRAPH = "paragraph"
    """Into its sentences, or lines."""
    PIECE = "piece"
    """Not at all."""


class Span(NamedTuple):
    """A stretch of a document's text that is to be a unit."""

    start: int
    end: int
    section: int
    """Index of the section that it lies in."""
    ends_paragraph: bool
    grain: Grain
    is_code: bool
    """Not said of sections."""
    kept: bool
    """Whether it is code or a table, that is to stay whole where it fits into a chunk."""


class Unit(NamedTuple):
    """A span whose tokens are counted: its fields, and how many tokens it has."""

    start: int
    end: int
    section: int
    ends_paragraph: bool
    grain: Grain
    is_code: bool
    kept: bool
    tokens: int
    """Tokens of the text under the tokenizer, special tokens not counted."""


def cut_units(document: Document, counter: TokenCounter, most_tokens: int) -> Iterator[Unit]:
    """Yield units that tile a document's text.

    Args:
        document: what is cut.
        counter: tokenizer of the model that the chunks are for.
        most_tokens: tokens that no unit has more of, unless it is a single character.
    """
    most_chars = min(CHARS_PER_TOKEN * most_tokens, _SPANS_CHARS)
    batch: list[Span] = []
    chars = 0
    for span in _spans(document, most_tokens, most_chars):
        length = span.end - span.start
        if batch and (chars + length > BATCH_CHARS or len(batch) == BATCH_TEXTS):
            yield from _count(document, batch, counter, most_tokens)
            batch, chars = [], 0
        if length > most_chars:
            yield from _count(document, batch, counter, most_tokens)
            yield from _cut_long(document.text, span, counter, most_tokens)
            batch, chars = [], 0
        else:
            batch.append(span)
            chars += length
    yield from _count(document, batch, counter, most_tokens)


def split(document: Document, unit: Unit, counter: TokenCounter, most_tokens: int) -> list[Unit]:
    """Cut a section into its paragraphs, or a paragraph into its sentences or lines.

    Args:
        document: what the unit is of.
        unit: one that is no ``PIECE``.
        counter: as for ``cut_units``.
        most_tokens: as for ``cut_units``.

    Returns:
        units of a finer grain that tile it.
    """
    return _count(document, list(_parts(document, Span(*unit[:-1]))), counter, most_tokens)


def windows(text: str, start: int, end: int, size: int) -> Iterator[tuple[int, int]]:
    """Tile a stretch of a text with pieces of at most ``size`` characters, cut after white space.

    Where there is no space or line end in the last half of a piece, it is cut anywhere.
    """
    while end - start > size:
        half = start + size // 2
        cut = 1 + max(text.rfind(" ", half, start + size), text.rfind("\n", half, start + size))
        cut = cut or start + size
        yield start, cut
        start = cut
    if start < end:
        yield start, end


def _spans(document: Document, most_tokens: int, most_chars: int) -> Iterator[Span]:
    """Yield the sections; in place of those that are long their paragraphs, and so on."""
    starts = [section.char_start for section in document.sections]
    ends = [*starts[1:], len(document.text)]
    section_chars = min(_SECTION_CHARS_PER_TOKEN * most_tokens, most_chars)
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        section = Span(start, end, number, True, Grain.SECTION, False, False)
        if end - start <= section_chars:
            yield section
            continue
        for paragraph in _paragraphs(document, section):
            if paragraph.end - paragraph.start <= most_chars:
                yield paragraph
            else:
                yield from _sentences(document, paragraph)


def _parts(document: Document, span: Span) -> Iterator[Span]:
    """Yield what a section or a paragraph is made of."""
    parts = _paragraphs if span.grain is Grain.SECTION else _sentences
    return parts(document, span)


def _paragraphs(document: Document, section: Span) -> Iterator[Span]:
    """Yield the paragraphs of a section, and its fenced code."""
    text, all_code, number = document.text, document.format == "code", section.section
    within = section.start, section.end
    fenced = document.format in _FENCED and any(text.find(m, *within) >= 0 for m in _FENCE_MARKS)
    has_tables = text.find("|", *within) >= 0
    find = _split_at_fences if fenced else _split_at_blank_lines
    for start, end, is_fenced in find(text, *within):
        if start == end:
            continue
        is_code = is_fenced or all_code
        kept = is_code or (has_tables and _TABLE.match(text, start, end) is not None)
        yield Span(start, end, number, True, Grain.PARAGRAPH, is_code, kept)


def _sentences(document: Document, paragraph: Span) -> Iterator[Span]:
    """Yield the units that lines and punctuation make of a paragraph."""
    prose_end = _PROSE_END if document.format in _HARD_WRAPPED else _LINE_OR_SENTENCE_END
    start, end, section, _, _, is_code, _ = paragraph
    pattern = _LINE_END if is_code else prose_end
    for match in pattern.finditer(document.text, start, end):
        if match.end() < end:
            # In code, a blank line is as good as the end of a paragraph.
            ends = is_code and document.text[start : match.end()].isspace()
            yield Span(start, match.end(), section, ends, Grain.PIECE, is_code, False)
            start = match.end()
    yield Span(start, end, section, paragraph.ends_paragraph, Grain.PIECE, is_code, False)


def _split_at_blank_lines(text: str, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
    """Yield (start, end, is code) of the paragraphs in a stretch; blank lines end them."""
    for match in _BREAK.finditer(text, start, end):
        yield start, match.end(), False
        start = match.end()
    yield start, end, False


def _split_at_fences(text: str, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
    """Yield (start, end, is code) of Markdown's paragraphs and of its fenced code."""
    fence = ""
    position = start
    while match := _BREAK_OR_FENCE.search(text, position, end):
        marker = match["fence"]
        position = match.end()
        if not marker:
            if not fence:
                yield start, position, False
                start = position
        elif not fence:
            if start < match.start():
                yield start, match.start(), False
            start, fence = match.start(), marker
        elif marker.startswith(fence) and match[0].strip() == marker:
            position = _end_of_blank_lines(text, position, end)
            yield start, position, True
            start = position
            fence = ""
    yield start, end, bool(fence)


def _end_of_blank_lines(text: str, start: int, end: int) -> int:
    """Return where the line after this one starts, and after those that are blank."""
    match = _LINE_END_AND_BLANK_LINES.match(text, start, end)
    return match.end() if match else start


def _count(
    document: Document, spans: Sequence[Span], counter: TokenCounter, most_tokens: int
) -> list[Unit]:
    """Return units for spans, cut where they have too many tokens."""
    text = document.text
    counts = counter.count([text[span.start : span.end] for span in spans])
    units: list[Unit] = []
    for span, tokens in zip(spans, counts, strict=True):
        if tokens <= most_tokens:
            units.append(Unit(*span, tokens))
        elif span.grain is not Grain.PIECE:
            units += _count(document, list(_parts(document, span)), counter, most_tokens)
        else:
            units += _cut_long(text, span, counter, most_tokens)
    return units


def _cut_long(text: str, span: Span, counter: TokenCounter, most_tokens: int) -> Iterator[Unit]:
    """Yield units for a span that is too long for one."""
    for start, end in windows(text, span.start, span.end, _SPANS_CHARS):
        cuts = _cut_points(text[start:end], counter.spans(text[start:end]), most_tokens)
        pieces = [
            (start + left, start + right) for left, right in zip([0, *cuts], cuts, strict=False)
        ]
        for left, right, tokens in count_within(text, pieces, counter, most_tokens):
            ends_paragraph = span.ends_paragraph and right == span.end
            yield Unit(left, right, span.section, ends_paragraph, Grain.PIECE, False, False, tokens)


def _cut_points(text: str, tokens: list[tuple[int, int]], most_tokens: int) -> list[int]:
    """Return the ends of the pieces of a text; the last is its length.

    A piece ends before the first word after a quarter of ``most_tokens``; in a run without white
    space, before the token at half.
    """
    soft = max(1, most_tokens // 4)
    hard = min(2 * soft, most_tokens)
    most_chars = CHARS_PER_TOKEN * most_tokens
    cuts = [0]
    count = 0
    for start, end in tokens:
        if start > cuts[-1] and (count >= hard or (count >= soft and text[start - 1].isspace())):
            cuts.append(start)
            count = 0
        cuts += range(cuts[-1] + most_chars, end, most_chars)
        count += 1
    cuts += range(cuts[-1] + most_chars, len(text), most_chars)
    return [*cuts[1:], len(text)]


def count_within(
    text: str, pieces: list[tuple[int, int]], counter: TokenCounter, most_tokens: int
) -> Iterator[tuple[int, int, int]]:
    """Count pieces of a text, and halve those with too many tokens until none has.

    A single character stays as it is.

    Args:
        text: what the pieces are of.
        pieces: (start, end) of each; together of a size that the tokenizer may be given at once.
        counter: the tokenizer.
        most_tokens: what a piece may have.

    Yields:
        (start, end, tokens), in order.
    """
    counts = counter.count([text[start:end] for start, end in pieces])
    for (start, end), tokens in zip(pieces, counts, strict=True):
        if tokens <= most_tokens or end - start == 1:
            yield start, end, tokens
        else:
            half = list(windows(text, start, end, max(1, (end - start) * 2 // 3)))
            yield from count_within(text, half, counter, most_tokens)
