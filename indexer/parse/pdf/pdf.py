"""PDF (ISO 32000), read by PDFium: the text of its pages, its bookmarks and its properties."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Final

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from indexer.parse.base.compose import clean
from indexer.parse.base.fields import MAX_METADATA_VALUES
from indexer.parse.base.outline import MAX_SECTIONS, one_line
from indexer.parse.ocr.recognize import MAX_SIDE, Recognizer, recognizer
from indexer.parse.pdf.lines import Line, read_lines
from indexer.parse.pdf.pages import Mark, Pages
from indexer.parse.pdf.recognized import recognized_lines
from indexer.parse.pdf.typed import Forms, may_have_free_text, open_forms, read_typed, with_typed
from indexer.skip import SkipDocument, SkipReason, parser_errors_as_damage
from retrieval.domain.records import Document

_MAX_DEPTH: Final = 15
"""Bookmarks nested deeper are left out, in case they form a loop."""
_DOTS: Final = 150 / 72
"""Pixels of a picture of a page for each point: 150 an inch. At 150 and at 200, RapidOCR recognised
all words of pages in type of 10 points."""
_LITTLE_TEXT: Final = 50
"""A page with fewer characters may be a scan with a stamp or a number printed on it."""
_FULL_PICTURE: Final = 0.5
"""If a picture covers this share of the page."""
_MANY_OBJECTS: Final = 100
"""A page without text that draws this many things may have letters drawn as curves."""
MAX_RECOGNIZED: Final = 1_000
"""Number of pages of a file that are recognised, at 3 to 10 s each; the others are named."""


def parse_pdf(
    uri: str,
    data: bytes,
    languages: Sequence[str] = (),
    part_done: Callable[[], None] = lambda: None,
) -> Document:
    """Make a document of a PDF file.

    The text is that drawn on the pages and typed onto them, with words rejoined that are broken at
    line ends, without page headers and footers. The title is that of the file's properties if the
    first pages have its words; otherwise the largest lines at the top of the first page. The text
    of scanned pages is recognised if an engine is installed.

    Args:
        uri: as in ``Document``.
        data: the file.
        languages: of scanned pages; see ``recognizer``.
        part_done: called after each page whose text was recognised, which takes seconds.

    Raises:
        SkipDocument: the file is damaged, needs a password, or has only pictures of text that can't
            be recognised.
    """
    with parser_errors_as_damage():
        try:
            pdf = pdfium.PdfDocument(data)
        except pdfium.PdfiumError as error:
            if pdfium_c.FPDF_GetLastError() == pdfium_c.FPDF_ERR_PASSWORD:
                raise SkipDocument(SkipReason.ENCRYPTED, "needs a password") from error
            raise
        with pdf:
            return _Reader(pdf, data, tuple(languages), part_done).read().document(uri, "pdf")


class _Reader:
    """Reads the pages of a file."""

    def __init__(
        self,
        pdf: pdfium.PdfDocument,
        data: bytes,
        languages: tuple[str, ...],
        part_done: Callable[[], None],
    ) -> None:
        self._pdf = pdf
        self._data = data
        self._languages = languages
        self._part_done = part_done
        self._pages = Pages()
        self._recognizer: Recognizer | None = None
        self._refusal: SkipDocument | None = None
        """Why the text of pictures can't be recognised."""

    def read(self) -> Pages:
        """Read all pages, the bookmarks and the properties.

        Raises:
            SkipDocument: the pages are pictures that can't be recognised.
            pdfium.PdfiumError: no page can be read.
        """
        pdf, pages = self._pdf, self._pages
        with open_forms(pdf) as forms:
            may_be_typed_on = forms is not None or may_have_free_text(self._data)
            for number in range(len(pdf)):
                pages.lines.append([])
                try:
                    pages.lines[-1] = self._read_page(number, forms, may_be_typed_on)
                except pdfium.PdfiumError:
                    pages.unread.append(number)
                    if len(pages.unread) == len(pdf) and self._refusal is None:
                        raise
        if self._refusal is not None and not any(pages.lines):
            raise SkipDocument(SkipReason.SCANNED, f"{len(pdf)} pages; {self._refusal.detail}")
        if pdf.get_formtype() == pdfium_c.FORMTYPE_XFA_FULL:
            pages.unread_parts.append("form in XFA")
        pages.attachments = list(_attachments(pdf))
        pages.properties = pdf.get_metadata_dict(skip_empty=True)
        pages.marks = list(islice(_bookmarks(pdf), MAX_SECTIONS))
        return pages

    def _read_page(self, number: int, forms: Forms | None, may_be_typed_on: bool) -> list[Line]:
        """Return the lines of a page.

        Raises:
            pdfium.PdfiumError: the page is damaged.
        """
        page = self._pdf[number]
        try:
            lines = read_lines(page)
            if may_be_typed_on and (typed := list(read_typed(page, forms))):
                lines = with_typed(lines, typed)
            if sum(len(line.text) for line in lines) >= _LITTLE_TEXT:
                return lines
            return self._recognize(number, page, lines)
        finally:
            page.close()

    def _recognize(self, number: int, page: pdfium.PdfPage, lines: list[Line]) -> list[Line]:
        """Return the lines of a page with little text, recognised if it is mostly a picture."""
        is_scan = _is_scan(page, has_text=bool(lines))
        if not is_scan and (lines or pdfium_c.FPDFPage_CountObjects(page) < _MANY_OBJECTS):
            return lines
        engine = self._engine()
        if engine is None or len(self._pages.recognized) >= MAX_RECOGNIZED:
            if is_scan:
                self._pages.unread.append(number)
            return lines
        width, height = page.get_size()
        scale = min(_DOTS, MAX_SIDE / max(width, height, 1))
        picture = page.render(scale=scale, rev_byteorder=True, may_draw_forms=False).to_numpy()
        try:
            with parser_errors_as_damage():
                lines_of_picture = engine(picture[:, :, :3])
        except SkipDocument as failure:
            self._refusal = failure
            self._pages.unread.append(number)
            return lines
        self._part_done()
        found = recognized_lines(lines_of_picture, height * scale, scale)
        if sum(len(line.text) for line in found) <= 2 * sum(len(line.text) for line in lines):
            return lines
        self._pages.recognized.append(number)
        return found

    def _engine(self) -> Recognizer | None:
        if self._recognizer is None and self._refusal is None:
            try:
                self._recognizer = recognizer(self._languages)
            except SkipDocument as refusal:
                self._refusal = refusal
        return self._recognizer


