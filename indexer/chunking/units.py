r"""Cut a document into units: pieces of its text, in order and without gaps, to make chunks of.

A unit is a section, a paragraph or a sentence, as large as a chunk can hold. Most sections fit into
one chunk, and so do most paragraphs of the others, so most units are large; ``split`` cuts one of
them where only a part is wanted. A sentence that is longer than a chunk is cut every quarter of a
chunk or so, between words if it has words.

A unit ends, white space after it included,

- where its section ends, at a blank line, or where fenced code begins or ends (a blank line within
  fenced code ends nothing);
- within a paragraph, after a sentence: ``.``, ``!``, ``?`` or ``…`` with the quotes and brackets
  that close it, then white space, then neither a lower-case letter nor a table's bar; not after a
  single letter or a number of one or two digits, so that neither ``e. g. This`` nor ``1. This`` is
  torn; or after ``。``, ``！``, ``？``;
- before a line that is a list item, a table row, a quotation or indented; in code, and in formats
  whose paragraphs don't run over several lines, before any line.

All rules take time linear in the text.
"""

import re
import sys
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Final, NamedTuple

from indexer.parse.formats import FORMAT_OF_KEY
from retrieval.domain.records import Document, TokenCounter

CHARS_PER_TOKEN: Final = 32
"""A chunk holds at most this many characters for each token that it may have: tokenizers make one
token of a word of any length that they don't know. English has 4 to 5 characters a token."""

BATCH_CHARS: Final = 1 << 20
"""Maximum number of characters to give to the tokenizer at once; bounds its memory."""
BATCH_TEXTS: Final = 4096
"""Maximum number of texts to give to the tokenizer at once; bounds its memory."""
_SPANS_CHARS: Final = 50_000
"""Maximum number of characters to ask the tokenizer for the spans of at once: a span takes some
hundred bytes in Python, a count takes none."""
_SECTION_CHARS_PER_TOKEN: Final = 4
"""A section with more characters than this for each token of a chunk most likely has too many
tokens, so its paragraphs are counted at once. For tokenizers whose counts add up, the number does
not change the chunks; 2 to 5 took the same time."""

# Where a pattern begins with a set of characters, the search skips all others at once.
_MAY_END: Final = r"[.!?…。！？｡\n]"
_END_OF_SENTENCE: Final = (
    r"(?<=[.!?…])(?<!\b\w.)(?<!\b\d\d.)[.!?…]*+[)\"'\]»”’*_`]*+\s++(?=[^\sa-z|])"
    r"|(?<=[。！？｡])[。！？｡]*+[」』）”’]*+\s*+"
)
_BEFORE_ITEM: Final = r"(?<=\n)(?=[ \t]*+(?:[-*+•|>]\s|\d{1,3}[.)]\s|\.\.\s)| {4}|\t)"
_PROSE_END: Final = re.compile(rf"{_MAY_END}(?:{_END_OF_SENTENCE}|{_BEFORE_ITEM})")
_LINE_OR_SENTENCE_END: Final = re.compile(rf"{_MAY_END}(?:{_END_OF_SENTENCE}|(?<=\n))")
_LINE_END: Final = re.compile(r"\n")

_WORD: Final = re.compile(r"\S++")
_WORD_CHARS: Final = 64
"""Longest word whose tokens are counted, which takes a fifth of the time of asking for the places
of its tokens. Longer ones most likely have to be cut."""

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
    """What a piece of text is, and so what it can be split into."""

    SECTION = "section"
    """Splits into paragraphs."""
    PARAGRAPH = "paragraph"
    """Splits into sentences, or lines."""
    SENTENCE = "sentence"
    """A sentence, a line, or a part of a long one; split only where its heading needs room."""


class Piece(NamedTuple):
    """A piece of a document's text whose tokens are not counted yet."""

    start: int
    end: int
    section: int
    """Index of the section that the piece lies in."""
    ends_paragraph: bool
    grain: Grain
    is_code: bool
    """Whether the piece is code; always False for sections."""
    kept_whole: bool
    """Whether the piece is code or a table, which a chunk should hold whole if it fits."""


class Unit(NamedTuple):
    """A piece with its number of tokens."""

    start: int
    end: int
    section: int
    ends_paragraph: bool
    grain: Grain
    is_code: bool
    kept_whole: bool
    tokens: int
    """Tokens of the text on its own, without special tokens."""


