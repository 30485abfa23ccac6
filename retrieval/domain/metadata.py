"""Metadata of a document, as typed JSON values, and the names and texts of its fields.

Field names are in lower case. A field of a nested object has a path such as ``author.name``. All
elements of a list are values of the list's field.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

Scalar = str | int | float | bool
"""A single value. Numbers are finite. There is no null: a field without a value is left out."""

MetadataValue = Scalar | Sequence["MetadataValue"] | Mapping[str, "MetadataValue"]

Metadata = Mapping[str, MetadataValue]
"""Values by field name."""

MAX_EXACT_INT: Final = 2**53
"""Integers up to this one, and down to its negative, are exact as doubles."""


def scalar_text(value: Scalar) -> str:
    """Return a value as text; booleans and numbers as JSON writes them (``true``, ``2.5``)."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else repr(value)


def flat_texts(metadata: Metadata) -> dict[str, str]:
    """Return the texts of all fields by path, for readers that know only texts.

    The scalars of a list are joined by commas. If several objects of a list have a field, its text
    is that of the first.
    """
    texts: dict[str, str] = {}
    for path, text in flat_pairs(metadata):
        texts.setdefault(path, text)
    return texts


def flat_pairs(metadata: Metadata) -> Iterator[tuple[str, str]]:
    """Yield (path in lower case, text) of every scalar; the scalars of a list make one text."""
    for name, value in metadata.items():
        yield from _flat(field_name(name), value)


def _flat(path: str, value: MetadataValue) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _flat(f"{path}.{field_name(name)}", part)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        scalars = [scalar_text(part) for part in value if isinstance(part, str | int | float)]
        if scalars:
            yield path, ", ".join(scalars)
        for part in value:
            if not isinstance(part, str | int | float):
                yield from _flat(path, part)
    else:
        yield path, scalar_text(value)


def leaves(metadata: Metadata) -> Iterator[tuple[str, Scalar | None]]:
    """Yield (path in lower case, scalar) of every scalar, and (path, None) of every object."""
    for name, value in metadata.items():
        yield from _leaves(field_name(name), value)


def _leaves(path: str, value: MetadataValue) -> Iterator[tuple[str, Scalar | None]]:
    if isinstance(value, Mapping):
        yield path, None
        for name, part in value.items():
            yield from _leaves(f"{path}.{field_name(name)}", part)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for part in value:
            yield from _leaves(path, part)
    else:
        yield path, value


def field_name(name: str) -> str:
    """Return a field's name as it is looked up: in lower case, with single spaces."""
    return " ".join(name.split()).lower()


def as_doubles(value: MetadataValue) -> MetadataValue:
    """Return a value whose numbers are all exact as doubles: larger integers become texts."""
    if isinstance(value, Mapping):
        return {name: as_doubles(part) for name, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [as_doubles(part) for part in value]
    if isinstance(value, int) and abs(value) > MAX_EXACT_INT:
        return str(value)
    return value


def from_doubles(value: object) -> MetadataValue:
    """Return a value that was transferred as doubles: whole numbers become integers again."""
    if isinstance(value, Mapping):
        return {str(name): from_doubles(part) for name, part in value.items() if part is not None}
    if isinstance(value, float):
        whole = math.isfinite(value) and value.is_integer() and abs(value) <= MAX_EXACT_INT
        return int(value) if whole else value
    if isinstance(value, str | bool | int):
        return value
    if isinstance(value, Sequence):
        return [from_doubles(part) for part in value if part is not None]
    return str(value)
