"""Metadata of documents: turn what parsers find into JSON values with types, within limits."""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from indexer.parse.base.outline import MAX_HEADING_CHARS, one_line
from retrieval.domain.metadata import Metadata, MetadataValue, Scalar

MAX_METADATA: Final = 64
"""Maximum number of fields of a document; a text has at most ``MAX_HEADING_CHARS`` characters.
Metadata is sent with every search result, so it must stay small."""
MAX_METADATA_VALUES: Final = 1_000
"""Maximum number of values in a document's fields, counting those in lists and objects."""
MAX_METADATA_DEPTH: Final = 8
"""Maximum depth of lists and objects in each other; deeper ones become text."""

UNREAD: Final = "unread"
"""Field that lists the parts of a file that could not be read, such as ``page 2``."""

_MAX_DIGITS: Final = 40
"""Longer integers become text: other programs can't read them back."""
_INTEGER: Final = re.compile(r"-?[0-9]+", re.ASCII)
# Not part of any text: control characters, lone surrogates, and noncharacters. White space stays.
_UNWANTED: Final = re.compile("[\x00-\x08\x0e-\x1b\x7f\ud800-\udfff\ufffe\uffff]")
LISTS: Final = frozenset({"keywords", "tags"})
"""Names of fields that are lists by custom."""


class Written(str):
    """A JSON number with its spelling."""

    __slots__ = ()

    @property
    def number(self) -> Scalar:
        """Its value, or its text if other programs could not read the value back."""
        if _INTEGER.fullmatch(self):
            return int(self) if len(self) <= _MAX_DIGITS else str(self)
        value = float(self)
        return value if math.isfinite(value) else str(self)


def read_json(source: str | bytes) -> Any:  # noqa: ANN401  (any JSON value)
    """Parse JSON; numbers become ``Written``, and ``NaN`` and ``Infinity`` become text.

    Raises:
        ValueError, RecursionError: the source is not JSON.
    """
    return json.loads(source, parse_int=Written, parse_float=Written, parse_constant=str)


def bounded_metadata(pairs: Iterable[tuple[str, object]]) -> Metadata:
    """Return the first value of each key, within the limits above; keys become lower case.

    Args:
        pairs: names and values. A value is a text, number, boolean, list or object; None and empty
            texts, lists and objects are left out.
    """
    metadata: dict[str, MetadataValue] = {}
    bounds = _Bounds()
    for key, value in pairs:
        if len(metadata) == MAX_METADATA:
            break
        name = _clean(key).lower()
        if name and name not in metadata and (kept := bounds.keep(value, 0)) is not None:
            metadata[name] = kept
    return metadata


class _Bounds:
    """Keeps values as long as the limits allow, and counts them."""

    def __init__(self) -> None:
        self._values = 0

    def keep(self, value: object, depth: int) -> MetadataValue | None:
        """Return what is kept of a value; None if nothing is."""
        if self._values >= MAX_METADATA_VALUES:
            return None
        # Most values are texts; looking whether one is a mapping takes far longer.
        if isinstance(value, str) or not isinstance(value, Mapping | list | tuple):
            scalar = _scalar(value)
            self._values += scalar is not None
            return scalar
        if depth >= MAX_METADATA_DEPTH:
            return self.keep(json.dumps(value, ensure_ascii=False), depth)
        parts = (
            self._object(value, depth)
            if isinstance(value, Mapping)
            else [kept for part in value if (kept := self.keep(part, depth + 1)) is not None]
        )
        return parts or None

    def _object(self, value: Mapping[Any, object], depth: int) -> dict[str, MetadataValue]:
        fields: dict[str, MetadataValue] = {}
        for key, part in value.items():
            name = _clean(str(key))
            if name and name not in fields and (kept := self.keep(part, depth + 1)) is not None:
                fields[name] = kept
        return fields


def _scalar(value: object) -> Scalar | None:
    if value.__class__ is str:
        return _clean(value) or None
    if isinstance(value, Written):
        value = value.number
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < 10**_MAX_DIGITS else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return None if value is None else _clean(str(value)) or None


def _clean(text: str) -> str:
    if len(text) <= MAX_HEADING_CHARS and text.isprintable() and "  " not in text:
        return text.strip()
    return one_line(_UNWANTED.sub("", text[: 8 * MAX_HEADING_CHARS]))


def with_lists(pairs: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str | Sequence[str]]]:
    """Split the fields that are lists by custom, ``keywords`` and ``tags``.

    Formats whose fields are all texts separate the parts by commas or semicolons.
    """
    for key, text in pairs:
        listed = key.strip().lower() in LISTS
        yield key, split_list(text) if listed else text


def split_list(text: str) -> list[str]:
    """Return the parts of a text between semicolons, or between commas if it has no semicolon."""
    return [part.strip() for part in text.split(";" if ";" in text else ",")]
