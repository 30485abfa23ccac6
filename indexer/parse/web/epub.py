"""EPUB 2 and 3 (https://www.w3.org/TR/epub-33): the XHTML files of a book in reading order."""

import io
import posixpath
import zipfile
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote

from selectolax.lexbor import LexborHTMLParser

from indexer.parse.base.compose import Composer
from indexer.parse.office.ooxml import Element, attribute, local, parse_xml, read_member
from indexer.parse.web.html_source import read_markup
from indexer.parse.web.html_text import extract_text
from indexer.skip import SkipDocument, SkipReason, parser_errors_as_damage
from retrieval.domain.records import Document

_CONTAINER: Final = "META-INF/container.xml"
_ENCRYPTION: Final = "META-INF/encryption.xml"
_METADATA: Final = {
    "creator": "author",
    "date": "date",
    "language": "lang",
    "publisher": "publisher",
    "subject": "keywords",
    "description": "description",
}


def parse_epub(uri: str, data: bytes) -> Document:
    """Make a document of a book, with sections by headings as in HTML.

    A chapter that can't be read is named in the metadata, and the others are read.

    Raises:
        SkipDocument: the file is damaged, or encrypted by a shop (DRM).
    """
    composer = Composer()
    with parser_errors_as_damage():
        archive = zipfile.ZipFile(io.BytesIO(data))
        path = _package_path(archive)
        package = parse_xml(read_member(archive, path))
        chapters = list(_spine(package, posixpath.dirname(path)))
        if _encrypted(archive) & set(chapters):
            raise SkipDocument(SkipReason.ENCRYPTED, "protected by its publisher")
    problem = None
    for chapter in chapters:
        try:
            with parser_errors_as_damage():
                _add_chapter(composer, read_member(archive, chapter))
        except SkipDocument as skip:
            problem = skip
            composer.unread(chapter)
    if problem is not None and not composer.length:
        raise problem
    found = [
        (local(node), node.text or "")
        for part in package
        if local(part) == "metadata"
        for node in part
    ]
    titles = [text for name, text in found if name == "title"]
    metadata: dict[str, list[str]] = {}
    for name, text in found:
        if name in _METADATA:
            metadata.setdefault(_METADATA[name], []).append(text)
    fields = [(name, texts if len(texts) > 1 else texts[0]) for name, texts in metadata.items()]
    return composer.document(uri, "epub", titles, fields)


def _package_path(archive: zipfile.ZipFile) -> str:
    for node in parse_xml(read_member(archive, _CONTAINER)).iter():
        if local(node) == "rootfile":
            return attribute(node, "full-path")
    raise SkipDocument(SkipReason.DAMAGED, "no book in it")


def _spine(package: Element, folder: str) -> Iterator[str]:
    """Yield the names of the book's files in reading order."""
    hrefs = {}
    for node in package.iter():
        if local(node) == "item":
            href = unquote(attribute(node, "href").partition("#")[0])
            hrefs[attribute(node, "id")] = posixpath.normpath(posixpath.join(folder, href))
        elif local(node) == "itemref" and attribute(node, "idref") in hrefs:
            yield hrefs[attribute(node, "idref")]


def _encrypted(archive: zipfile.ZipFile) -> set[str]:
    """Return the names of the encrypted files, which may be fonts only."""
    if _ENCRYPTION not in archive.NameToInfo:
        return set()
    nodes = parse_xml(read_member(archive, _ENCRYPTION)).iter()
    return {unquote(attribute(node, "URI")) for node in nodes if local(node) == "CipherReference"}


def _add_chapter(composer: Composer, data: bytes) -> None:
    source, _ = read_markup(data, xml=True)
    root = LexborHTMLParser(source).root
    extracted = extract_text(root, whole=True)
    text, headings = extracted.text, extracted.headings
    start = 0
    for heading in headings:
        composer.add(text[start : heading.char_start])
        composer.begin_section(heading.level, heading.title)
        start = heading.char_start
    composer.add(text[start:])
