"""Parsers: a file's bytes to a ``Document`` with exact sections, by the file's extension."""

from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Final

from indexer.decompress import decompress, without_compression
from indexer.parse.html import parse_html
from indexer.parse.markdown import parse_markdown
from indexer.parse.rst import parse_rst
from indexer.parse.text import parse_text
from indexer.skip import SkipDocument, SkipReason
from retrieval.records import Document

_PARSERS: Final[Mapping[str, Callable[[str, bytes], Document]]] = MappingProxyType(
    {
        ".md": parse_markdown,
        ".markdown": parse_markdown,
        ".mdx": parse_markdown,
        ".rst": parse_rst,
        ".txt": parse_text,
        ".text": parse_text,
        ".html": parse_html,
        ".htm": parse_html,
        ".xhtml": parse_html,
    }
)

HANDLED_EXTENSIONS: Final = tuple(_PARSERS)
"""Extensions of the files that can be indexed, in lower case and with their dot."""


def parse(uri: str, data: bytes) -> Document:
    """Make a document of a file's bytes.

    Args:
        uri: the file's stable name; its extension, in any case, chooses the parser. It may be
            followed by one of a compressed file.
        data: the whole file.

    Raises:
        SkipDocument: there is nothing to index: the format is not handled, the data is binary,
            or no text is left.
    """
    extension = PurePosixPath(without_compression(uri)).suffix.lower()
    parser = _PARSERS.get(extension)
    if parser is None:
        raise SkipDocument(SkipReason.UNSUPPORTED, extension)
    if not data:
        raise SkipDocument(SkipReason.EMPTY)
    document = parser(uri, decompress(uri, data))
    if not document.text or document.text.isspace():
        raise SkipDocument(SkipReason.NO_TEXT)
    return document
