"""PDF (ISO 32000), read by PDFium: pages, and sections by bookmarks or by the size of type."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Final, NamedTuple

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from indexer.parse.base.compose import Composer, clean
from indexer.parse.base.fields import with_lists
from indexer.parse.base.outline import MAX_SECTIONS, Heading, one_line, sections_of, title_of
from indexer.parse.pdf.pdf_text import Line, join_words, page_text, read_lines, vocabulary
from indexer.skip import SkipDocument, SkipReason, parser_errors_as_damage
from retrieval.domain.records import Document

_METADATA: Final = {
    "Author": "author",
    "Subject": "subject",
    "Keywords": "keywords",
    "CreationDate": "date",
}
_DATE: Final = re.compile(r"D:(\d{4})(\d\d)(\d\d)")
_JUNK_TITLE: Final = re.compile(
    r"(?:microsoft (?:word|powerpoint)|untitled|enscript output|powerpoint presentation)\b.*"
    r"|.*\.(?:docx?|dvi|html?|indd|odt|pdf|pptx?|ps|qxd|rtf|tex|txt|xlsx?)",
    re.IGNORECASE,
)
"""Titles that a program set, and file names."""
_MAX_DEPTH: Final = 15
"""Bookmarks nested deeper are left out, in case they form a loop."""
_NUMBER: Final = (
    r"(?:(?:chapter|section|part|appendix)\s+)?"
    r"(?-i:(?:\d{1,3}|[A-Z]|[IVXL]{1,5})(?:\.\d+)*[.:]?\s+)?"
)
"""Number that may precede a title on the page, but not in the bookmark."""
_LOOK_FOR_CHARS: Final = 60
"""Number of characters of a title to look for; the rest may be broken differently on the page."""
_LARGER: Final = 1.15
"""Without bookmarks, a line is a heading if its type is this many times as large as the text's."""
_MAX_HEADING: Final = 150
"""Longer lines in large type, in characters, are taken for text."""
_MAX_HEADING_SHARE: Final = 0.2
"""If more of the text than this is in large type, it is a poster and has no headings."""
_MAX_LEVELS: Final = 4
"""Smaller sizes of type all make the last level: they differ by layout, not by rank."""


class _Mark(NamedTuple):
    """A heading whose place in the text is not known yet."""

    page: int
    level: int
    title: str
    on_line: bool
    """Whether the title is a line of the page; a bookmark may be worded differently there."""


def parse_pdf(uri: str, data: bytes) -> Document:
    """Make a document of a PDF file.

    The text is that drawn on the pages, with words rejoined that are broken at line ends. The
    title is that of the file's properties, or the first heading.

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
            pages = [read_lines(page) for page in _pages(pdf)]
            if not any(pages):
                _refuse_scan(pdf)
            properties = pdf.get_metadata_dict(skip_empty=True)
            marks = list(islice(_bookmarks(pdf), MAX_SECTIONS)) or _large_lines(pages)
    document = _compose(uri, pages, properties)
    headings = list(_locate(document, marks))
    title = _title(properties.get("Title", ""))
    title = title_of(uri, title, *(mark.title for mark in marks[:1]))
    return replace(document, title=title, sections=sections_of(headings))


def _pages(pdf: pdfium.PdfDocument) -> Iterator[pdfium.PdfPage]:
    """Yield the pages, one open at a time."""
    for number in range(len(pdf)):
        page = pdf[number]
        try:
            yield page
        finally:
            page.close()


def _refuse_scan(pdf: pdfium.PdfDocument) -> None:
    """Refuse a document without text that has pictures, most likely scans.

    Raises:
        SkipDocument: it has pictures.
    """
    for page in _pages(pdf):
        pictures = page.get_objects(filter=[pdfium_c.FPDF_PAGEOBJ_IMAGE], max_depth=3)
        if next(iter(pictures), None) is not None:
            raise SkipDocument(SkipReason.SCANNED, f"{len(pdf)} pages")


def _compose(uri: str, pages: Sequence[Sequence[Line]], properties: dict[str, str]) -> Document:
    texts = [page_text(lines) for lines in pages]
    known = vocabulary(texts)
    composer = Composer()
    for text in texts:
        composer.begin_page()
        composer.add(join_words(text, known))
    said = with_lists((key, _property(name, properties)) for name, key in _METADATA.items())
    without = sum(not lines for lines in pages)
    metadata = [*said, ("pages without text", without or None)]
    return composer.document(uri, "pdf", [], metadata)


def _title(title: str) -> str:
    """Return the title of a file's properties, unless a program set it."""
    return "" if _JUNK_TITLE.fullmatch(title.strip()) else clean(title)


def _property(name: str, properties: dict[str, str]) -> str:
    value = properties.get(name, "")
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
            yield _Mark(page, bookmark.level + 1, title, on_line=False)


def _large_lines(pages: Sequence[Sequence[Line]]) -> list[_Mark]:
    """Return the lines whose type is larger than that of most of the text."""
    chars: Counter[float] = Counter()
    for lines in pages:
        for line in lines:
            chars[round(line.size)] += len(line.text)
    usual = chars.most_common(1)[0][0] if chars else 0
    if not usual:
        return []
    found = [
        (number, round(line.size), one_line(clean(line.text)))
        for number, lines in enumerate(pages)
        for line in lines
        if line.size > _LARGER * usual and _may_be_heading(line.text)
    ]
    if sum(len(title) for _, _, title in found) > _MAX_HEADING_SHARE * chars.total():
        return []
    sizes = sorted({size for _, size, _ in found}, reverse=True)
    levels = {size: min(rank, _MAX_LEVELS) for rank, size in enumerate(sizes, 1)}
    return [_Mark(page, levels[size], title, on_line=True) for page, size, title in found]


def _may_be_heading(text: str) -> bool:
    letters = sum(char.isalpha() for char in text)
    return len(text) <= _MAX_HEADING and letters > len(text) // 2


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
        number = "" if mark.on_line else _NUMBER
        pattern = rf"^[^\S\n]*{number}" + r"\s+".join(words)
        if match := re.compile(pattern, re.IGNORECASE | re.MULTILINE).search(text, position, end):
            position = match.start()
        if position < len(text):
            yield Heading(position, mark.level, mark.title)
