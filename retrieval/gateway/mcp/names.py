"""Names of documents for assistants, which are URIs of resources: ``retrieval://collection/uri``.

A fragment ``#char=120,480`` (RFC 5147) names a part of the text, so that a search can point to a
passage. A document whose URI is very long goes by its resource name instead.
"""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

from retrieval.domain.resource_names import COLLECTION_ID, DEFAULT_COLLECTION, own_name

SCHEME: Final = "retrieval"
TEMPLATE: Final = "retrieval://{collection}/{+uri}"
"""Of the URIs, as RFC 6570 writes templates."""
MAX_NAME_CHARS: Final = 2_000
"""Longest URI, in ASCII, that an answer of 20,000 characters has room for a few times."""

_ESCAPED: Final = re.compile(r"[\x00-\x20\x7f%#?\"<>\\^`{|}]")
"""What a URI must not have as it is. Letters of other scripts stay, for models to copy them."""
_OF_URIS: Final = "".join(map(chr, range(0x21, 0x7F)))
_URI: Final = re.compile(rf"{SCHEME}://(?P<collection>[^/?#]*)/(?P<uri>.+)", re.DOTALL)
_NAME: Final = re.compile(rf"(?P<document>collections/{COLLECTION_ID}/documents/[0-9]+)")
_PASSAGE: Final = re.compile(rf"{_NAME.pattern}/passages/[0-9]+")
_PART: Final = re.compile(r"#char=(?P<start>[0-9]{1,15})(?:,(?P<end>[0-9]{1,15})?)?\Z")


@dataclass(frozen=True, slots=True)
class Reference:
    """A document that an assistant names, and maybe a place in it."""

    collection: str = ""
    uri: str = ""
    """Within the collection; empty if ``name`` names the document."""
    name: str = ""
    """The document's resource name, or that of one of its passages."""
    start: int | None = None
    """Number of characters before the part that is meant; None for the whole document."""
    end: int | None = None
    """Number of characters up to the end of that part; None for the end of the document."""

    @property
    def is_passage(self) -> bool:
        """Whether ``name`` is that of a passage."""
        return _PASSAGE.fullmatch(self.name) is not None


def document_id(name: str, uri: str) -> str:
    """Return how assistants name a document.

    Args:
        name: the resource name of the document, or of one of its passages.
        uri: the document's URI within its collection.
    """
    collection, _, rest = own_name(name).partition("/")
    made = f"{SCHEME}://{collection}/{_ESCAPED.sub(_escape, uri)}"
    if len(as_uri(made)) > MAX_NAME_CHARS:
        return "collections/" + collection + "/" + "/".join(rest.split("/")[:2])
    return made


def part_id(document: str, start: int, end: int) -> str:
    """Return how assistants name a part of a document: characters from start to end."""
    return f"{document}#char={start},{end}"


def as_uri(document: str) -> str:
    """Return a document's id as a URI in ASCII, as the resources of the protocol have it."""
    absolute = document if document.startswith(f"{SCHEME}://") else f"{SCHEME}:{document}"
    return quote(absolute, safe=_OF_URIS)


def parse(given: str) -> Reference:
    """Return the document that an assistant names.

    Args:
        given: an id as searches return it, a resource name, or a URI of the collection ``default``.
    """
    text = given.strip()
    part = _PART.search(text)
    start = int(part["start"]) if part else None
    end = int(part["end"]) if part and part["end"] else None
    whole = text[: part.start()] if part else text
    if found := _URI.fullmatch(whole):
        return Reference(found["collection"], unquote(found["uri"]), start=start, end=end)
    name = whole.removeprefix(f"{SCHEME}:")
    if _NAME.fullmatch(name) or _PASSAGE.fullmatch(name):
        return Reference(name=name, start=start, end=end)
    return Reference(DEFAULT_COLLECTION, text)


def _escape(found: re.Match[str]) -> str:
    return f"%{ord(found[0]):02X}"
