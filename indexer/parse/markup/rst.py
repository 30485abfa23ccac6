"""reStructuredText: the text is the source itself; adornments mark the section titles.

Titles follow the docutils specification (underlines, overlines, levels in order of appearance). The
rest is not parsed: the content of directives and literal blocks is indented, and an indented line
is not a title.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from indexer.decoding.decode import decode
from indexer.parse.base.fields import bounded_metadata, with_lists
from indexer.parse.base.outline import (
    MAX_HEADING_CHARS,
    Heading,
    one_line,
    sections_of,
    title_of,
    usable,
)
from indexer.parse.markup.rst_tables import find_tables
from retrieval.domain.metadata import flat_texts
from retrieval.domain.records import Document

_TWO_MARKS: Final = r"([!-/:-@\[-`{-~])\1"
_ADORNMENT: Final = re.compile(rf"{_TWO_MARKS}\1*(?=[ \t]*\r?$)", re.MULTILINE)
_BEFORE_ADORNMENT: Final = re.compile(rf"\n(?={_TWO_MARKS})")
_LEAST_ADORNMENT: Final = 4
"""An adornment this long may be shorter than its title: docutils only warns."""

# Starts of lines that are not titles: comments and directives, anonymous targets, fields, bullets,
# line blocks, doctests.
_NO_TITLE: Final = re.compile(r"\.\.(?:\s|$)|__\s|:[^:`\s][^:`]*:(?:\s|$)|[-*+•|]\s|>>>\s")

_INLINE: Final = re.compile(
    r"``(?P<literal>.+?)``"
    r"|(?::[\w:+.-]+:)?`[!~]?(?P<text>[^`]+?)(?:\s*<[^<>`]*>)?`_{0,2}"
    r"|(?<!\w)\*\*(?P<strong>\S.*?)(?<=\S)\*\*(?!\w)"
    r"|(?<!\w)\*(?P<emphasis>\S.*?)(?<=\S)\*(?!\w)"
    r"|\\(?P<escaped>.)"
)

_COMMENT: Final = re.compile(
    r"\n\.\.(?:[ \t]*+\r?\n(?=[ \t])"
    r"|[ \t]++(?!\[|_|\||[^\s:]+(?:[:+.][^\s:]+)*+::)[^\n]*+)"
)
"""First line of a comment: it is no directive, target, footnote or substitution."""
_NOT_INDENTED: Final = re.compile(r"\n(?=[^\s])")
_FIELD: Final = re.compile(r":([A-Za-z][\w -]*):(?:[ \t]+(.*))?$")
_HEADER: Final = re.compile(r"([A-Z][\w-]*):(?:[ \t]+(.*))?$")
_LEAST_HEADERS: Final = 2
"""One line with a colon is prose; two are a block of headers."""
_MAX_HEADER_CHARS: Final = 16_000
"""Number of characters to look for headers in: those of enhancement proposals have about 1,000."""


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of the text, without its end."""

    start: int
    end: int

    def above(self, text: str) -> "_Line | None":
        """Return the line before this one; None at the start of the text."""
        if self.start == 0:
            return None
        return _Line(text.rfind("\n", 0, self.start - 1) + 1, self.start - 1)


def parse_rst(uri: str, data: bytes, encoding: str = "") -> Document:
    """Make a document of a reStructuredText file.

    The title is that of a block of headers at the top (``Title: ...``, as in Python's enhancement
    proposals), that of the first section, or the file's name, in this order. The headers, or a
    field list at the top, become metadata.

    Raises:
        SkipDocument: the data is binary.
    """
    text, encoding = decode(data, encoding)
    headings = usable(_headings(text))
    first = headings[0].char_start if headings else len(text)
    headers = _headers(text[: min(first, _MAX_HEADER_CHARS)])
    metadata = bounded_metadata(with_lists(headers))
    return Document(
        uri=uri,
        title=title_of(
            uri,
            _plain(flat_texts(metadata).get("title", "")),
            *(heading.title for heading in headings[:1]),
        ),
        format="rst",
        text=text,
        sections=sections_of(headings),
        encoding=encoding,
        metadata=metadata,
        tables=tuple(find_tables(text)),
        omitted=tuple(_comments(text)),
    )


