"""Cut documents into chunks: passages that fit the model, along the document's structure.

``units`` cuts a document into pieces, ``indexer.chunking.pack`` puts them together; here the
result is counted again, and gets its lines and headings.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import takewhile

from indexer.chunking.pack import Stretch, pack
from indexer.chunking.units import BATCH_CHARS, BATCH_TEXTS, count_within, windows
from retrieval.domain.records import Chunk, ChunkSettings, Document, TokenCounter
from retrieval.errors import InvalidArgument


def chunk_document(
    document: Document, counter: TokenCounter, settings: ChunkSettings
) -> list[Chunk]:
    r"""Cut a document into chunks.

    Every character that is not white space is in at least one chunk, and every chunk is
    ``document.text[char_start:char_end]`` exactly, without white space around it. Chunks are in
    order. A chunk has at most
    ``chunk_tokens`` tokens, counted on its own text (a single character may have more), and at
    most ``CHARS_PER_TOKEN * chunk_tokens`` characters. Its heading path is that of the section
    with most of its characters. Lines are counted by ``\n``. Memory beyond document and chunks is
    bounded.

    Args:
        document: what is cut.
        counter: tokenizer of the model that the chunks are for.
        settings: sizes in tokens. With ``chunk_tokens`` 0 there is one chunk, whose heading path
            is what the sections' have in common.

    Raises:
        InvalidArgument: a size is negative, or ``chunk_overlap`` more than half of
            ``chunk_tokens``.
    """
    _check(settings)
    if settings.chunk_tokens:
        ranges = pack(document, counter, settings)
        counted = _recount(document.text, ranges, counter, settings.chunk_tokens)
    else:
        counted = _count_whole(document.text, counter)
    return list(_finish(document, counted, whole=not settings.chunk_tokens))


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


def _recount(
    text: str, stretches: Iterable[Stretch], counter: TokenCounter, most_tokens: int
) -> Iterator[tuple[int, int, int]]:
    """Yield (start, end, tokens) of chunks without white space around them.

    Counts of units add up to those of chunks for some tokenizers only; where a chunk turns out to
    have too many tokens, it is halved.
    """
    if counter.adds_up(text):
        for start, end, tokens in stretches:
            left, right = _trim(text, start, end)
            if left == right:
                continue
            if tokens is None:
                yield from _count_again(text, [(left, right)], counter, most_tokens)
            else:
                yield left, right, tokens
        return
    for batch in _batches(_trim(text, start, end) for start, end, _ in stretches):
        yield from _count_again(text, batch, counter, most_tokens)


def _count_again(
    text: str, pieces: list[tuple[int, int]], counter: TokenCounter, most_tokens: int
) -> Iterator[tuple[int, int, int]]:
    """Yield (start, end, tokens) of pieces, halved where they have too many tokens."""
    for start, end, tokens in count_within(text, pieces, counter, most_tokens):
        trimmed = _trim(text, start, end)
        if trimmed == (start, end):
            yield start, end, tokens
        elif trimmed[0] < trimmed[1]:  # a half with white space at the cut
            yield *trimmed, counter.count([text[slice(*trimmed)]])[0]


def _batches(ranges: Iterable[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Group stretches that are not empty into batches that the tokenizer may be given."""
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


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    """Leave out the white space around a stretch of text."""
    stretch = text[start:end]
    start += len(stretch) - len(stretch.lstrip())
    return start, max(start, end - (len(stretch) - len(stretch.rstrip())))


def _finish(
    document: Document, counted: Iterable[tuple[int, int, int]], *, whole: bool
) -> Iterator[Chunk]:
    """Yield the chunks, with their lines, pages and headings."""
    starts = [section.char_start for section in document.sections]
    pages = document.page_starts
    offset, line = 0, 1
    for ordinal, (start, end, tokens) in enumerate(counted):
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
            heading_path=_common_path(document) if whole else _path(document, starts, start, end),
            token_count=tokens,
            page_start=bisect_right(pages, start),
            page_end=bisect_right(pages, end - 1),
        )


def _path(document: Document, starts: list[int], start: int, end: int) -> tuple[str, ...]:
    """Return the heading path of the section with most characters of a stretch of text."""
    first = bisect_right(starts, start) - 1
    most, path = 0, document.sections[first].heading_path
    for index in range(first, len(starts)):
        if starts[index] >= end:
            break
        section_end = starts[index + 1] if index + 1 < len(starts) else end
        length = min(end, section_end) - max(start, starts[index])
        if length > most:
            most, path = length, document.sections[index].heading_path
    return path


def _common_path(document: Document) -> tuple[str, ...]:
    """Return the headings that all sections lie under."""
    paths = [section.heading_path for section in document.sections if section.level]
    common = paths[0] if paths else ()
    for path in paths:
        same = takewhile(lambda pair: pair[0] == pair[1], zip(common, path, strict=False))
        common = tuple(step for step, _ in same)
    return common
