"""Filters as trees, which ``language`` parses and each store translates into its own form."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, get_args

from retrieval.store.filters.values import Value

FieldKind = Literal["text", "path", "extension", "number", "time", "metadata"]
"""How the values of a field are compared; metadata are compared by the type of each value."""

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
"""Fields that every document has; any other name is a field of the metadata."""

Operator = Literal["=", "<", "<=", ">", ">="]
OPERATORS: Final[tuple[Operator, ...]] = get_args(Operator)


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a document."""

    name: str
    """The name in lower case."""
    kind: FieldKind
    keys: tuple[str, ...] = ()
    """For metadata, the names under which the value may be stored."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A value of the field has the same type as the given value and compares to it as stated."""

    field: Field
    operator: Operator
    value: Value


@dataclass(frozen=True, slots=True)
class In:
    """A value of the field equals one of the given values."""

    field: Field
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Glob:
    """The pattern matches a value of the field."""

    field: Field
    pattern: str


@dataclass(frozen=True, slots=True)
class Exists:
    """The document's metadata have the field."""

    field: Field


@dataclass(frozen=True, slots=True)
class Not:
    """The document does not pass the condition."""

    condition: "Condition"


@dataclass(frozen=True, slots=True)
class And:
    """The document passes all of the conditions, of which there are at least two."""

    conditions: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class Or:
    """The document passes at least one of the conditions, of which there are at least two."""

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
