"""Fields that people give a document in a file beside it, ``report.html.meta.json`` or the like.

A sidecar is a JSON object whose values are texts, numbers, true or false, or lists of those. Its
fields go before the document's own; ``title`` is the document's title.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from indexer.parse.outline import MAX_HEADING_CHARS, MAX_METADATA, bounded_metadata, one_line
from indexer.skip import SkipDocument, SkipReason
from retrieval.records import Document

SUFFIX: Final = ".meta.json"
"""Of the document's whole name."""

MAX_BYTES: Final = 64 * 1024


def with_sidecar(document: Document, data: bytes) -> Document:
    """A document with the fields of its sidecar.

    Args:
        document: as parsed.
        data: the sidecar's bytes.

    Raises:
        SkipDocument: the sidecar is not what it should be. The document must not be found without
            the fields that somebody may filter by.
    """
    fields = dict(_fields(data))
    title = one_line(fields.pop("title", "")) or document.title
    metadata = bounded_metadata([*fields.items(), *document.metadata.items()])
    return replace(document, title=title, metadata=metadata)


def _fields(data: bytes) -> Iterator[tuple[str, str]]:
    """Names in small letters, and values as text."""
    if len(data) > MAX_BYTES:
        raise _bad(f"has more than {MAX_BYTES} bytes")
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _bad(f"is no JSON: {one_line(str(error))}") from error
    if not isinstance(fields, Mapping):
        raise _bad('must hold an object such as {"team": "search"}')
    if len(fields) > MAX_METADATA:
        raise _bad(f"has more than {MAX_METADATA} fields")
    for name, value in fields.items():
        items = value if isinstance(value, list) else [value]
        text = ", ".join(_scalar(name, item) for item in items)
        if max(len(name), len(text)) > MAX_HEADING_CHARS:
            raise _bad(
                f"field {one_line(name)[:40]!r} has more than {MAX_HEADING_CHARS} characters"
            )
        yield name.lower(), text


def _scalar(name: str, value: object) -> str:
    """As metadata holds it: ``true`` and ``2.5`` as JSON writes them."""
    if value is None:
        return ""
    if not isinstance(value, str | int | float):
        raise _bad(f"field {one_line(name)!r} must be a text, a number, true, false, or a list")
    return value if isinstance(value, str) else json.dumps(value)


def _bad(what: str) -> SkipDocument:
    return SkipDocument(SkipReason.BAD_SIDECAR, f"its {SUFFIX} file {what}")
