"""Office Open XML packages (ECMA-376): ZIP files of XML parts with relations between them."""

import io
import posixpath
import zipfile
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

from lxml import etree

from indexer.parse.base.fields import with_lists
from indexer.parse.base.titles import is_junk_title
from indexer.skip import SkipDocument, SkipReason

MAX_PART_BYTES: Final = 256 << 20
"""Files with a larger part are skipped: its XML tree takes several times as much memory."""

_RELATIONS: Final = (
    "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}",
    "{http://purl.oclc.org/ooxml/officeDocument/relationships}",
)
"""Namespaces of references to relations, in both editions of the standard."""
_MAX_DIGITS: Final = 15

_METADATA: Final = {
    "creator": "author",
    "keywords": "keywords",
    "subject": "subject",
    "created": "date",
}
"""Core property to the name of the metadata field."""

PART_ERRORS: Final = (
    KeyError,
    NotImplementedError,
    ValueError,
    SkipDocument,
    zipfile.BadZipFile,
    zlib.error,
    etree.XMLSyntaxError,
)
"""What reading a part raises if it is missing, damaged or too large; only this part is lost."""

Element = etree._Element


class Relation(NamedTuple):
    """A relation of a part to another part."""

    id: str
    kind: str
    """Last segment of the type's URI, such as ``styles`` or ``slide``."""
    target: str
    """Name of the other part."""


class Package:
    """An open package, whose parts are read on demand."""

    def __init__(self, data: bytes) -> None:
        """Open a package.

        Args:
            data: the file.

        Raises:
            zipfile.BadZipFile: the file is damaged.
        """
        self._zip = zipfile.ZipFile(io.BytesIO(data))
        # Some programs write backslashes, and names in another case than the relations have.
        self._members = {_key(name): info for name, info in self._zip.NameToInfo.items()}

    def main_part(self) -> str:
        """Return the name of the main part, which holds the document.

        Raises:
            SkipDocument: there is no main part.
        """
        for relation in self.relations(""):
            if relation.kind == "officeDocument":
                return relation.target
        raise SkipDocument(SkipReason.DAMAGED, "no document in it")

    def main_type(self) -> str:
        """Return the media type of the main part, in lower case; empty if it isn't told.

        Raises:
            SkipDocument: there is no main part.
        """
        main = self.main_part().lower()
        extension = posixpath.splitext(main)[1].lstrip(".")
        default = ""
        types = "[Content_Types].xml"
        for node in self.read(types) if self.has(types) else ():
            if node.get("PartName", "").lower().lstrip("/") == main:
                return node.get("ContentType", "").lower()
            if node.get("Extension", "").lower() == extension:
                default = node.get("ContentType", "").lower()
        return default

    def relations(self, part: str) -> list[Relation]:
        """Return the relations of a part to other parts of the package."""
        folder, name = posixpath.split(part)
        path = posixpath.join(folder, "_rels", f"{name}.rels")
        if not self.has(path):
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

    def has(self, part: str) -> bool:
        """Whether there is a part of this name."""
        return _key(part) in self._members

    def member(self, part: str) -> str:
        """Return the name that a part has in the ZIP file."""
        return self._members[_key(part)].filename

    def read_bytes(self, part: str) -> bytes:
        """Return the bytes of a part; raises what ``read`` does."""
        return read_info(self._zip, self._members[_key(part)])

    def read(self, part: str) -> Element:
        """Return the root element of a part.

        Raises:
            KeyError: there is no such part.
            etree.XMLSyntaxError: the part is not XML.
            SkipDocument: the part is too large, or encrypted.
        """
        return parse_xml(self.read_bytes(part))

    def read_related(self, part: str, kind: str) -> Iterator[Element]:
        """Yield the root elements of the parts that have a kind of relation to a part."""
        for relation in self.relations(part):
            if relation.kind == kind and self.has(relation.target):
                yield self.read(relation.target)

    def _properties(self) -> dict[str, str]:
        """Return the core properties: title, creator, created and so on."""
        for root in self.read_related("", "core-properties"):
            return {local(node): node.text or "" for node in root}
        return {}

    def about(self) -> tuple[str, list[tuple[str, object]]]:
        """Return the title of the package, and its metadata under the names of all formats.

        The title is empty if a program wrote it. Damaged properties count as none.
        """
        try:
            properties = self._properties()
        except PART_ERRORS:
            properties = {}
        metadata = [(key, properties.get(name, "")) for name, key in _METADATA.items()]
        title = properties.get("title", "")
        return "" if is_junk_title(title) else title, list(with_lists(metadata))


def _key(name: str) -> str:
    """Return the name by which a part is found."""
    return name.replace("\\", "/").lower().lstrip("/")


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return the bytes of a member of a ZIP file that is a document.

    Raises:
        KeyError: there is no such member.
        SkipDocument: the member is too large, or encrypted.
    """
    return read_info(archive, archive.getinfo(name))


def read_info(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Return the bytes of a member; raises what ``read_member`` does."""
    if info.flag_bits & 1:
        raise SkipDocument(SkipReason.ENCRYPTED)
    if info.file_size > MAX_PART_BYTES:
        detail = f"a part of {info.file_size} bytes, at most {MAX_PART_BYTES}"
        raise SkipDocument(SkipReason.OVER_LIMIT, detail)
    return archive.read(info)


def parse_xml(data: bytes) -> Element:
    """Return the root element of an XML document, without expanding entities or loading files.

    Raises:
        etree.XMLSyntaxError: the data is not XML, or nested more than 256 deep.
    """
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True
    )
    return etree.fromstring(data, parser)


def local(node: Element) -> str:
    """Return the name of an element without its namespace."""
    return str(node.tag).rpartition("}")[2]


def attribute(node: Element, name: str) -> str:
    """Return an attribute by its name without the namespace; empty if there is none."""
    for key, value in node.items():
        if str(key).rpartition("}")[2] == name:
            return str(value)
    return ""


def number_of(node: Element, name: str, default: int = 0) -> int:
    """Return an attribute that is a whole number; the default if it is none."""
    value = attribute(node, name)
    digits = value.removeprefix("-")
    return int(value) if digits.isdecimal() and len(digits) <= _MAX_DIGITS else default


def relation_ids(node: Element) -> list[str]:
    """Return the ids of relations that an element refers to, as in ``r:id`` and ``r:embed``."""
    return [str(value) for key, value in node.items() if str(key).startswith(_RELATIONS)]


def whole_text(node: Element) -> str:
    """Return all text in an element."""
    return "".join(map(str, node.itertext()))
