"""Put a document together from its pages: text, sections, title and metadata."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from indexer.parse.base.compose import Composer, clean
from indexer.parse.base.fields import with_lists
from indexer.parse.base.outline import Heading, one_line, sections_of, title_of
from indexer.parse.base.titles import is_junk_title
from indexer.parse.pdf.furniture import header_texts, page_furniture
from indexer.parse.pdf.headings import (
    Block,
    Large,
    centred_title,
    headings,
    large_lines,
    title_of_page,
    usual_size,
)
from indexer.parse.pdf.lines import HYPHEN, Line
from indexer.parse.pdf.pdf_text import join_words, page_text, vocabulary
from indexer.parse.pdf.rows import Grid, arrange
from retrieval.domain.records import Document

_METADATA: Final = {
    "Author": "author",
    "Subject": "subject",
    "Keywords": "keywords",
    "CreationDate": "date",
}
_UNSAID: Final = ("anonymous", "unspecified", "untitled", "unknown")
"""What programs write where nobody said anything."""
_DATE: Final = re.compile(r"D:(\d{4})(\d\d)(\d\d)")
_NUMBER: Final = (
    r"(?:(?:chapter|section|part|appendix)\s+)?"
    r"(?-i:(?:\d{1,3}|[A-Z]|[IVXL]{1,5})(?:\.\d+)*[.:]?\s+)?"
)
"""Number that may precede a title on the page, but not in the bookmark."""
_LONGEST_NUMBER: Final = 40
_MOST_TRIES: Final = 20
"""Number of places of a title that are looked at one by one."""
_NUMBERED: Final = re.compile(rf"[^\S\n]*{_NUMBER}", re.IGNORECASE)
_LOOK_FOR_CHARS: Final = 60
"""Number of characters of a title to look for; the rest may be broken differently on the page."""


_WORD: Final = re.compile(r"\w+")
_TITLE_WITHIN: Final = 5_000
"""Number of characters at the start of the text that have the words of its title."""
_TITLE_WORDS: Final = 0.6
"""Share of the title's words that must be there. A page may write numbers and dates otherwise; a
title that is left over from a template shares no word with the text."""


class Mark(NamedTuple):
    """A bookmark, whose place in the text is not known yet."""

    page: int
    level: int
    title: str


@dataclass(slots=True)
class Pages:
    """What is read of a file with pages."""

    lines: list[list[Line]] = field(default_factory=list)
    """Lines of each page, in the order in which they are read."""
    unread: list[int] = field(default_factory=list)
    """Numbers of the pages, from 0, that can't be read."""
    recognized: list[int] = field(default_factory=list)
    """Numbers of the pages, from 0, that are pictures whose text was recognised."""
    unread_parts: list[str] = field(default_factory=list)
    """Names of other parts that can't be read."""
    attachments: list[str] = field(default_factory=list)
    """Names of attached files."""
    marks: list[Mark] = field(default_factory=list)
    properties: dict[str, str] = field(default_factory=dict)

    def document(self, uri: str, format_: str) -> Document:
        """Make a document of the pages.

        Args:
            uri: as in ``Document``.
            format_: as in ``Document``.
        """
        return _Writer(self).document(uri, format_)


def _names(numbers: Sequence[int]) -> list[str]:
    """Return the names of pages for people."""
    return [f"page {number + 1}" for number in numbers]


