"""Open an OpenDocument file: a ZIP file of XML parts, or one flat XML document."""

import io
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from indexer.parse.base.fields import with_lists
from indexer.parse.base.titles import is_junk_title
from indexer.parse.office.ooxml import (
    PART_ERRORS,
    Element,
    attribute,
    local,
    parse_xml,
    read_member,
)
from indexer.skip import SkipDocument, SkipReason

_METADATA: Final = {
    "initial-creator": "author",
    "creator": "author",
    "keyword": "keywords",
    "subject": "subject",
    "creation-date": "date",
    "date": "date",
}
"""Element of the metadata to the name of the field; the first that is there counts."""
_BODIES: Final = ("text", "presentation", "spreadsheet", "drawing")


class OpenDocument:
    """An open file, whose parts are read on demand."""

    def __init__(self, data: bytes) -> None:
        """Open a file.

        Raises:
            SkipDocument: the file is encrypted, or too large.
            Exception: the file is damaged.
        """
        self._zip = zipfile.ZipFile(io.BytesIO(data)) if data.startswith(b"PK") else None
        if self._zip is None:
            self._content = parse_xml(data)
        else:
            self._refuse_encrypted()
            self._content = self._read("content.xml")

    def _read(self, name: str) -> Element:
        """Return the root element of a part; a flat file is one part of all names."""
        if self._zip is None:
            return self._content
        return parse_xml(read_member(self._zip, name))

    def _refuse_encrypted(self) -> None:
        try:
            manifest = self._read("META-INF/manifest.xml")
        except PART_ERRORS:
            return
        for node in manifest.iter():
            if local(node) == "encryption-data":
                raise SkipDocument(SkipReason.ENCRYPTED)

    def body(self) -> tuple[str, Element]:
        """Return what kind of document it is, and its content.

        Raises:
            SkipDocument: there is no content.
        """
        for body in children(self._content, "body"):
            for node in body:
                if local(node) in _BODIES:
                    return local(node), node
        raise SkipDocument(SkipReason.DAMAGED, "no document in it")

    def styles(self) -> Iterable[Element]:
        """Yield the elements that hold styles; damaged ones are left out."""
        roots = [self._content]
        if self._zip is not None:
            with suppress(*PART_ERRORS):
                roots.append(self._read("styles.xml"))
        for root in roots:
            for node in root:
                if local(node) in {"automatic-styles", "styles"}:
                    yield node

    def embedded(self, reference: str) -> Element | None:
        """Return the content of an embedded object, such as a chart; None if it isn't there."""
        name = reference.removeprefix("./").rstrip("/") + "/content.xml"
        if self._zip is None or name not in self._zip.NameToInfo:
            return None
        return self._read(name)

    def about(self) -> tuple[str, list[tuple[str, object]]]:
        """Return the title of the file's properties, and its metadata.

        The title is empty if a program wrote it. Damaged properties count as none.
        """
        root: Element | None = self._content
        if self._zip is not None:
            try:
                root = self._read("meta.xml")
            except PART_ERRORS:
                root = None
        title, found = "", list[tuple[str, str]]()
        keywords: list[str] = []
        for meta in () if root is None else children(root, "meta"):
            for node in meta:
                text = node.text or ""
                if local(node) == "title":
                    title = title or text
                elif local(node) == "keyword":
                    keywords.append(text)
                elif local(node) in _METADATA:
                    found.append((local(node), text))
        found.append(("keyword", ";".join(keywords)))
        named = [
            (_METADATA[name], text) for key in _METADATA for name, text in found if name == key
        ]
        return "" if is_junk_title(title) else title, list(with_lists(named))


def children(node: Element, name: str) -> Iterable[Element]:
    """Yield the children of a name."""
    return (child for child in node if local(child) == name)


def repeats(node: Element, name: str) -> int:
    """Return how often a cell or row is repeated, or how many rows or columns it spans."""
    value = attribute(node, name)
    return max(1, int(value)) if value.isdecimal() and len(value) < len(str(1 << 31)) else 1