def cut_units(document: Document, counter: TokenCounter, max_tokens: int) -> Iterator[Unit]:
    """Yield units that tile a document's text.

    Args:
        document: the document to cut.
        counter: tokenizer of the model that the chunks are for.
        max_tokens: maximum number of tokens of a unit; a single character may have more.
    """
    max_chars = min(CHARS_PER_TOKEN * max_tokens, _SPANS_CHARS)
    batch: list[Piece] = []
    chars = 0
    section_chars = min(_SECTION_CHARS_PER_TOKEN * max_tokens, max_chars)
    for piece in _cut_pieces(document, section_chars, max_chars):
        length = piece.end - piece.start
        if batch and (chars + length > BATCH_CHARS or len(batch) == BATCH_TEXTS):
            yield from _count(document, batch, counter, max_tokens)
            batch, chars = [], 0
        if length > max_chars:
            yield from _count(document, batch, counter, max_tokens)
            yield from _cut_long(document.text, piece, counter, max_tokens)
            batch, chars = [], 0
        else:
            batch.append(piece)
            chars += length
    yield from _count(document, batch, counter, max_tokens)


def split(document: Document, unit: Unit, counter: TokenCounter, max_tokens: int) -> list[Unit]:
    """Cut a section into paragraphs, a paragraph into sentences or lines, a sentence anywhere.

    Args:
        document: the document that the unit is of.
        unit: the unit.
        counter: as for ``cut_units``.
        max_tokens: as for ``cut_units``.

    Returns:
        units that tile the unit, of a finer grain unless it is a sentence.
    """
    if unit.grain is Grain.SENTENCE:
        return list(_cut_long(document.text, Piece(*unit[:-1]), counter, max_tokens))
    return _count(document, list(_parts_of(document, Piece(*unit[:-1]))), counter, max_tokens)