def _comments(text: str) -> Iterator[tuple[int, int]]:
    """Yield the ranges of the comments: ``..`` that begins nothing else, and what is indented."""
    shift = 0
    if text.startswith(".."):  # a search for line ends is many times as fast as one for line starts
        text, shift = "\n" + text, 1
    for start in _COMMENT.finditer(text):
        end = _NOT_INDENTED.search(text, start.end())
        yield start.start() + 1 - shift, (end.start() + 1 if end else len(text)) - shift


def _headings(text: str) -> Iterator[Heading]:
    """Yield section titles; look only at adornments and the two lines above each."""
    styles: list[tuple[str, bool]] = []
    last_underline = -1
    previous: re.Match[str] | None = None
    for adornment in _adornments(text):
        overline = previous if previous and previous.start() != last_underline else None
        found = _title_above(text, adornment, overline, last_underline)
        previous = adornment
        if found is None:
            continue
        start, title, overlined = found
        last_underline = adornment.start()
        style = (adornment[1], overlined)
        if style not in styles:
            styles.append(style)
        yield Heading(start, styles.index(style) + 1, _plain(title))


def _adornments(text: str) -> Iterator[re.Match[str]]:
    """Yield the lines that consist of one repeated punctuation mark."""
    if first := _ADORNMENT.match(text):
        yield first
    # A search for line ends is many times as fast as one for line starts.
    for line_end in _BEFORE_ADORNMENT.finditer(text):
        if adornment := _ADORNMENT.match(text, line_end.end()):
            yield adornment


def _title_above(
    text: str, underline: re.Match[str], overline: re.Match[str] | None, last_underline: int
) -> tuple[int, str, bool] | None:
    """Return where the title above an adornment starts, its text, and whether it is overlined.

    Args:
        text: the document's text.
        underline: the adornment.
        overline: the adornment before it, if it may be an overline.
        last_underline: offset of the last underline that belongs to a title; -1 if there is none.
    """
    line = _Line(underline.start(), underline.end()).above(text)
    if line is None:
        return None
    title = text[line.start : line.end].rstrip()
    length = underline.end() - underline.start()
    long_enough = length >= min(len(title.lstrip()), _LEAST_ADORNMENT)
    if not title or not long_enough or _ADORNMENT.fullmatch(title):
        return None
    above = line.above(text)
    if overline and above and above.start == overline.start():
        matches = overline[0] == underline[0]
        return (overline.start(), title.strip(), True) if matches else None
    if title[0].isspace() or _NO_TITLE.match(title):
        return None
    if above and above.start != last_underline and not _ends_block(text, above):
        return None
    return line.start, title, False


def _ends_block(text: str, line: _Line) -> bool:
    """Whether a line may stand right above a section title without being part of it."""
    first = text[line.start : line.start + 3]
    return not first.strip() or first[0].isspace() or first.startswith((".. ", "__ "))


def _plain(title: str) -> str:
    """Return a title without inline markup."""
    return one_line(
        _INLINE.sub(lambda match: match[match.lastgroup or 0], title[: 4 * MAX_HEADING_CHARS])
    )


def _headers(top: str) -> Iterator[tuple[str, str]]:
    """Yield the fields or headers at the start of the text before the first section."""
    lines = top.strip().split("\n")
    pattern = _FIELD if lines[0].startswith(":") else _HEADER
    pairs: list[tuple[str, str]] = []
    for line in lines:
        if match := pattern.match(line.rstrip()):
            pairs.append((match[1], match[2] or ""))
        elif pairs and line[:1].isspace() and line.strip():
            key, value = pairs[-1]
            pairs[-1] = (key, f"{value} {line.strip()}")
        else:
            break
    if pattern is _FIELD or len(pairs) >= _LEAST_HEADERS:
        yield from pairs
