"""Office Open XML packages (ECMA-376): ZIP files of XML parts that are related to each other."""

import io
import posixpath
import zipfile
from collections.abc import Iterator
from typing import Final, NamedTuple

from lxml import etree

from indexer.parse.base.fields import with_lists
from indexer.skip import SkipDocument, SkipReason

MAX_PART_BYTES: Final = 256 << 20
"""A larger part makes the document go over a limit."""

_OLD_OFFICE: Final = bytes.fromhex("d0cf11e0a1b11ae1")
"""How a compound file begins: Office's formats before 2007, and encrypted new ones."""
_ENCRYPTED: Final = "EncryptedPackage".encode("utf-16-le")

_METADATA: Final = {
    "creator": "author",
    "keywords": "keywords",
    "subject": "subject",
    "created": "date",
}
"""Core property → metadata."""

Element = etree._Element


class Relation(NamedTuple):
    """Where a part says that another one is."""

    id: str
    kind: str
    """Last part of the type's URI: ``styles``, ``slide`` ..."""
    target: str
    """The other part's name."""


class Package:
    """An open package; its parts are read when they are asked for."""

    def __init__(self, data: bytes) -> None:
        """Open a package.

        Args:
            data: the file.

        Raises:
            SkipDocument: it is encrypted, or of an old format.
            zipfile.BadZipFile: it is damaged.
        """
        refuse_old_office(data)
        self._zip = zipfile.ZipFile(io.BytesIO(data))

    def main_part(self) -> str:
        """Name of the part that the package is about.

        Raises:
            SkipDocument: there is none.
        """
        for relation in self.relations(""):
            if relation.kind == "officeDocument":
                return relation.target
        raise SkipDocument(SkipReason.DAMAGED, "no document in it")

    def relations(self, part: str) -> list[Relation]:
        """The parts that one is related to, those outside the package left out."""
        folder, name = posixpath.split(part)
        path = posixpath.join(folder, "_rels", f"{name}.rels")
        if path not in self._zip.NameToInfo:
            return []
        return [
            Relation(
                node.get("Id", ""),
                node.get("Type", "").rpartition("/")[2],
                posixpath.normpath(posixpath.join("/", folder, node.get("Target", ""))).lstrip("/"),
            )
            for node in self.read(path)
            if node.get("TargetMode") != "External"
        ]

    def read(self, part: str) -> Element:
        """Root element of a part.

        Raises:
            KeyError: there is no such part.
            etree.XMLSyntaxError: it is no XML.
            SkipDocument: it is too large, or encrypted.
        """
        return parse_xml(read_member(self._zip, part))

    def read_related(self, part: str, kind: str) -> Iterator[Element]:
        """Root elements of the parts that one is related to in some way."""
        for relation in self.relations(part):
            if relation.kind == kind and relation.target in self._zip.NameToInfo:
                yield self.read(relation.target)

    def _properties(self) -> dict[str, str]:
        """The core properties: title, creator, created and so on."""
        for root in self.read_related("", "core-properties"):
            return {local(node): node.text or "" for node in root}
        return {}

    def about(self) -> tuple[str, list[tuple[str, object]]]:
        """What the package says about itself: its title, and metadata as other formats have it."""
        properties = self._properties()
        metadata = [(key, properties.get(name, "")) for name, key in _METADATA.items()]
        return properties.get("title", ""), list(with_lists(metadata))


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Bytes of a file in a ZIP file that is a document.

    Raises:
        KeyError: there is no such file.
        SkipDocument: it is too large, or encrypted.
    """
    info = archive.getinfo(name)
    if info.flag_bits & 1:
        raise SkipDocument(SkipReason.ENCRYPTED)
    if info.file_size > MAX_PART_BYTES:
        detail = f"a part of {info.file_size} bytes, at most {MAX_PART_BYTES}"
        raise SkipDocument(SkipReason.OVER_LIMIT, detail)
    return archive.read(info)


def parse_xml(data: bytes) -> Element:
    """Root element of an XML document; no entity is expanded, and nothing else is read.

    Raises:
        etree.XMLSyntaxError: it is no XML, or nested more than 256 deep.
    """
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True
    )
    return etree.fromstring(data, parser)


def local(node: Element) -> str:
    """An element's name without its namespace."""
    return str(node.tag).rpartition("}")[2]


def attribute(node: Element, name: str) -> str:
    """Value of an attribute, by its name without the namespace; empty if there is none."""
    for key, value in node.items():
        if str(key).rpartition("}")[2] == name:
            return str(value)
    return ""


def refuse_old_office(data: bytes) -> None:
    """Tell apart what only has the name of a newer format.

    Raises:
        SkipDocument: the file is encrypted, or of a format before 2007.
    """
    if data.startswith(_OLD_OFFICE):
        if _ENCRYPTED in data:
            raise SkipDocument(SkipReason.ENCRYPTED)
        raise SkipDocument(SkipReason.DAMAGED, "a format of Office before 2007; save it anew")
