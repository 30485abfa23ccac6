"""Tell what an office file is by its content, whatever its name says, and read it so.

Web applications export HTML and tab-separated text as ``.xls`` and ``.doc``, Word saves RTF as
``.doc``, and people rename files.
"""

import io
import re
import zipfile
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from indexer.decoding.decode import decode
from indexer.parse.base.fields import UNREAD
from indexer.parse.office.legacy.compound import MAGIC, Compound
from indexer.parse.office.ooxml import PART_ERRORS, Package, read_member
from indexer.skip import MAX_DETAIL_CHARS, SkipDocument, SkipReason, parser_errors_as_damage
from retrieval.domain.records import Document

EmbeddedParser = Callable[[str, bytes], Document]
"""Makes a document of the name and the bytes of a file within another.

It raises ``SkipDocument`` if it can't.
"""


class Content(StrEnum):
    """What a file's bytes are."""

    DOCX = "docx"
    PPTX = "pptx"
    WORKBOOK = "workbook"
    """Of Excel, in any of its formats."""
    OPEN_DOCUMENT = "OpenDocument"
    RTF = "rtf"
    DOC = "doc"
    PPT = "ppt"
    SHEET_XML = "SpreadsheetML"
    HTML = "html"
    MIME = "mime"
    """A web page in the form of a mail message."""
    TEXT = "text"


_HEAD: Final = 4096
"""Number of bytes that tell which kind of text a file is."""
_HTML: Final = re.compile(
    rb"<(?:!doctype\s+html|html|head|body|table|div|meta|style|p|h[1-6]|script)\b", re.IGNORECASE
)
_HEADER: Final = re.compile(rb"[A-Za-z][\w-]{1,60}:")
_RELATED: Final = re.compile(rb"^Content-Type:\s*multipart/related\b", re.IGNORECASE | re.MULTILINE)
_OF_MAIN_PART: Final = {
    "word": Content.DOCX,
    "presentation": Content.PPTX,
    "powerpoint": Content.PPTX,
    "slideshow": Content.PPTX,
    "spreadsheet": Content.WORKBOOK,
    "excel": Content.WORKBOOK,
    "xl/": Content.WORKBOOK,
    "ppt/": Content.PPTX,
}
"""What the type of a package's main part contains, or the part's name."""
_OF_STREAM: Final = {
    "WordDocument": Content.DOC,
    "PowerPoint Document": Content.PPT,
    "Workbook": Content.WORKBOOK,
    "Book": Content.WORKBOOK,
}
_OLD: Final = {
    b"\xdb\xa5": "Word 2",
    b"\x31\xbe": "Windows Write",
    b"\x9b\xa5": "Word 1",
    b"\x09\x00\x04\x00": "Excel 2",
    b"\x09\x02\x06\x00": "Excel 3",
    b"\x09\x04\x06\x00": "Excel 4",
    b"\xffWPC": "WordPerfect",
}
"""First bytes of files that are older than any format that is read."""


def content_of(data: bytes) -> Content:
    """Return what an office file is.

    Raises:
        SkipDocument: it is encrypted, damaged, or in a format that isn't read.
    """
    if data.startswith(b"PK"):
        with parser_errors_as_damage():
            return _of_archive(data)
    if data.startswith(MAGIC):
        with parser_errors_as_damage():
            return _of_compound(Compound(data))
    if data.lstrip()[:5] == b"{\\rtf":
        return Content.RTF
    for magic, name in _OLD.items():
        if data.startswith(magic):
            raise SkipDocument(SkipReason.DAMAGED, f"a format of {name}; save it as a new one")
    return _of_text(data)


def _of_archive(data: bytes) -> Content:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        try:
            media = read_member(archive, "mimetype") if "mimetype" in archive.NameToInfo else b""
        except PART_ERRORS:
            media = b""
        if b"opendocument" in media or (
            "content.xml" in archive.NameToInfo and "META-INF/manifest.xml" in archive.NameToInfo
        ):
            return Content.OPEN_DOCUMENT
    package = Package(data)
    kind = package.main_type() or package.main_part().lower()
    for part, content in _OF_MAIN_PART.items():
        if part in kind:
            return content
    raise SkipDocument(SkipReason.DAMAGED, "a ZIP file without a document")


def _of_compound(file: Compound) -> Content:
    for stream, content in _OF_STREAM.items():
        if file.has(stream):
            return content
    raise SkipDocument(SkipReason.DAMAGED, "no document in it, or one of Office before 97")


def _of_text(data: bytes) -> Content:
    """Return which kind of text a file is.

    Raises:
        SkipDocument: it is no text.
    """
    try:
        text, _ = decode(data[:_HEAD] if len(data) > _HEAD else data)
    except SkipDocument as error:
        raise SkipDocument(SkipReason.DAMAGED, "not an office file") from error
    head = text.lstrip("\ufeff \t\r\n").encode()
    if b"urn:schemas-microsoft-com:office:spreadsheet" in head and b"<Workbook" in head:
        return Content.SHEET_XML
    if b"opendocument:xmlns:office" in head:
        return Content.OPEN_DOCUMENT
    if head.startswith(b"<") and _HTML.search(head):
        return Content.HTML
    if _HEADER.match(head) and _RELATED.search(head):
        return Content.MIME
    return Content.TEXT


def parse_office(
    uri: str, data: bytes, content: Content, embedded: EmbeddedParser | None = None
) -> Document:
    """Make a document of an office file.

    Args:
        uri: of the file.
        data: the file.
        content: what it is: neither HTML, nor a message, nor plain text.
        embedded: reads documents within the file; None if they are not read.

    Raises:
        SkipDocument: it is damaged or encrypted.
    """
    if content is Content.DOCX:
        from indexer.parse.office.docx.document import parse_docx

        document = parse_docx(uri, data, embedded)
    else:
        document = _PARSERS[content](uri, data)
    unread = document.metadata.get(UNREAD)
    if isinstance(unread, list) and unread and not document.text.strip():
        raise SkipDocument(
            SkipReason.DAMAGED, f"unreadable: {', '.join(map(str, unread))}"[:MAX_DETAIL_CHARS]
        )
    return document


def _pptx(uri: str, data: bytes) -> Document:
    from indexer.parse.office.pptx import parse_pptx

    return parse_pptx(uri, data)


def _workbook(uri: str, data: bytes) -> Document:
    from indexer.parse.office.sheets.workbook import parse_workbook

    return parse_workbook(uri, data)


def _sheet_xml(uri: str, data: bytes) -> Document:
    from indexer.parse.office.sheets.sheet_xml import parse_sheet_xml

    return parse_sheet_xml(uri, data)


def _open_document(uri: str, data: bytes) -> Document:
    from indexer.parse.office.odf.document import parse_open_document

    return parse_open_document(uri, data)


def _rtf(uri: str, data: bytes) -> Document:
    from indexer.parse.office.rtf.document import parse_rtf

    return parse_rtf(uri, data)


def _doc(uri: str, data: bytes) -> Document:
    from indexer.parse.office.legacy.doc import parse_doc

    return parse_doc(uri, data)


def _ppt(uri: str, data: bytes) -> Document:
    from indexer.parse.office.legacy.ppt import parse_ppt

    return parse_ppt(uri, data)


_PARSERS: Final[dict[Content, Callable[[str, bytes], Document]]] = {
    Content.PPTX: _pptx,
    Content.WORKBOOK: _workbook,
    Content.SHEET_XML: _sheet_xml,
    Content.OPEN_DOCUMENT: _open_document,
    Content.RTF: _rtf,
    Content.DOC: _doc,
    Content.PPT: _ppt,
}
