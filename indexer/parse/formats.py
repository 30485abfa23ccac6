"""The table of formats: what files are called, what parses them, and what their text is like.

Everything that depends on a file's format is asked of its ``Format`` here. To add a format, write a
parser in a module of its own and add an entry to ``FORMATS``.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Final

from indexer.decoding.decompress import (
    MAX_FILE_BYTES,
    decompress,
    open_decompressed,
    without_compression,
)
from indexer.parse.base.outline import words
from indexer.parse.base.unknown import Kind, is_library, kind_of, may_be_text
from indexer.parse.ocr.recognize import can_read_pictures
from indexer.parse.plain import code, config, languages
from indexer.skip import SkipDocument, SkipReason
from retrieval.domain.records import DEFAULT_READING, Document, ReadSettings

if TYPE_CHECKING:
    from indexer.parse.containers import Entry

MAX_CONTAINER_BYTES: Final = 4 << 30
"""Larger containers are skipped. One process reads a container from its start to its end, and does
so again after an interrupted build."""


@dataclass(frozen=True, slots=True)
class ParseOptions:
    """Choices of the user that parsers follow."""

    text_fields: Sequence[str] = ()
    """Paths of the fields that make up the text of a JSON record; empty for the usual ones."""
    reading: ReadSettings = DEFAULT_READING
    part_done: Callable[[], None] = lambda: None
    """Called after each part of a file that took seconds, such as a page whose text was recognised.
    The limit on processor time is one for each part."""


Parser = Callable[[str, bytes, ParseOptions], Document]
"""Makes a document of a file's URI and its bytes, and raises ``SkipDocument`` if it can't."""

Opener = Callable[[IO[bytes]], "Iterator[Entry]"]
"""Yields the members of an open container; see ``indexer.parse.containers``."""


@dataclass(frozen=True, slots=True)
class Extra:
    """Optional libraries of a format, installed with an extra of this package."""

    name: str
    """Name of the extra in ``pyproject.toml``."""
    is_installed: Callable[[str], bool]
    """Whether the libraries for files with a given extension are installed."""
    is_required: bool
    """Whether files are skipped without the libraries; otherwise they only lose their sections."""

    @property
    def install(self) -> str:
        """Command that installs the libraries."""
        return f"pip install 'gte-retrieval[{self.name}]'"


@dataclass(frozen=True, slots=True)
class Format:
    """A format: a document, which has a parser, or a container, which has an opener."""

    key: str
    """Short name, as in ``Document.format``."""
    name: str
    """Name for people."""
    extensions: tuple[str, ...]
    """In lower case, with their dot."""
    parser: Parser | None = None
    """Imports its module when it is first called, so that a process loads only the libraries of
    the formats that it meets."""
    opener: Opener | None = None
    attachments: Opener | None = None
    """Yields the files attached to a document of this format, which are documents of their own."""
    names: frozenset[str] = frozenset()
    """Whole names, in lower case, of files that are in this format by custom."""
    undoes_compression: bool = False
    """Whether the opener reads compressed files itself. Files of all other formats may be
    compressed, and have one more extension then."""
    extra: Extra | None = None

    is_code: bool = False
    """Whether the text is code, which is cut between lines and best at blank ones."""
    has_fences: bool = False
    """Whether the text may hold code between Markdown's fences."""
    is_wrapped: bool = False
    """Whether a paragraph may run over several lines, so that the end of a line alone is no place
    to cut."""

    @property
    def is_container(self) -> bool:
        """Whether files of this format hold other files."""
        return self.opener is not None

    @property
    def max_bytes(self) -> int:
        """Size above which a file is skipped."""
        return MAX_CONTAINER_BYTES if self.is_container else MAX_FILE_BYTES


def _markdown(uri: str, data: bytes, options: ParseOptions) -> Document:
    from indexer.parse.markup.markdown import parse_markdown

    return parse_markdown(uri, data, options.reading.encoding)


