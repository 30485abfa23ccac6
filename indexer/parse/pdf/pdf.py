"""PDF (ISO 32000), read by PDFium: pages, and sections by bookmarks or by the size of type."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final, NamedTuple

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from indexer.parse.base.compose import Composer, clean
from indexer.parse.base.fields import with_lists
from indexer.parse.base.outline import MAX_SECTIONS, Heading, one_line, sections_of, title_of
from indexer.parse.base.titles import is_junk_title
from indexer.parse.pdf.furniture import header_texts, page_furniture
from indexer.parse.pdf.headings import (
    Block,
    Large,
    headings,
    large_lines,
    title_of_page,
    usual_size,
)
from indexer.parse.pdf.lines import Line, read_lines
from indexer.parse.pdf.pdf_text import join_words, page_text, vocabulary
from indexer.parse.pdf.rows import Grid, arrange
from indexer.parse.pdf.typed import Forms, may_have_free_text, open_forms, read_typed, with_typed
from indexer.skip import SkipDocument, SkipReason, parser_errors_as_damage
from retrieval.domain.records import Document

_METADATA: Final = {
    "Author": "author",
    "Subject": "subject",
    "Keywords": "keywords",
    "CreationDate": "date",
}
_DATE: Final = re.compile(r"D:(\d{4})(\d\d)(\d\d)")
_MAX_DEPTH: Final = 15
"""Bookmarks nested deeper are left out, in case they form a loop."""
_NUMBER: Final = (
    r"(?:(?:chapter|section|part|appendix)\s+)?"
    r"(?-i:(?:\d{1,3}|[A-Z]|[IVXL]{1,5})(?:\.\d+)*[.:]?\s+)?"
)
"""Number that may precede a title on the page, but not in the bookmark."""
_LOOK_FOR_CHARS: Final = 60
"""Number of characters of a title to look for; the rest may be broken differently on the page."""


_WORD: Final = re.compile(r"\w+")
_TITLE_WITHIN: Final = 5_000
"""Number of characters at the start of the text that have the words of its title."""
_TITLE_WORDS: Final = 0.6
"""Share of the title's words that must be there. A page may write numbers and dates otherwise; a
title that is left over from a template shares no word with the text."""


class _Mark(NamedTuple):
    """A bookmark, whose place in the text is not known yet."""

    page: int
    level: int
    title: str


@dataclass(slots=True)
class _Content:
    """What is read of a file."""

    may_be_typed_on: bool = False
    """Whether there may be text that isn't part of the pages' own."""
    pages: list[list[Line]] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    """Names of pages that can't be read."""
    scans: list[int] = field(default_factory=list)
    """Numbers of pages, from 0, that are only pictures."""
    marks: list[_Mark] = field(default_factory=list)
    properties: dict[str, str] = field(default_factory=dict)


def parse_pdf(uri: str, data: bytes) -> Document:
    """Make a document of a PDF file.

    The text is that drawn on the pages and typed onto them, with words rejoined that are broken at
    line ends, without page headers and footers. The title is that of the file's properties if the
    first pages have its words; otherwise the largest lines at the top of the first page.

    Raises:
        SkipDocument: the file is damaged, needs a password, or has only pictures of text.
    """
    with parser_errors_as_damage():
        try:
            pdf = pdfium.PdfDocument(data)
        except pdfium.PdfiumError as error:
            if pdfium_c.FPDF_GetLastError() == pdfium_c.FPDF_ERR_PASSWORD:
                raise SkipDocument(SkipReason.ENCRYPTED, "needs a password") from error
            raise
        with pdf:
            content = _read(pdf, data)
    return _Writer(content).document(uri)


def _read(pdf: pdfium.PdfDocument, data: bytes) -> _Content:
    content = _Content()
    with open_forms(pdf) as forms:
        content.may_be_typed_on = forms is not None or may_have_free_text(data)
        for number in range(len(pdf)):
            content.pages.append([])
            try:
                content.pages[-1] = _read_page(pdf, number, forms, content)
            except pdfium.PdfiumError:
                content.unread.append(f"page {number + 1}")
                if len(content.unread) == len(pdf):
                    raise
    if content.scans and not any(content.pages):
        raise SkipDocument(SkipReason.SCANNED, f"{len(pdf)} pages")
    content.unread += (f"page {number + 1}" for number in content.scans)
    content.properties = pdf.get_metadata_dict(skip_empty=True)
    content.marks = list(islice(_bookmarks(pdf), MAX_SECTIONS))
    return content


