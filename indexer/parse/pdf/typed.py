"""Text that was typed onto PDF pages: free text annotations and the values of form fields.

Neither is part of a page's own text. A value is put beside the label of its field: what stands to
the left of it on the same line, or just above it.
"""

import re
import zlib
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, TypeAlias

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from indexer.parse.base.compose import clean
from indexer.parse.pdf.lines import Line

_HIDDEN: Final = pdfium_c.FPDF_ANNOT_FLAG_HIDDEN | pdfium_c.FPDF_ANNOT_FLAG_NOVIEW
_TEXTS: Final = frozenset(
    {
        pdfium_c.FPDF_FORMFIELD_TEXTFIELD,
        pdfium_c.FPDF_FORMFIELD_COMBOBOX,
        pdfium_c.FPDF_FORMFIELD_LISTBOX,
    }
)
_MARKS: Final = frozenset({pdfium_c.FPDF_FORMFIELD_CHECKBOX, pdfium_c.FPDF_FORMFIELD_RADIOBUTTON})
_WIDGET: Final = pdfium_c.FPDF_ANNOT_WIDGET
_NUL_BYTES: Final = 2
_LABEL_ENDS: Final = (":", "_", ".")
"""Ends of lines that are to be filled in."""
_MARK: Final = "[x]"
"""Stands for a box that is ticked."""
_PASSWORD: Final = 1 << 13
"""Flag of a field whose value is not shown."""
_OBJECTS: Final = re.compile(rb"/Type ?/ObjStm")
"""Start of a stream of objects, which are most of the annotations of newer files."""
_MAX_OBJECTS: Final = 4 << 20
"""Bytes of a stream of objects that are looked at; usual ones hold 200 objects."""
_MAX_ANNOTATIONS: Final = 5_000
"""Further annotations of a page are not looked at: a hostile page may have millions."""
_MAX_NEAR: Final = 200
"""Maximum number of lines that are looked at for the label of a field."""
_NEAR: Final = 5.0
"""Distance in points by which a label may overlap its field."""
_ABOVE: Final = 12.0
"""Greatest distance in points between a field and a label above it."""
_BASELINE: Final = 0.3
"""Where the baseline of a field of one line is, from its bottom, in its heights."""
_MAX_LINE: Final = 14.0
"""Greatest distance in points from the top of a field to the baseline of its first line."""


Forms: TypeAlias = Any
"""PDFium's handle of a document's form fields."""


class Typed(NamedTuple):
    """Text typed onto a page."""

    text: str
    left: float
    bottom: float
    right: float
    top: float
    name: str
    """Name of the form field for people, for a field without a label; empty if there is none."""
    is_mark: bool
    """Whether it is the mark of a ticked box, whose label follows."""
    is_field: bool
    """Whether it is the value of a form field."""


def may_have_free_text(data: bytes) -> bool:
    """Return whether a file may have free text annotations.

    Looking at each annotation of each page takes a tenth of the time of reading a document with
    many links; looking for the word in the file takes a hundredth.
    """
    if b"/FreeText" in data or b"/Encrypt" in data:
        return True
    for match in _OBJECTS.finditer(data):
        start = data.find(b"stream", match.end())
        if start < 0:
            return False
        body = data[start + len(b"stream") : start + _MAX_OBJECTS].lstrip(b"\r\n")
        try:
            if b"/FreeText" in zlib.decompressobj().decompress(body, _MAX_OBJECTS):
                return True
        except zlib.error:
            return True
    return False


def read_typed(page: pdfium.PdfPage, forms: Forms | None) -> Iterator[Typed]:
    """Yield what was typed onto a page.

    Args:
        page: the page.
        forms: of the document, if it has form fields.
    """
    count = pdfium_c.FPDFPage_GetAnnotCount(page)
    for index in range(min(count, _MAX_ANNOTATIONS)):
        annotation = pdfium_c.FPDFPage_GetAnnot(page, index)
        if not annotation:
            continue
        try:
            if typed := _typed(annotation, forms):
                yield typed
        finally:
            pdfium_c.FPDFPage_CloseAnnot(annotation)


def _typed(annotation: pdfium_c.FPDF_ANNOTATION, forms: Forms | None) -> Typed | None:
    kind = pdfium_c.FPDFAnnot_GetSubtype(annotation)
    if pdfium_c.FPDFAnnot_GetFlags(annotation) & _HIDDEN:
        return None
    name, is_mark = "", False
    if kind == pdfium_c.FPDF_ANNOT_FREETEXT:
        text = _string(pdfium_c.FPDFAnnot_GetStringValue, annotation, b"Contents")
    elif kind == _WIDGET and forms is not None:
        field = pdfium_c.FPDFAnnot_GetFormFieldType(forms, annotation)
        is_mark = field in _MARKS and _is_ticked(annotation, forms)
        text = _MARK if is_mark else ""
        if field in _TEXTS:
            if pdfium_c.FPDFAnnot_GetFormFieldFlags(forms, annotation) & _PASSWORD:
                return None
            text = _string(pdfium_c.FPDFAnnot_GetFormFieldValue, forms, annotation)
        name = _string(pdfium_c.FPDFAnnot_GetFormFieldAlternateName, forms, annotation)
    else:
        return None
    if not any(map(str.strip, text.splitlines())):
        return None
    box = pdfium_c.FS_RECTF()
    pdfium_c.FPDFAnnot_GetRect(annotation, box)
    return Typed(text, box.left, box.bottom, box.right, box.top, name, is_mark, kind == _WIDGET)