def _rst(uri: str, data: bytes, options: ParseOptions) -> Document:
    from indexer.parse.markup.rst import parse_rst

    return parse_rst(uri, data, options.reading.encoding)


def _asciidoc(uri: str, data: bytes, options: ParseOptions) -> Document:
    from indexer.parse.markup.asciidoc import parse_asciidoc

    return parse_asciidoc(uri, data, options.reading.encoding)


def _text(uri: str, data: bytes, options: ParseOptions) -> Document:
    from indexer.parse.plain.text import parse_text

    return parse_text(uri, data, options.reading.encoding)


def _latex(uri: str, data: bytes, options: ParseOptions) -> Document:
    from indexer.parse.typeset.latex import parse_latex

    return parse_latex(uri, data, options.reading.encoding)


def _org(uri: str, data: bytes, options: ParseOptions) -> Document:
    from indexer.parse.markup.org import parse_org

    return parse_org(uri, data, options.reading.encoding)


def _typst(uri: str, data: bytes, options: ParseOptions) -> Document:
    from indexer.parse.typeset.typst import parse_typst

    return parse_typst(uri, data, options.reading.encoding)


def _mediawiki(uri: str, data: bytes, options: ParseOptions) -> Document:
    from indexer.parse.markup.mediawiki import parse_mediawiki

    return parse_mediawiki(uri, data, options.reading.encoding)


def _man(uri: str, data: bytes, options: ParseOptions) -> Document:
    from indexer.parse.typeset.troff.man import parse_man

    return parse_man(uri, data, options.reading.encoding)


def _xml(uri: str, data: bytes, options: ParseOptions) -> Document:
    from indexer.parse.typeset.xml import parse_xml_document

    return parse_xml_document(uri, data, options.reading.encoding)


def _config(uri: str, data: bytes, options: ParseOptions) -> Document:
    return config.parse_config(uri, data, options.reading.encoding)


def _subtitles(uri: str, data: bytes, options: ParseOptions) -> Document:
    from indexer.parse.plain.subtitles import parse_subtitles

    return parse_subtitles(uri, data, options.reading.encoding)


def _html(uri: str, data: bytes, options: ParseOptions) -> Document:
    from indexer.parse.web.html import parse_html

    return parse_html(uri, data, options.reading.encoding)


def _pdf(uri: str, data: bytes, options: ParseOptions) -> Document:
    from indexer.parse.pdf.pdf import parse_pdf

    return parse_pdf(uri, data, options.reading.ocr_languages, options.part_done)


def _image(uri: str, data: bytes, options: ParseOptions) -> Document:
    from indexer.parse.pdf.image import parse_image

    return parse_image(uri, data, options.reading.ocr_languages, options.part_done)


def _office(uri: str, data: bytes, options: ParseOptions) -> Document:
    return _by_content(uri, data, options, _text)


def _workbook(uri: str, data: bytes, options: ParseOptions) -> Document:
    return _by_content(uri, data, options, _delimited)


def _by_content(uri: str, data: bytes, options: ParseOptions, text: Parser) -> Document:
    """Read an office file as what it is, whatever its extension says.

    Args:
        uri: as in ``Parser``.
        data: as in ``Parser``.
        options: as in ``Parser``.
        text: what parses the file if it is plain text.
    """
    from indexer.parse.office.content import Content, content_of, parse_office

    others = {Content.HTML: _html, Content.MIME: _mail, Content.TEXT: text}

    def parse_embedded(name: str, part: bytes) -> Document:
        # A document within the embedded one is not read: one within itself would have no end.
        kind = content_of(part)
        parser = _mhtml if kind is Content.MIME else others.get(kind)
        return parser(name, part, options) if parser else parse_office(name, part, kind)

    content = content_of(data)
    if content in others:
        return others[content](uri, data, options)
    return parse_office(uri, data, content, parse_embedded)


