r"""Cut a document into units: the pieces, in order and without gaps, that chunks are made of.

A unit is a span (``spans``) that a chunk can hold, with its tokens. What is still longer
than a chunk is cut every quarter of a chunk or so, between words if it has words.

Most sections go into one chunk whole, and so do most paragraphs of the others: they come as one
unit each. ``split`` cuts those that don't.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from indexer.chunking.spans import Grain, Span, cut_spans, parts_of
from retrieval.domain.records import Document, TokenCounter

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
"""A section longer than this, for each token of a chunk, most likely has too many: its paragraphs
are counted at once. Where counts add up another number gives the same chunks; 2 to 5 took the same
time."""


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
    section_chars = min(_SECTION_CHARS_PER_TOKEN * most_tokens, most_chars)
    for span in cut_spans(document, section_chars, most_chars):
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
    return _count(document, list(parts_of(document, Span(*unit[:-1]))), counter, most_tokens)


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
            units += _count(document, list(parts_of(document, span)), counter, most_tokens)
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
