r"""Where a document's structure says that it may be cut: sections, paragraphs, and what is in them.

A span ends, white space after it included,

- where its section ends, at a blank line, or where fenced code begins or ends (a blank line within
  it ends none);
- within a paragraph, after a sentence: ``.``, ``!``, ``?`` or ``…`` with the quotes and brackets
  that close it, then white space, then neither a lower-case letter nor a table's bar; not after a
  single letter or a number of one or two digits, so that neither ``e. g. This`` nor ``1. This`` is
  torn; or after ``。``, ``！``, ``？``;
- before a line that is a list item, a table row, a quotation or indented; in code, and in formats
  where a line's end is more than the width of the page, before any line.

All rules take time linear in the text.
"""

import re
from collections.abc import Iterator
from enum import Enum
from typing import Final, NamedTuple

from indexer.parse.formats import FORMAT_OF_KEY
from retrieval.domain.records import Document

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
    """What a span is, and so how it is split."""

    SECTION = "section"
    """Into its paragraphs."""
    PARAGRAPH = "paragraph"
    """Into its sentences, or lines."""
    PIECE = "piece"
    """Not at all."""


class Span(NamedTuple):
    """A stretch of a document's text."""

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


def cut_spans(document: Document, section_chars: int, paragraph_chars: int) -> Iterator[Span]:
    """Yield spans that tile a document's text: its sections, and what is in those that are long.

    Args:
        document: what is cut.
        section_chars: longest section that is a span; in place of others come their paragraphs.
        paragraph_chars: longest paragraph that is one; in place of others come their pieces.
    """
    starts = [section.char_start for section in document.sections]
    ends = [*starts[1:], len(document.text)]
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        section = Span(start, end, number, True, Grain.SECTION, False, False)
        if end - start <= section_chars:
            yield section
            continue
        for paragraph in _paragraphs(document, section):
            if paragraph.end - paragraph.start <= paragraph_chars:
                yield paragraph
            else:
                yield from _sentences(document, paragraph)


def parts_of(document: Document, span: Span) -> Iterator[Span]:
    """Yield what a section or a paragraph of the document is made of."""
    find = _paragraphs if span.grain is Grain.SECTION else _sentences
    return find(document, span)


def _paragraphs(document: Document, section: Span) -> Iterator[Span]:
    """Yield the paragraphs of a section, and its fenced code."""
    text, number = document.text, section.section
    format_ = FORMAT_OF_KEY[document.format]
    within = section.start, section.end
    fenced = format_.has_fences and any(text.find(m, *within) >= 0 for m in _FENCE_MARKS)
    has_tables = text.find("|", *within) >= 0
    find = _split_at_fences if fenced else _split_at_blank_lines
    for start, end, is_fenced in find(text, *within):
        if start == end:
            continue
        is_code = is_fenced or format_.is_code
        kept = is_code or (has_tables and _TABLE.match(text, start, end) is not None)
        yield Span(start, end, number, True, Grain.PARAGRAPH, is_code, kept)


def _sentences(document: Document, paragraph: Span) -> Iterator[Span]:
    """Yield the units that lines and punctuation make of a paragraph."""
    is_wrapped = FORMAT_OF_KEY[document.format].is_wrapped
    prose_end = _PROSE_END if is_wrapped else _LINE_OR_SENTENCE_END
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