def count_within(
    text: str, ranges: list[tuple[int, int]], counter: TokenCounter, max_tokens: int
) -> Iterator[tuple[int, int, int]]:
    """Count the tokens of ranges of a text, and halve ranges until none has too many.

    A single character stays as it is.

    Args:
        text: the text.
        ranges: (start, end) of each, together short enough for one batch of the tokenizer.
        counter: the tokenizer.
        max_tokens: maximum number of tokens of a range.

    Yields:
        (start, end, tokens), in order.
    """
    counts = counter.count([text[start:end] for start, end in ranges])
    for (start, end), tokens in zip(ranges, counts, strict=True):
        if tokens <= max_tokens or end - start == 1:
            yield start, end, tokens
        else:
            half = list(windows(text, start, end, max(1, (end - start) * 2 // 3)))
            yield from count_within(text, half, counter, max_tokens)


def windows(text: str, start: int, end: int, size: int) -> Iterator[tuple[int, int]]:
    """Tile a range of a text with windows of at most ``size`` characters, cut after white space.

    A window without a space or line end in its second half is cut anywhere.
    """
    while end - start > size:
        half = start + size // 2
        cut = 1 + max(text.rfind(" ", half, start + size), text.rfind("\n", half, start + size))
        cut = cut or start + size
        yield start, cut
        start = cut
    if start < end:
        yield start, end


def _count(
    document: Document, pieces: Sequence[Piece], counter: TokenCounter, max_tokens: int
) -> list[Unit]:
    """Return units for pieces, cutting pieces that have too many tokens."""
    text = document.text
    counts = counter.count([text[piece.start : piece.end] for piece in pieces])
    units: list[Unit] = []
    for piece, tokens in zip(pieces, counts, strict=True):
        if tokens <= max_tokens:
            units.append(Unit(*piece, tokens))
        elif piece.grain is not Grain.SENTENCE:
            units += _count(document, list(_parts_of(document, piece)), counter, max_tokens)
        else:
            units += _cut_long(text, piece, counter, max_tokens)
    return units


def _cut_long(text: str, piece: Piece, counter: TokenCounter, max_tokens: int) -> Iterator[Unit]:
    """Yield units for a sentence that is too long for one."""
    for start, end in windows(text, piece.start, piece.end, _SPANS_CHARS):
        cuts = _cut_points(text[start:end], counter, max_tokens)
        ranges = [
            (start + left, start + right) for left, right in zip([0, *cuts], cuts, strict=False)
        ]
        for left, right, tokens in count_within(text, ranges, counter, max_tokens):
            ends_paragraph = piece.ends_paragraph and right == piece.end
            yield Unit(
                left, right, piece.section, ends_paragraph, Grain.SENTENCE, False, False, tokens
            )


def _cut_points(text: str, counter: TokenCounter, max_tokens: int) -> list[int]:
    """Return where the parts of a long text end; the last end is the text's length.

    A part ends before the first word after a quarter of ``max_tokens``; in a run without white
    space, before the token at half.
    """
    soft = max(1, max_tokens // 4)
    hard = min(2 * soft, max_tokens)
    max_chars = CHARS_PER_TOKEN * max_tokens
    cuts = [0]
    count = 0
    for start, end, tokens in _steps(text, counter, hard - soft):
        if start > cuts[-1] and (count >= hard or (count >= soft and text[start - 1].isspace())):
            cuts.append(start)
            count = 0
        cuts += range(cuts[-1] + max_chars, end, max_chars)
        count += tokens
    cuts += range(cuts[-1] + max_chars, len(text), max_chars)
    return [*cuts[1:], len(text)]


def _steps(text: str, counter: TokenCounter, max_tokens: int) -> Iterator[tuple[int, int, int]]:
    """Yield (start, end, tokens) of words, and of the single tokens of longer ones.

    Args:
        text: the text.
        counter: the tokenizer; if counts of words don't add up, only tokens are yielded.
        max_tokens: maximum number of tokens of a word that is yielded as a whole.
    """
    if not counter.adds_up(text):
        yield from ((start, end, 1) for start, end in counter.spans(text))
        return
    words = [match.span() for match in _WORD.finditer(text)]
    short = [text[start:end] for start, end in words if end - start <= _WORD_CHARS]
    counts = iter(counter.count(short))
    for start, end in words:
        tokens = next(counts) if end - start <= _WORD_CHARS else sys.maxsize
        if tokens > max_tokens:
            yield from (
                (start + left, start + right, 1) for left, right in counter.spans(text[start:end])
            )
        elif tokens:
            yield start, end, tokens


def _cut_pieces(document: Document, section_chars: int, paragraph_chars: int) -> Iterator[Piece]:
    """Yield pieces that tile a document's text: sections, and the parts of long ones.

    Args:
        document: the document to cut.
        section_chars: length above which a section is replaced by its paragraphs.
        paragraph_chars: length above which a paragraph is replaced by its sentences.
    """
    starts = [section.char_start for section in document.sections]
    ends = [*starts[1:], len(document.text)]
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        section = Piece(start, end, number, True, Grain.SECTION, False, False)
        if end - start <= section_chars:
            yield section
            continue
        for paragraph in _paragraphs(document, section):
            if paragraph.end - paragraph.start <= paragraph_chars:
                yield paragraph
            else:
                yield from _sentences(document, paragraph)


def _parts_of(document: Document, piece: Piece) -> Iterator[Piece]:
    """Yield the paragraphs of a section, or the sentences of a paragraph."""
    find = _paragraphs if piece.grain is Grain.SECTION else _sentences
    return find(document, piece)


def _paragraphs(document: Document, section: Piece) -> Iterator[Piece]:
    """Yield the paragraphs of a section, and its fenced code."""
    text, number = document.text, section.section
    format_ = FORMAT_OF_KEY[document.format]
    within = section.start, section.end
    fenced = format_.has_fences and any(text.find(mark, *within) >= 0 for mark in _FENCE_MARKS)
    has_tables = text.find("|", *within) >= 0
    find = _split_at_fences if fenced else _split_at_blank_lines
    for start, end, is_fenced in find(text, *within):
        if start == end:
            continue
        is_code = is_fenced or format_.is_code
        is_table = _in_table(document, start) or (
            has_tables and _TABLE.match(text, start, end) is not None
        )
        kept_whole = is_code or is_table
        yield Piece(start, end, number, True, Grain.PARAGRAPH, is_code, kept_whole)


def _sentences(document: Document, paragraph: Piece) -> Iterator[Piece]:
    """Yield the sentences or lines of a paragraph."""
    is_wrapped = FORMAT_OF_KEY[document.format].is_wrapped
    prose_end = _PROSE_END if is_wrapped else _LINE_OR_SENTENCE_END
    start, end, section, _, _, is_code, _ = paragraph
    is_lines = is_code or _in_table(document, start)
    pattern = _LINE_END if is_lines else prose_end
    for match in pattern.finditer(document.text, start, end):
        if match.end() < end:
            # In code, a blank line is as good as the end of a paragraph.
            ends = is_code and document.text[start : match.end()].isspace()
            yield Piece(start, match.end(), section, ends, Grain.SENTENCE, is_code, False)
            start = match.end()
    yield Piece(start, end, section, paragraph.ends_paragraph, Grain.SENTENCE, is_code, False)


def _in_table(document: Document, place: int) -> bool:
    """Whether a place is in a table."""
    if not (tables := document.tables):
        return False
    number = bisect_right(tables, place, key=lambda table: table.char_start)
    return number > 0 and place < tables[number - 1].char_end


def _split_at_blank_lines(text: str, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
    """Yield (start, end, is code) of the paragraphs within a range; blank lines end them."""
    for match in _BREAK.finditer(text, start, end):
        yield start, match.end(), False
        start = match.end()
    yield start, end, False


def _split_at_fences(text: str, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
    """Yield (start, end, is code) of Markdown's paragraphs and its fenced code within a range."""
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
    """Return where the first line after the present one starts that is not blank."""
    match = _LINE_END_AND_BLANK_LINES.match(text, start, end)
    return match.end() if match else start