def _attachments(pdf: pdfium.PdfDocument) -> Iterator[str]:
    """Yield the names of attached files."""
    for index in range(min(pdf.count_attachments(), MAX_METADATA_VALUES)):
        if name := one_line(clean(pdf.get_attachment(index).get_name())):
            yield name


def _is_scan(page: pdfium.PdfPage, *, has_text: bool) -> bool:
    """Return whether a page is a picture; beside some text, whether one covers most of it."""
    pictures = page.get_objects(filter=[pdfium_c.FPDF_PAGEOBJ_IMAGE], max_depth=3)
    if not has_text:
        return next(iter(pictures), None) is not None
    width, height = page.get_size()
    for picture in pictures:
        left, bottom, right, top = picture.get_bounds()
        if (right - left) * (top - bottom) >= _FULL_PICTURE * width * height:
            return True
    return False


def _bookmarks(pdf: pdfium.PdfDocument) -> Iterator[Mark]:
    """Yield the bookmarks; one without a target stays on the page of the one before."""
    page = 0
    for bookmark in pdf.get_toc(max_depth=_MAX_DEPTH):
        target = bookmark.get_dest()
        index = target.get_index() if target else None
        page = page if index is None else index
        if title := one_line(clean(bookmark.get_title())):
            yield Mark(page, bookmark.level + 1, title)
