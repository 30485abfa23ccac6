"""Sidecars: files with metadata beside a document, such as ``report.html.meta.json``.

A sidecar is a JSON object. Its fields take precedence over the document's own, and ``title`` is the
document's title.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from indexer.parse.base.fields import (
    MAX_METADATA,
    MAX_METADATA_DEPTH,
    MAX_METADATA_VALUES,
    bounded_metadata,
    read_json,
)
from indexer.parse.base.outline import MAX_HEADING_CHARS, one_line
from indexer.skip import SkipDocument, SkipReason
from retrieval.domain.metadata import flat_texts
from retrieval.domain.records import Document

SUFFIX: Final = ".meta.json"
"""Follows the whole name of the document, its extension included."""

MAX_BYTES: Final = 64 * 1024
"""Larger sidecars are refused: one with all the values that are kept, each of usual length, has
less."""


def with_sidecar(document: Document, data: bytes) -> Document:
    """Return a document with the fields of its sidecar.

    Args:
        document: the document as it was parsed.
        data: bytes of the sidecar.

    Raises:
        SkipDocument: the sidecar is malformed. The document is skipped then, because a search that
            filters by the missing fields would not treat it as its author meant.
    """
    try:
        return with_fields(document, _fields(data))
    except FieldsError as error:
        raise SkipDocument(SkipReason.BAD_SIDECAR, f"its {SUFFIX} file {error}") from error


class FieldsError(ValueError):
    """Fields that would not be kept whole; the message goes on after the name of their source."""


def with_fields(document: Document, fields: Mapping[str, object]) -> Document:
    """Return a document with fields that take precedence over its own.

    Args:
        document: the document as it was parsed.
        fields: values as in JSON; ``title`` is the document's title. Names are taken in lower case.

    Raises:
        FieldsError: see ``check_fields``.
    """
    check_fields(fields)
    fields = {name.lower(): value for name, value in fields.items()}
    title = one_line(flat_texts(bounded_metadata(fields.items())).get("title", ""))
    fields.pop("title", None)
    metadata = bounded_metadata([*fields.items(), *document.metadata.items()])
    return replace(document, title=title or document.title, metadata=metadata)


def check_fields(fields: Mapping[str, object]) -> None:
    """Refuse fields that would not be kept whole.

    Raises:
        FieldsError: there are too many, or one is too long or nested too deeply.
    """
    if len(fields) > MAX_METADATA:
        raise FieldsError(f"has more than {MAX_METADATA} fields")
    if sum(_count(name, value, 0) for name, value in fields.items()) > MAX_METADATA_VALUES:
        raise FieldsError(f"has more than {MAX_METADATA_VALUES} values")


def _fields(data: bytes) -> Mapping[str, object]:
    if len(data) > MAX_BYTES:
        raise FieldsError(f"has more than {MAX_BYTES} bytes")
    try:
        fields = read_json(data)
    except (ValueError, RecursionError) as error:
        raise FieldsError(f"is not JSON: {one_line(str(error))}") from error
    if not isinstance(fields, Mapping):
        raise FieldsError('must be an object such as {"team": "search"}')
    return fields


def _count(name: str, value: object, depth: int) -> int:
    """Return the number of values in a value; refuse a value that would not be kept whole."""
    shown = repr(one_line(name)[:40])
    if depth > MAX_METADATA_DEPTH:
        raise FieldsError(f"has field {shown} nested more than {MAX_METADATA_DEPTH} deep")
    longest = max(len(name), len(value) if isinstance(value, str) else 0)
    if longest > MAX_HEADING_CHARS:
        raise FieldsError(f"has field {shown} of more than {MAX_HEADING_CHARS} characters")
    if isinstance(value, Mapping):
        return sum(_count(key, part, depth + 1) for key, part in value.items())
    if isinstance(value, list):
        return sum(_count(name, part, depth + 1) for part in value)
    return 1