def _is_ticked(annotation: pdfium_c.FPDF_ANNOTATION, forms: Forms) -> bool:
    """Return whether a box is ticked, also if the file doesn't say how that is drawn."""
    if pdfium_c.FPDFAnnot_IsChecked(forms, annotation):
        return True
    return _string(pdfium_c.FPDFAnnot_GetStringValue, annotation, b"AS") not in ("", "Off")


def _string(get: Callable[..., int], *arguments: object) -> str:
    """Return a string that PDFium writes into a buffer, as UTF-16 with a NUL at its end."""
    size = get(*arguments, None, 0)
    if size <= _NUL_BYTES:
        return ""
    buffer = (pdfium_c.FPDF_WCHAR * (size // _NUL_BYTES + 1))()
    get(*arguments, buffer, size)
    text = bytes(buffer)[: size - _NUL_BYTES].decode("utf-16-le", "replace")
    return clean(text.rstrip("\0"))


@contextmanager
def open_forms(pdf: pdfium.PdfDocument) -> Iterator[Forms | None]:
    """Open the form fields of a document; None if it has none. No script in it is run."""
    if pdf.get_formtype() == pdfium_c.FORMTYPE_NONE:
        yield None
        return
    # Not PdfDocument.init_forms, which warns of every form in XFA.
    settings = pdfium_c.FPDF_FORMFILLINFO(version=2)
    forms = pdfium_c.FPDFDOC_InitFormFillEnvironment(pdf, settings)
    try:
        yield forms or None
    finally:
        if forms:
            pdfium_c.FPDFDOC_ExitFormFillEnvironment(forms)


def with_typed(lines: Sequence[Line], typed: Iterable[Typed]) -> list[Line]:
    """Return the lines of a page with what was typed onto it, in its place."""
    result = _Page(lines)
    for text in typed:
        result.add(text)
    return result.lines()


class _Page:
    """Lines of a page, to which others are added."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self._lines = list(lines)
        self._after: dict[int, list[Line]] = defaultdict(list)
        """Lines to add after a line; after -1 come those at the top."""
        order = sorted((line.y, n) for n, line in enumerate(lines) if line.size and line.upright)
        self._heights = [y for y, _ in order]
        self._numbers = [number for _, number in order]

    def lines(self) -> list[Line]:
        """Return all lines."""
        result = self._after.get(-1, [])[:]
        for number, line in enumerate(self._lines):
            result += (line, *self._after.get(number, ()))
        return result

    def add(self, typed: Typed) -> None:
        """Add a text beside its label, or where it stands."""
        first, *rest = (line for line in typed.text.splitlines() if line.strip())
        label = self._beside(typed)
        if label is not None:
            line = self._lines[label]
            text = f"{first} {line.text}" if typed.is_mark else f"{line.text} {first}"
            self._lines[label] = line._replace(
                text=text, x=min(line.x, typed.left), right=max(line.right, typed.right)
            )
        else:
            label, named = self._above(typed)
            first = first if named or not typed.name else f"{typed.name}: {first}"
            rest = [first, *rest]
        height = min(typed.top - typed.bottom, _MAX_LINE) * (1 - _BASELINE)
        size = self._lines[label].size if label >= 0 else 0.0
        for number, text in enumerate(rest):
            y = typed.top - height - number * size
            self._after[label].append(Line(text, typed.left, y, typed.right, size, y))

    def _beside(self, typed: Typed) -> int | None:
        """Return the line that labels a field on the same line; None if there is none."""
        near = self._near(typed.bottom - _BASELINE * _NEAR, typed.top)
        if typed.is_mark:
            after = [n for n in near if self._lines[n].x >= typed.right - _NEAR]
            if after:
                return min(after, key=lambda number: self._lines[number].x)
        before = [n for n in near if self._lines[n].right <= typed.left + _NEAR]
        label = max(before, key=lambda number: self._lines[number].right, default=None)
        if label is None or typed.is_field or self._lines[label].text.endswith(_LABEL_ENDS):
            return label
        return None

    def _above(self, typed: Typed) -> tuple[int, bool]:
        """Return the line that a text comes after, and whether this is its label."""
        near = [
            number
            for number in self._near(typed.top - _NEAR, typed.top + _ABOVE)
            if self._lines[number].x < typed.right and self._lines[number].right > typed.left
        ]
        if near:
            return min(near, key=lambda number: self._lines[number].y), True
        place = bisect_left(self._heights, typed.top)
        return (self._numbers[place] if place < len(self._numbers) else -1), False

    def _near(self, bottom: float, top: float) -> list[int]:
        """Return the lines whose baselines are between two heights; not very many."""
        start = bisect_left(self._heights, bottom)
        end = bisect_right(self._heights, top)
        return self._numbers[start : min(end, start + _MAX_NEAR)]
