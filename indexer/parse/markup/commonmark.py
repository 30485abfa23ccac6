"""What a CommonMark parser, pulldown-cmark, finds in a text: headings, tables, code and HTML."""

import re
from collections.abc import Iterable
from html import unescape
from itertools import accumulate, pairwise
from typing import Any, Final, NamedTuple

from pyromark import Options, events_with_range

from indexer.parse.base.compose import column_names
from indexer.parse.base.outline import MAX_HEADING_CHARS, one_line
from indexer.parse.markup.comments import without_comments

_RAW_CHARS: Final = 4 * MAX_HEADING_CHARS
_ATTRIBUTES: Final = re.compile(r"\s*\{[#.:-][^{}]*\}\s*$")
_HTML_HEADING: Final = re.compile(r"<h([1-6])(?=[\s>])[^>]*+>", re.IGNORECASE)
_HTML_HEADING_END: Final = re.compile(r"</h[1-6]\s*+>", re.IGNORECASE)
_HIDDEN: Final = re.compile(r"\s*+<(?:script|style)(?=[\s>])", re.IGNORECASE)
_TAG: Final = re.compile(r"<[^<>]*+>")
_ALT: Final = re.compile(
    r"""<img\b[^<>]*?\balt\s*+=\s*+(?:"([^"<>]*+)"|'([^'<>]*+)')""", re.IGNORECASE
)


class Found(NamedTuple):
    """What is found, in character offsets."""

    headings: list[tuple[int, int, str]]
    """First character, level and title of each."""
    tables: list[tuple[int, int, int, str]]
    """First character, end, first character below the header, and names of the columns."""
    code: list[tuple[int, int]]
    """Ranges of code, in blocks and in lines, in order."""
    hidden: list[tuple[int, int]]
    """Ranges of scripts and style sheets."""


def find_blocks(text: str, *, code: bool) -> Found:
    """Return the blocks of a text; headings in lists and quotations don't count.

    Args:
        text: the text.
        code: whether to find the ranges of code.
    """
    encoded = text.encode()
    events = events_with_range(text, options=Options.ENABLE_TABLES)
    found = _Reader(encoded, with_code=code).read(events)
    if len(encoded) == len(text):
        return found
    place = _places(encoded, found)
    return Found(
        [(place[start], level, title) for start, level, title in found.headings],
        [(place[one], place[two], place[three], name) for one, two, three, name in found.tables],
        [(place[start], place[end]) for start, end in found.code],
        [(place[start], place[end]) for start, end in found.hidden],
    )


def _places(encoded: bytes, found: Found) -> dict[int, int]:
    """Return the character offset of each byte offset."""
    offsets = sorted(
        {
            0,
            *(start for start, _, _ in found.headings),
            *(offset for *three, _ in found.tables for offset in three),
            *(offset for pair in (*found.code, *found.hidden) for offset in pair),
        }
    )
    lengths = (len(encoded[one:two].decode()) for one, two in pairwise(offsets))
    return dict(zip(offsets, accumulate(lengths, initial=0), strict=True))


_WANTED: Final = frozenset({"CodeBlock", "Heading", "HtmlBlock", "Table", "TableHead"})
"""Blocks that are looked at."""
_WANTED_IN_HEADER: Final = _WANTED | {"TableCell"}