class _Writer:
    """Puts the text of a file together."""

    def __init__(self, content: Pages) -> None:
        self._content = content
        furniture = page_furniture(content.lines)
        kept = [
            [line for n, line in enumerate(lines) if n not in furniture[page]]
            if page in furniture
            else lines
            for page, lines in enumerate(content.lines)
        ]
        self._headers = header_texts(content.lines, furniture)
        self._pages = [arrange(lines) for lines in kept]
        # Most word processors break no words, and then their count is of no use.
        texts = ["\n".join(line.text for line in lines) for lines in kept]
        is_broken = any(HYPHEN in text for text in texts)
        self._known = vocabulary(texts) if is_broken else Counter[str]()
        self._larges = large_lines(self._pages, usual_size(kept))
        self._title = title_of_page(self._larges, self._pages)
        self._composer = Composer()

    def document(self, uri: str, format_: str) -> Document:
        """Make a document of the text."""
        content, composer = self._content, self._composer
        found = [] if content.marks else headings(self._larges, self._pages, self._title)
        begins = {(large.page, large.start): (level, large) for level, large in found}
        for number, blocks in enumerate(self._pages):
            composer.begin_page()
            self._add_page(number, blocks, begins)
        for part in (*_names(sorted(content.unread)), *content.unread_parts):
            composer.unread(part)
        said = with_lists((key, _property(name, content)) for name, key in _METADATA.items())
        unread = set(content.unread)
        without = sum(not lines and n not in unread for n, lines in enumerate(content.lines))
        metadata = [
            *said,
            ("attachments", content.attachments),
            ("recognized", _names(content.recognized)),
            ("page headers", self._headers),
            ("pages without text", without or None),
        ]
        document = composer.document(uri, format_, [], metadata)
        if content.marks:
            document = replace(
                document, sections=sections_of(list(_locate(document, content.marks)))
            )
        return replace(document, title=title_of(uri, self._named(document), self._drawn()))

    def _add_page(
        self, page: int, blocks: Sequence[Block], begins: dict[tuple[int, int], tuple[int, Large]]
    ) -> None:
        """Add the blocks of a page: its headings and tables, and the text between them."""
        text: list[Line] = []
        skip = 0
        for number, block in enumerate(blocks):
            if number < skip:
                continue
            heading = begins.get((page, number))
            if isinstance(block, Line) and heading is None:
                text.append(block)
                continue
            self._add_text(text)
            text = []
            if heading is not None:
                level, large = heading
                self._composer.add_heading(level, join_words(large.text, self._known))
                skip = large.end
            elif isinstance(block, Grid):
                self._composer.add_table(block.rows, block.header_rows)
        self._add_text(text)

    def _add_text(self, lines: Sequence[Line]) -> None:
        if lines:
            self._composer.add(join_words(page_text(lines), self._known))

    def _drawn(self) -> str:
        """Return the title that is drawn on the first page."""
        text = self._title.text if self._title else ""
        if not self._larges:
            text = centred_title(self._pages)
        return one_line(clean(join_words(text, self._known)))

    def _named(self, document: Document) -> str:
        """Return the title in the properties if it is one that people wrote for this text."""
        title = clean(self._content.properties.get("Title", ""))
        if is_junk_title(title):
            return ""
        if self._title is None:
            return title
        start = document.text[:_TITLE_WITHIN].lower()
        parts = [part for part in _WORD.findall(title.lower()) if len(part) > 1]
        there = sum(part in start for part in parts)
        return title if there >= _TITLE_WORDS * len(parts) else ""


def _property(name: str, content: Pages) -> str:
    value = content.properties.get(name, "")
    if value.strip("()").lower() in _UNSAID:
        return ""
    match = _DATE.match(value)
    return "-".join(match.groups()) if match else value


def _locate(document: Document, marks: Sequence[Mark]) -> Iterator[Heading]:
    """Yield headings with their places; one that isn't found is at the start of its page."""
    text, starts = document.text, document.page_starts
    position = 0
    for mark in sorted(marks, key=lambda mark: mark.page):
        if mark.page >= len(starts):
            continue
        position = max(position, starts[mark.page])
        end = starts[mark.page + 1] if mark.page + 1 < len(starts) else len(text)
        place = _line_of(text, mark.title, position, end)
        if place is None:
            words = map(re.escape, mark.title[:_LOOK_FOR_CHARS].split())
            pattern = rf"^[^\S\n]*{_NUMBER}" + r"\s+".join(words)
            found = re.compile(pattern, re.IGNORECASE | re.MULTILINE).search(text, position, end)
            place = found.start() if found else None
        if place is not None:
            position = place
        if position < len(text):
            yield Heading(position, mark.level, mark.title)


def _line_of(text: str, title: str, start: int, end: int) -> int | None:
    """Return the start of the line that a title is on, spelt alike; None if there is none.

    Most titles are found so, in a tenth of the time of compiling a pattern for each.
    """
    place = text.find(title, start, end)
    for _ in range(_MOST_TRIES):
        if place < 0:
            break
        before = max(start, place - _LONGEST_NUMBER)
        line = text.rfind("\n", before, place) + 1
        if (line or before == start) and _NUMBERED.fullmatch(text, line or start, place):
            return line or start
        place = text.find(title, place + 1, end)
    return None
