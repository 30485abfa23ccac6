"""Resource names: ``collections/{c}``, ``…/documents/{d}``, ``…/passages/{n}``."""

import re
from dataclasses import dataclass

from retrieval.errors import InvalidArgument

DEFAULT_COLLECTION = "default"

COLLECTION_ID = r"[a-z0-9][a-z0-9_-]{0,62}"
"""Regular expression of a collection's name."""

COLLECTION_RULE = (
    "a collection's name has lower-case letters a-z, digits, _ and -, begins with a letter or a "
    "digit, and has at most 63 characters"
)
"""The same rule in words."""

_DOCUMENT_ID = r"[1-9][0-9]{0,18}"
_ORDINAL = r"0|[1-9][0-9]{0,9}"
_MAX_DOCUMENT_ID = 2**63 - 1
"""Largest id in SQLite."""
_MAX_ORDINAL = 2**31 - 1
"""Largest int32, the type of ordinals on the wire."""
_SHOWN_CHARS = 100
"""Characters of a malformed name that an error repeats."""

_COLLECTION = re.compile(rf"collections/({COLLECTION_ID})")
_DOCUMENT = re.compile(rf"collections/({COLLECTION_ID})/documents/({_DOCUMENT_ID})")
_PASSAGE = re.compile(rf"{_DOCUMENT.pattern}/passages/({_ORDINAL})")


@dataclass(frozen=True, slots=True)
class DocumentName:
    """A document's resource name, parsed."""

    collection: str
    document_id: int

    def __str__(self) -> str:
        """Return the name as it is on the wire."""
        return f"{collection_name(self.collection)}/documents/{self.document_id}"


@dataclass(frozen=True, slots=True)
class DocumentUri:
    """A document named by its URI within a collection."""

    collection: str
    uri: str


@dataclass(frozen=True, slots=True)
class PassageName:
    """A passage's resource name, parsed."""

    collection: str
    document_id: int
    ordinal: int

    def __str__(self) -> str:
        """Return the name as it is on the wire."""
        return f"{DocumentName(self.collection, self.document_id)}/passages/{self.ordinal}"


def collection_name(collection: str) -> str:
    """Return the resource name of a collection.

    Args:
        collection: the collection's own name, such as ``"default"``.
    """
    return f"collections/{collection}"


def own_name(name: str) -> str:
    """Return a collection's own name, from its resource name."""
    return name.removeprefix("collections/")


def parse_collection(name: str, *, field: str) -> str:
    """Parse a collection's resource name.

    Args:
        name: ``collections/{collection}``; empty means the collection ``default``.
        field: the request's field with the name, for the error.

    Returns:
        the collection's own name.

    Raises:
        InvalidArgument: the name is malformed.
    """
    if not name:
        return DEFAULT_COLLECTION
    match = _COLLECTION.fullmatch(name)
    if match is None:
        raise _malformed(name, "collections/{collection}", field)
    return match[1]


def parse_document(name: str, *, field: str) -> DocumentName:
    """Parse a document's resource name.

    Args:
        name: ``collections/{collection}/documents/{document}``.
        field: the request's field with the name, for the error.

    Raises:
        InvalidArgument: the name is malformed.
    """
    match = _DOCUMENT.fullmatch(name)
    if match is None or int(match[2]) > _MAX_DOCUMENT_ID:
        raise _malformed(name, "collections/{collection}/documents/{document}", field)
    return DocumentName(match[1], int(match[2]))


def parse_passage(name: str, *, field: str) -> PassageName:
    """Parse a passage's resource name.

    Args:
        name: ``collections/{collection}/documents/{document}/passages/{passage}``.
        field: the request's field with the name, for the error.

    Raises:
        InvalidArgument: the name is malformed.
    """
    match = _PASSAGE.fullmatch(name)
    if match is None or int(match[2]) > _MAX_DOCUMENT_ID or int(match[3]) > _MAX_ORDINAL:
        raise _malformed(
            name, "collections/{collection}/documents/{document}/passages/{passage}", field
        )
    return PassageName(match[1], int(match[2]), int(match[3]))


def lower_cased(collection: str) -> str:
    """Return the valid name that differs only in case or spaces, or an empty string."""
    proposed = re.sub(r"\s+", "-", collection.strip()).lower()
    return proposed if re.fullmatch(COLLECTION_ID, proposed) else ""


def check_own_name(collection: str, *, field: str) -> None:
    """Refuse a text that can't be a collection's own name; ``docs`` can.

    Args:
        collection: the name, without ``collections/``.
        field: where the name was given, for the error.

    Raises:
        InvalidArgument: the name is malformed; the message states the rule.
    """
    if re.fullmatch(COLLECTION_ID, collection):
        return
    proposed = lower_cased(collection)
    hint = f"; did you mean {proposed}?" if proposed else ""
    raise InvalidArgument(
        f"{collection!r} can't be a collection's name: {COLLECTION_RULE}{hint}", field=field
    )


def _malformed(name: str, form: str, field: str) -> InvalidArgument:
    shown = name if len(name) <= _SHOWN_CHARS else name[:_SHOWN_CHARS] + "…"
    message = f"{field} is {shown!r}; it must be of the form {form}"
    kind, _, collection = name.partition("/")
    own, slash, rest = collection.partition("/")
    if kind == "collections" and not re.fullmatch(COLLECTION_ID, own):
        message += f", and {COLLECTION_RULE}"
        proposed = lower_cased(own)
        if proposed:
            message += f"; did you mean {f'{kind}/{proposed}{slash}{rest}'!r}?"
    return InvalidArgument(message, field=field)
