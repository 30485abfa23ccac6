"""Filters as trees: ``language`` parses them, and each store emits its own form of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, get_args

from retrieval.store.filters.values import Value

FieldKind = Literal["text", "path", "extension", "number", "time", "metadata"]
"""How the values of a field compare; metadata compare by the type of each value."""

BUILT_IN: Final[dict[str, FieldKind]] = {
    "path": "path",
    "uri": "path",
    "root": "text",
    "title": "text",
    "format": "text",
    "encoding": "text",
    "extension": "extension",
    "size": "number",
    "characters": "number",
    "chunks": "number",
    "modified": "time",
}
"""The fields that every document has; every other name is a field of its metadata."""

Operator = Literal["=", "<", "<=", ">", ">="]
OPERATORS: Final[tuple[Operator, ...]] = get_args(Operator)


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a document."""

    name: str
    """In lower case."""
    kind: FieldKind
    keys: tuple[str, ...] = ()
    """For metadata: the names that it may have there."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A value of the field has the type of the given one, and compares to it as wanted."""

    field: Field
    operator: Operator
    value: Value


@dataclass(frozen=True, slots=True)
class In:
    """A value of the field equals one of the given ones."""

    field: Field
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Glob:
    """The pattern matches a value of the field."""

    field: Field
    pattern: str


@dataclass(frozen=True, slots=True)
class Exists:
    """The document has the field, which is one of its metadata."""

    field: Field


@dataclass(frozen=True, slots=True)
class Not:
    """The document does not pass another condition."""

    condition: "Condition"


@dataclass(frozen=True, slots=True)
class And:
    """The document passes all of at least two conditions."""

    conditions: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class Or:
    """The document passes at least one of two or more conditions."""

    conditions: tuple["Condition", ...]


Condition = Comparison | In | Glob | Exists | Not | And | Or


def fields_of(condition: Condition) -> Iterator[Field]:
    """Yield the field of each comparison, from left to right."""
    match condition:
        case And(conditions) | Or(conditions):
            for part in conditions:
                yield from fields_of(part)
        case Not(part):
            yield from fields_of(part)
        case _:
            yield condition.field