def _read_page(
    pdf: pdfium.PdfDocument, number: int, forms: Forms | None, content: _Content
) -> list[Line]:
    """Return the lines of a page.

    Raises:
        pdfium.PdfiumError: the page is damaged.
    """
    page = pdf[number]
    try:
        lines = read_lines(page)
        if content.may_be_typed_on and (typed := list(read_typed(page, forms))):
            lines = with_typed(lines, typed)
        if not lines and _has_pictures(page):
            content.scans.append(number)
        return lines
    finally:
        page.close()


def _has_pictures(page: pdfium.PdfPage) -> bool:
    pictures = page.get_objects(filter=[pdfium_c.FPDF_PAGEOBJ_IMAGE], max_depth=3)
    return next(iter(pictures), None) is not None


class _Writer:
    """Puts the text of a file together."""

    def __init__(self, content: _Content) -> None:
        self._content = content
        furniture = page_furniture(content.pages)
        kept = [
            [line for n, line in enumerate(lines) if n not in furniture[page]]
            if page in furniture
            else lines
            for page, lines in enumerate(content.pages)
        ]
        self._headers = header_texts(content.pages, furniture)
        self._pages = [arrange(lines) for lines in kept]
        self._known = vocabulary("\n".join(line.text for line in lines) for lines in kept)
        self._larges = large_lines(self._pages, usual_size(kept))
        self._title = title_of_page(self._larges, self._pages)
        self._composer = Composer()

    def document(self, uri: str) -> Document:
        """Make a document of the text."""
        content, composer = self._content, self._composer
        found = [] if content.marks else headings(self._larges, self._pages, self._title)
        begins = {(large.page, large.start): (level, large) for level, large in found}
        for number, blocks in enumerate(self._pages):
            composer.begin_page()
            self._add_page(number, blocks, begins)
        for part in content.unread:
            composer.unread(part)
        said = with_lists((key, _property(name, content)) for name, key in _METADATA.items())
        without = sum(not lines for lines in content.pages)
        metadata = [
            *said,
            ("page headers", self._headers),
            ("pages without text", without or None),
        ]
        document = composer.document(uri, "pdf", [], metadata)
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
        return one_line(clean(join_words(self._title.text, self._known))) if self._title else ""

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


def _property(name: str, content: _Content) -> str:
    value = content.properties.get(name, "")
    match = _DATE.match(value)
    return "-".join(match.groups()) if match else value


def _bookmarks(pdf: pdfium.PdfDocument) -> Iterator[_Mark]:
    """Yield the bookmarks; one without a target stays on the page of the one before."""
    page = 0
    for bookmark in pdf.get_toc(max_depth=_MAX_DEPTH):
        target = bookmark.get_dest()
        index = target.get_index() if target else None
        page = page if index is None else index
        if title := one_line(clean(bookmark.get_title())):
            yield _Mark(page, bookmark.level + 1, title)


def _locate(document: Document, marks: Sequence[_Mark]) -> Iterator[Heading]:
    """Yield headings with their places; one that isn't found is at the start of its page."""
    text, starts = document.text, document.page_starts
    position = 0
    for mark in sorted(marks, key=lambda mark: mark.page):
        if mark.page >= len(starts):
            continue
        position = max(position, starts[mark.page])
        end = starts[mark.page + 1] if mark.page + 1 < len(starts) else len(text)
        words = map(re.escape, mark.title[:_LOOK_FOR_CHARS].split())
        pattern = rf"^[^\S\n]*{_NUMBER}" + r"\s+".join(words)
        if match := re.compile(pattern, re.IGNORECASE | re.MULTILINE).search(text, position, end):
            position = match.start()
        if position < len(text):
            yield Heading(position, mark.level, mark.title)
