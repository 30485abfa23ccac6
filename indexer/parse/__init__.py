"""Parsers: a file's bytes to a ``Document`` with exact sections, by the file's name."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Final, NamedTuple, cast

from indexer.decoding.decompress import decompress, without_compression
from indexer.parse.base.outline import words
from indexer.parse.plain import code
from indexer.skip import SkipDocument, SkipReason
from retrieval.domain.records import Document


class Format(NamedTuple):
    """A kind of files, and what parses them."""

    name: str
    """As people call it."""
    extensions: tuple[str, ...]
    """In lower case, with their dot."""
    parser: str
    """``module:function``; imported when the first such file is met."""


FORMATS: Final = (
    Format("Markdown", (".md", ".markdown", ".mdx"), "markup.markdown:parse_markdown"),
    Format("reStructuredText", (".rst",), "markup.rst:parse_rst"),
    Format("AsciiDoc", (".adoc", ".asciidoc", ".asc"), "markup.asciidoc:parse_asciidoc"),
    Format("plain text", (".txt", ".text", ".log"), "plain.text:parse_text"),
    Format("HTML", (".html", ".htm", ".xhtml"), "web.html:parse_html"),
    Format("PDF", (".pdf",), "pdf.pdf:parse_pdf"),
    Format("Word", (".docx",), "office.docx:parse_docx"),
    Format("PowerPoint", (".pptx",), "office.pptx:parse_pptx"),
    Format(
        "spreadsheet", (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"), "office.sheet:parse_workbook"
    ),
    Format("delimited table", (".csv", ".tsv"), "office.sheet:parse_delimited"),
    Format("EPUB", (".epub",), "web.epub:parse_epub"),
    Format("Jupyter notebook", (".ipynb",), "markup.notebook:parse_notebook"),
    Format("e-mail", (".eml",), "web.mail:parse_mail"),
    Format("source code", code.EXTENSIONS, "plain.code:parse_code"),
    Format("JSON", (".json",), "plain.json_records:parse_json"),
)

_BY_EXTENSION: Final[Mapping[str, Format]] = MappingProxyType(
    {extension: format_ for format_ in FORMATS for extension in format_.extensions}
)

HANDLED_EXTENSIONS: Final = tuple(_BY_EXTENSION)
"""Extensions of the files that can be indexed, in lower case and with their dot."""

PLAIN_NAMES: Final = words(
    """
    authors changelog changes contributing copying copyright history install licence license
    maintainers news notice readme thanks todo
    """
)
"""Names without an extension, in lower case, of files that are text by custom."""


def format_of(name: str) -> Format | None:
    """Which format a file of that name, or path, is in; None if it is none that is handled."""
    path = PurePosixPath(without_compression(name))
    if path.name.lower() in PLAIN_NAMES:
        return _BY_EXTENSION[".txt"]
    return _BY_EXTENSION.get(path.suffix.lower())


def parse(uri: str, data: bytes, text_fields: Sequence[str] = ()) -> Document:
    """Make a document of a file's bytes.

    Args:
        uri: the file's stable name; its extension, in any case, chooses the parser. It may be
            followed by one of a compressed file.
        data: the whole file.
        text_fields: see ``json_records.parse_json``.

    Raises:
        SkipDocument: there is nothing to index: the format is not handled, the data is binary,
            or no text is left.
    """
    format_ = format_of(uri)
    if format_ is None:
        extension = PurePosixPath(without_compression(uri)).suffix.lower()
        raise SkipDocument(SkipReason.UNSUPPORTED, extension)
    if not data:
        raise SkipDocument(SkipReason.EMPTY)
    parser = _load(format_.parser)
    if format_.name == "JSON":
        parser = partial(parser, text_fields=text_fields)
    document = parser(uri, decompress(uri, data))
    if not document.text or document.text.isspace():
        raise SkipDocument(SkipReason.NO_TEXT)
    return document


def _load(parser: str) -> Callable[..., Document]:
    module, _, function = parser.partition(":")
    return cast(
        Callable[..., Document], getattr(import_module(f"indexer.parse.{module}"), function)
    )