class _Reader:
    """Collects blocks from the parser's events, in byte offsets."""

    def __init__(self, encoded: bytes, *, with_code: bool) -> None:
        self._encoded = encoded
        self._with_code = with_code
        self._found = Found([], [], [], [])
        self._parts: list[str] | None = None
        """Text of the heading or the cell that is being read."""
        self._html_heading: tuple[int, int, list[str]] | None = None
        """Heading in HTML whose text is Markdown: place, level, and texts."""
        self._header: list[str] = []
        self._rows_start = 0

    def read(self, events: Iterable[tuple[Any, Any]]) -> Found:
        depth = 0
        wanted = _WANTED
        takes_text = False  # Most events are texts that are not wanted, and what they are in.
        for event, span in events:  # an event without properties is a text itself
            if "Text" in event:
                if takes_text:
                    self._text(event["Text"])
            elif "Start" in event:
                tag = event["Start"]
                if (tag if tag.__class__ is str else next(iter(tag))) in wanted:
                    self._start(tag, span, depth)
                    wanted = _WANTED_IN_HEADER if tag == "TableHead" else wanted
                    takes_text = self._parts is not None or self._html_heading is not None
                depth += 1
            elif "End" in event:
                depth -= 1
                tag = event["End"]
                if (tag if tag.__class__ is str else next(iter(tag))) in wanted:
                    self._end(tag, span, depth)
                    wanted = _WANTED if tag == "TableHead" else wanted
                    takes_text = self._parts is not None or self._html_heading is not None
            else:
                if self._with_code and "Code" in event:
                    self._found.code.append((span["start"], span["end"]))
                if takes_text:
                    self._text(_words_of(event))
        return self._found

    def _text(self, text: str) -> None:
        if self._parts is not None:
            self._parts.append(text)
        elif self._html_heading is not None:
            self._html_heading[2].append(text)

    def _start(self, tag: Any, span: Any, depth: int) -> None:  # noqa: ANN401  (the parser's own)
        """Begin a block."""
        if tag == "TableCell" or (depth == 0 and "Heading" in tag):
            self._parts = []
        elif tag == "HtmlBlock":
            if depth == 0:
                self._html(span["start"], span["end"])
        elif tag == "TableHead":
            self._header = []
        elif self._with_code and "CodeBlock" in tag:
            self._found.code.append((span["start"], span["end"]))

    def _end(self, tag: Any, span: Any, depth: int) -> None:  # noqa: ANN401  (the same)
        """End a block."""
        if tag == "TableCell":
            self._header.append(" ".join("".join(self._parts or ()).split()))
            self._parts = None
        elif tag == "TableHead":
            # The line below the header marks the columns.
            self._rows_start = self._encoded.find(b"\n", span["end"] + 1) + 1 or span["end"]
        elif tag == "Table":
            end = span["end"]
            rows = min(self._rows_start, end)
            self._found.tables.append((span["start"], end, rows, column_names([self._header])))
            self._rows_start = 0
        elif depth == 0 and self._parts is not None and "Heading" in tag:
            title = _ATTRIBUTES.sub("", "".join(self._parts)[:_RAW_CHARS])
            level = int(tag["Heading"][1:])
            self._found.headings.append((self._line_start(span["start"]), level, one_line(title)))
            self._parts = self._html_heading = None

    def _line_start(self, offset: int) -> int:
        """Return the start of a line if only spaces precede the offset."""
        while offset and self._encoded[offset - 1] == ord(" "):
            offset -= 1
        return offset

    def _html(self, start: int, end: int) -> None:
        """Find headings in a block of HTML; they may hold Markdown, and so other blocks."""
        html = self._encoded[start:end].decode()
        if _HIDDEN.match(html):
            self._found.hidden.append((start, end))
            return
        html = without_comments(html)
        position = 0
        if self._html_heading and (closing := _HTML_HEADING_END.search(html)):
            self._add_html_heading(*self._html_heading, html[: closing.start()])
            position = closing.end()
        while opening := _HTML_HEADING.search(html, position):
            place = start + len(html[: opening.start()].encode())
            closing = _HTML_HEADING_END.search(html, opening.end())
            inner = html[opening.end() : closing.start() if closing else None]
            heading = (self._line_start(place), int(opening[1]), list[str]())
            if closing is None:
                self._html_heading = (*heading[:2], [inner])
                return
            self._add_html_heading(*heading, inner)
            position = closing.end()

    def _add_html_heading(self, start: int, level: int, parts: list[str], last: str) -> None:
        self._html_heading = None
        html = " ".join((*parts, last))[: 4 * _RAW_CHARS]
        title = _TAG.sub(" ", html)
        if not title.strip():
            title = _alternative(html)
        self._found.headings.append((start, level, one_line(unescape(title))))


def _words_of(event: Any) -> str:  # noqa: ANN401  (the parser's own)
    """Return the text of code, of HTML in a line, or of a line break."""
    if isinstance(event, str):
        return " "
    return str(event.get("Code", "")) or _alternative(str(event.get("InlineHtml", "")))


def _alternative(html: str) -> str:
    """Return what stands for the first picture in HTML."""
    match = _ALT.search(html)
    return unescape(match[1] or match[2]) if match else ""