def _delimited(uri: str, data: bytes, options: ParseOptions) -> Document:
    from indexer.parse.office.sheets.delimited import parse_delimited

    return parse_delimited(uri, data, options.reading.encoding)


def _epub(uri: str, data: bytes, _: ParseOptions) -> Document:
    from indexer.parse.web.epub import parse_epub

    return parse_epub(uri, data)


def _notebook(uri: str, data: bytes, options: ParseOptions) -> Document:
    from indexer.parse.markup.notebook import parse_notebook

    return parse_notebook(uri, data, options.reading.encoding)


def _mhtml(uri: str, data: bytes, options: ParseOptions) -> Document:
    from indexer.parse.mail.mhtml import parse_mhtml

    return parse_mhtml(uri, data, options.reading.encoding)


def _fiction_book(uri: str, data: bytes, _: ParseOptions) -> Document:
    from indexer.parse.web.fb2 import parse_fb2

    return parse_fb2(uri, data)


def _mail(uri: str, data: bytes, options: ParseOptions) -> Document:
    from indexer.parse.mail.mail import parse_mail

    return parse_mail(uri, data, options.reading.encoding)


def _code(uri: str, data: bytes, options: ParseOptions) -> Document:
    return code.parse_code(uri, data, options.reading.encoding)


def _json(uri: str, data: bytes, options: ParseOptions) -> Document:
    from indexer.parse.plain.json_records import parse_json

    return parse_json(uri, data, options.text_fields, options.reading.encoding)


def _zip(file: IO[bytes]) -> "Iterator[Entry]":
    from indexer.parse.containers import zip_entries

    return zip_entries(file)


def _sevenzip(file: IO[bytes]) -> "Iterator[Entry]":
    from indexer.parse.sevenzip import sevenzip_entries

    return sevenzip_entries(file)


def _has_py7zr(_: str) -> bool:
    return find_spec("py7zr") is not None


def _tar(file: IO[bytes]) -> "Iterator[Entry]":
    from indexer.parse.containers import tar_entries

    return tar_entries(file)


def _mailbox(file: IO[bytes]) -> "Iterator[Entry]":
    from indexer.parse.containers import mailbox_entries

    return mailbox_entries(file)


def _mail_files(file: IO[bytes]) -> "Iterator[Entry]":
    from indexer.parse.containers import mail_entries

    return mail_entries(file)


def _json_lines(file: IO[bytes]) -> "Iterator[Entry]":
    from indexer.parse.containers import json_line_entries

    return json_line_entries(file)


_TEXT_NAMES: Final = words(
    """
    authors changelog changes contributing copying copyright history install licence license
    maintainers news notice readme thanks todo
    """
)

_MAN_EXTENSIONS: Final = (
    *(f".{number}" for number in range(1, 10)),
    *(".1m", ".1p", ".1ssl", ".3ossl", ".3p", ".3perl", ".3pm", ".3ssl", ".3x", ".5ssl", ".7ssl"),
    *(".man", ".mdoc", ".roff"),
)
_XML_EXTENSIONS: Final = (
    *(".xml", ".dbk", ".dita", ".ditamap", ".docbook", ".jats", ".nxml", ".tei"),
    *(".atom", ".gpx", ".graphml", ".kml", ".opml", ".rdf", ".rss", ".svg"),
    *(".plist", ".resx", ".wsdl", ".xaml", ".xlf", ".xliff", ".xsd", ".xsl", ".xslt"),
    *(".csproj", ".fsproj", ".pom", ".props", ".targets", ".vbproj", ".vcxproj"),
)

