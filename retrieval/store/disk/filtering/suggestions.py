"""Fields and values that exist, for people who write filters."""

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any, Final

from retrieval.domain.records import FieldInfo, FieldValue
from retrieval.errors import InvalidArgument
from retrieval.store.disk.filtering.conditions import COLUMNS
from retrieval.store.disk.tables.rows import FIELD_NAMES_QUERY
from retrieval.store.filters.language import equality, metadata_name, parse_field
from retrieval.store.filters.tree import BUILT_IN
from retrieval.store.filters.values import Kind, read_number

Rows = Callable[[str, Sequence[Any]], list[Any]]

LISTED: Final = frozenset({"text", "path", "extension"})
"""Kinds of built-in fields that several documents can share a value of."""


def list_fields(rows: Rows) -> list[FieldInfo]:
    """Return the fields that filters can compare: the built-in ones, then those of metadata."""
    built_in = [FieldInfo(name, True, kind in LISTED) for name, kind in BUILT_IN.items()]
    names = (metadata_name(row[0]) for row in rows(FIELD_NAMES_QUERY, []))
    return [*built_in, *(FieldInfo(name, False, True) for name in names)]


def list_values(rows: Rows, name: str, containing: str, limit: int) -> list[FieldValue]:
    """Return values of a field, the most frequent first.

    Args:
        rows: reads rows of the index.
        name: the field as a filter names it.
        containing: a part of the values, in any case; empty for all.
        limit: maximum number of values.

    Raises:
        InvalidArgument: the name is malformed, or values of the field are not listed.
    """
    field = parse_field(name)
    if field.kind == "metadata":
        return list(_metadata_values(rows, name, field.keys, containing, limit))
    if field.kind not in LISTED:
        raise InvalidArgument(
            f"values of {field.name} are not listed: compare it, as in '{field.name}>…'",
            field="field",
        )
    column = COLUMNS[field.name]
    found = rows(
        f"""SELECT {column}, count(*) FROM documents d WHERE {_CONTAINS.format(column)}
            GROUP BY {column} ORDER BY 2 DESC, 1 LIMIT ?""",
        [containing, containing, limit],
    )
    return [FieldValue(text, count, equality(name, text)) for text, count in found]


_CONTAINS: Final = "(? = '' OR instr(lower({0}), lower(?)))"
"""SQLite's ``lower`` changes the letters of ASCII only."""


def _metadata_values(
    rows: Rows, name: str, keys: Sequence[str], containing: str, limit: int
) -> Iterator[FieldValue]:
    marks = ", ".join("?" * len(keys))
    # It reads an index of these columns alone: 0.1 to 0.4 s for a million values.
    found = rows(
        f"""SELECT kind, text, count(*) FROM metadata_values
            WHERE key IN ({marks}) AND kind != ? AND {_CONTAINS.format("text")}
            GROUP BY kind, text ORDER BY 3 DESC, 2, 1 LIMIT ?""",
        [*keys, Kind.OBJECT, containing, containing, limit],
    )
    for kind, text, count in found:
        written = text
        if kind == Kind.NUMBER and read_number(text) is None:
            query = f"""SELECT number FROM metadata_values
                        WHERE key IN ({marks}) AND kind = ? AND text = ? LIMIT 1"""
            written = decimal_text(rows(query, [*keys, kind, text])[0][0])
        yield FieldValue(text, count, equality(name, written) if written else "")


def decimal_text(number: float) -> str:
    """Return a number as filters write it; empty if they can't."""
    text = format(Decimal(repr(number)), "f")
    return text if read_number(text) == number else ""