FORMATS: Final = (
    Format(
        "markdown",
        "Markdown",
        (".md", ".markdown", ".mdx", ".md.txt", ".qmd", ".rmd"),
        _markdown,
        has_fences=True,
        is_wrapped=True,
    ),
    Format("rst", "reStructuredText", (".rst", ".rst.txt"), _rst, is_wrapped=True),
    Format("asciidoc", "AsciiDoc", (".adoc", ".asciidoc", ".asc"), _asciidoc, is_wrapped=True),
    Format("latex", "LaTeX", (".tex", ".latex", ".ltx"), _latex, is_wrapped=True),
    Format("org", "Org", (".org",), _org, is_wrapped=True),
    Format("typst", "Typst", (".typ",), _typst, is_wrapped=True),
    Format("mediawiki", "MediaWiki", (".wiki", ".mediawiki"), _mediawiki, is_wrapped=True),
    Format("man", "manual page", _MAN_EXTENSIONS, _man, is_wrapped=True),
    Format("xml", "XML", _XML_EXTENSIONS, _xml),
    Format(
        "text",
        "plain text",
        (".txt", ".text", ".log"),
        _text,
        names=_TEXT_NAMES,
        is_wrapped=True,
    ),
    Format("html", "HTML", (".html", ".htm", ".xhtml"), _html),
    Format("pdf", "PDF", (".pdf",), _pdf, is_wrapped=True),
    Format(
        "image",
        "picture of text",
        (".png", ".jpg", ".jpeg", ".tif", ".tiff"),
        _image,
        extra=Extra("ocr", can_read_pictures, is_required=True),
        is_wrapped=True,
    ),
    Format("docx", "Word", (".docx", ".docm", ".dotx", ".dotm"), _office),
    Format("doc", "Word 97", (".doc",), _office),
    Format("pptx", "PowerPoint", (".pptx", ".pptm", ".ppsx", ".ppsm", ".potx", ".potm"), _office),
    Format("ppt", "PowerPoint 97", (".ppt", ".pps"), _office),
    Format(
        "spreadsheet",
        "spreadsheet",
        (".xlsx", ".xlsm", ".xltx", ".xltm", ".xlsb", ".xls", ".ods", ".ots", ".fods"),
        _workbook,
    ),
    Format("rtf", "RTF", (".rtf",), _office),
    Format("odt", "OpenDocument text", (".odt", ".ott", ".fodt"), _office),
    Format("odp", "OpenDocument presentation", (".odp", ".otp", ".fodp", ".odg"), _office),
    Format("table", "delimited table", (".csv", ".tsv"), _delimited),
    Format("epub", "EPUB", (".epub",), _epub),
    Format(
        "notebook", "Jupyter notebook", (".ipynb",), _notebook, has_fences=True, is_wrapped=True
    ),
    Format("fb2", "FictionBook", (".fb2",), _fiction_book),
    Format("mhtml", "web archive", (".mhtml", ".mht"), _mhtml),
    Format("mail", "e-mail", (".eml", ".msg"), _mail, attachments=_mail_files, is_wrapped=True),
    Format(
        "code",
        "source code",
        (*code.EXTENSIONS, *languages.EXTENSIONS),
        _code,
        names=languages.NAMES,
        extra=Extra("code", code.has_grammar, is_required=False),
        is_code=True,
    ),
    Format("config", "configuration", (*config.YAML, *config.BY_HEADERS), _config, is_code=True),
    Format("subtitles", "subtitles", (".srt", ".vtt"), _subtitles, is_wrapped=True),
    Format("json", "JSON", (".json", ".jsonc", ".json5", ".geojson"), _json),
    Format("zip", "ZIP archive", (".zip",), opener=_zip, undoes_compression=True),
    Format(
        "7z",
        "7z archive",
        (".7z",),
        opener=_sevenzip,
        undoes_compression=True,
        extra=Extra("archives", _has_py7zr, is_required=True),
    ),
    Format(
        "tar",
        "tar archive",
        (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst"),
        opener=_tar,
        undoes_compression=True,
    ),
    Format("mbox", "mailbox", (".mbox",), opener=_mailbox),
    Format("jsonl", "JSON lines", (".jsonl", ".ndjson"), opener=_json_lines),
)

DOCUMENT_EXTENSIONS: Final = tuple(
    end for format_ in FORMATS if not format_.is_container for end in format_.extensions
)
CONTAINER_EXTENSIONS: Final = tuple(
    end for format_ in FORMATS if format_.is_container for end in format_.extensions
)
WHOLE_NAMES: Final = tuple(sorted(name for format_ in FORMATS for name in format_.names))
"""Names, in lower case, that need no extension."""

FORMAT_OF_KEY: Final[Mapping[str, Format]] = MappingProxyType(
    {format_.key: format_ for format_ in FORMATS}
)
_BY_EXTENSION: Final = {end: format_ for format_ in FORMATS for end in format_.extensions}
_BY_NAME: Final = {name: format_ for format_ in FORMATS for name in format_.names}
_MOST_DOTS: Final = max(end.count(".") for end in _BY_EXTENSION)
_DEFAULT_OPTIONS: Final = ParseOptions()


ReadAs = tuple[tuple[str, str], ...]
"""As in ``ReadSettings``: extensions, and the keys of the formats to read them as."""


def format_of(name: str, read_as: ReadAs = ()) -> Format | None:
    """Return the format that a file's name tells; None if it tells none.

    Args:
        name: name or path of the file.
        read_as: formats of extensions that the user chose.
    """
    file = name.lower().rpartition("/")[2]
    bare = without_compression(file)
    if read_as and (chosen := _chosen(file, read_as) or _chosen(bare, read_as)) is not None:
        return chosen
    if is_library(file):
        return None
    if (format_ := _BY_NAME.get(file) or _by_extension(file)) is not None:
        return format_
    format_ = _BY_NAME.get(bare) or _by_extension(bare)
    return None if format_ is not None and format_.undoes_compression else format_


def _chosen(file: str, read_as: ReadAs) -> Format | None:
    """Return the format that the user chose for the extension of a name in lower case."""
    fitting = [pair for pair in read_as if file[1:].endswith(pair[0])]
    # The longest extension is the most exact one: ".d.ts" before ".ts".
    best = max(fitting, key=lambda pair: len(pair[0]), default=None)
    return FORMAT_OF_KEY[best[1]] if best else None


def _by_extension(file: str) -> Format | None:
    """Return the format by the extension of a name in lower case; ``.md`` alone has none."""
    parts = file[1:].rsplit(".", _MOST_DOTS)
    extensions = ("." + ".".join(parts[start:]) for start in range(1, len(parts)))
    return next((_BY_EXTENSION[end] for end in extensions if end in _BY_EXTENSION), None)


def content_decides(name: str, read_as: ReadAs = ()) -> bool:
    """Whether the name of a file tells no format, and its content decides whether it is read."""
    file = name.lower().rpartition("/")[2]
    bare = without_compression(file)
    is_known = format_of(name, read_as) or _by_extension(bare)  # such as "a.zip.gz"
    return is_known is None and may_be_text(file)


def installed_extras() -> tuple[str, ...]:
    """Return the names of the extras without which files are skipped, as far as installed."""
    extras = {
        format_.extra.name
        for format_ in FORMATS
        if format_.extra is not None
        and format_.extra.is_required
        and any(map(format_.extra.is_installed, format_.extensions))
    }
    return tuple(sorted(extras))


def read_with_extras() -> frozenset[tuple[str, str]]:
    """Return what extras read or help to read here: pairs of an extra and an extension.

    Machines with the same pairs read the same documents from a file. Containers are left out.
    """
    return frozenset(
        (format_.extra.name, extension)
        for format_ in FORMATS
        if format_.extra is not None and not format_.is_container
        for extension in format_.extensions
        if format_.extra.is_installed(extension)
    )


def is_container(name: str, read_as: ReadAs = ()) -> bool:
    """Whether a file of this name holds other files, and is no document itself."""
    format_ = format_of(name, read_as)
    return format_ is not None and format_.is_container


def holds_files(name: str, read_as: ReadAs = ()) -> bool:
    """Whether a file of this name holds other files, as containers and messages do."""
    format_ = format_of(name, read_as)
    return format_ is not None and (format_.is_container or format_.attachments is not None)


def max_bytes(name: str, read_as: ReadAs = ()) -> int:
    """Return the size above which a file is skipped."""
    format_ = format_of(name, read_as)
    return format_.max_bytes if format_ else MAX_FILE_BYTES


def extension_of(name: str) -> str:
    """Return the extension of a name, in lower case, or that it has none."""
    return PurePosixPath(name).suffix.lower() or "no extension"


def unsupported(name: str, read_as: ReadAs = ()) -> str | None:
    """Return what is not supported about a file's name; None if the file can be indexed.

    Returns:
        the file's extension; if it needs libraries that aren't installed, also how to install them.
    """
    format_ = format_of(name, read_as)
    if format_ is None:
        return None if content_decides(name, read_as) else extension_of(name)
    extension = PurePosixPath(without_compression(name)).suffix.lower()
    if (extra := format_.extra) and extra.is_required and not extra.is_installed(extension):
        return f"{extension} needs {extra.install}"
    return None


def parse(uri: str, data: bytes, options: ParseOptions = _DEFAULT_OPTIONS) -> Document:
    """Make a document of a file's bytes.

    Args:
        uri: stable name of the file; the extension, in any case, chooses the parser.
        data: the whole file, compressed if the URI says so.
        options: choices of the user.

    Raises:
        SkipDocument: there is nothing to index, because the format isn't supported, the data is
            binary, or no text is left.
    """
    read_as = options.reading.read_as
    format_ = format_of(uri, read_as)
    problem = unsupported(uri, read_as)
    if problem is not None:
        raise SkipDocument(SkipReason.UNSUPPORTED, problem)
    parser = format_.parser if format_ else _unnamed
    if parser is None:
        raise SkipDocument(SkipReason.UNSUPPORTED, "a container")
    if not data:
        raise SkipDocument(SkipReason.EMPTY)
    document = parser(uri, decompress(uri, data), options)
    if not document.text or document.text.isspace():
        raise SkipDocument(SkipReason.NO_TEXT)
    return document


def _unnamed(uri: str, data: bytes, options: ParseOptions) -> Document:
    """Make a document of a file whose name tells no format.

    Raises:
        SkipDocument: the file is neither text nor a document, or there is nothing to index in it.
    """
    kind = kind_of(data)
    if kind is None or (kind is Kind.OFFICE and not _is_office(data)):
        try:
            return _text(uri, data, options)
        except SkipDocument as skip:
            raise SkipDocument(SkipReason.UNSUPPORTED, extension_of(uri)) from skip
    return _OF_KIND[kind](uri, data, options)


_OF_KIND: Final[Mapping[Kind, Parser]] = MappingProxyType(
    {Kind.PDF: _pdf, Kind.OFFICE: _office, Kind.EPUB: _epub, Kind.HTML: _html}
)


def _is_office(data: bytes) -> bool:
    """Whether a file that begins like an office file is one."""
    from indexer.parse.office.content import content_of

    try:
        content_of(data)
    except SkipDocument as skip:
        return skip.reason is SkipReason.ENCRYPTED
    return True


def open_container(uri: str, file: IO[bytes], read_as: ReadAs = ()) -> "Iterator[Entry]":
    """Yield the members of a container, without its folders, or the files of a message.

    Args:
        uri: of the container; its extension chooses the opener.
        file: the container, open for reading.
        read_as: as in ``format_of``.

    Raises:
        OSError: the disk can't be read.
        Exception: the container is damaged: one of ``indexer.parse.containers.DAMAGE``, or what
            ``indexer.skip.read_errors_as_skips`` takes for damage.
        ValueError: it is no container.
    """
    format_ = format_of(uri, read_as)
    opener = (format_.opener or format_.attachments) if format_ else None
    if format_ is None or opener is None:
        raise ValueError(f"{uri} is no container")
    return opener(file if format_.undoes_compression else open_decompressed(uri, file))
