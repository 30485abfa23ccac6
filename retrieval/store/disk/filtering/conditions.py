"""Emit SQL for the tree of a filter.

Every value is a parameter, so user input is never parsed as SQL. ``check_sql`` turns a whole filter
into a condition on documents found in another way. ``find_sql`` turns a single comparison into
queries that find all passing documents by an index.
"""

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate, chain
from typing import Final

from retrieval.store.disk.filtering.patterns import Parameter, Sql, glob_sql, path_glob_sql
from retrieval.store.filters.language import Filter
from retrieval.store.filters.tree import (
    And,
    Comparison,
    Condition,
    Exists,
    Field,
    Glob,
    In,
    Not,
    Operator,
    Or,
)
from retrieval.store.filters.values import Kind, Moment, Number, Text, Value

COLUMNS: Final = {
    "path": "d.path",
    "uri": "d.uri",
    "root": "d.root",
    "title": "d.title",
    "format": "d.format",
    "encoding": "d.encoding",
    "extension": "d.extension",
    "size": "d.size",
    "characters": "d.char_count",
    "chunks": "d.chunk_count",
    "modified": "d.mtime_ns",
}
_NANOSECONDS: Final = 1000
"""Nanoseconds in a microsecond. ``Moment`` counts microseconds, files' times are in nanoseconds."""
_INT64: Final = range(-(2**63), 2**63)

_ANY_TEXT: Final = f"m.kind IN ({Kind.TEXT:d}, {Kind.NUMBER:d}, {Kind.DATE:d}, {Kind.BOOLEAN:d})"
"""Condition for all kinds but objects. It lists them because the index on texts begins with the
kind."""

Leaf = Comparison | In | Glob | Exists


@lru_cache(maxsize=8)
def filter_check(filter: Filter) -> Sql:
    """Return ``check_sql`` of a whole filter, cached because pages of one search need it again.

    The cache is small, because each filter may hold 20,000 values.
    """
    return check_sql(filter.tree)


def check_sql(condition: Condition) -> Sql:
    """Return a condition in SQL for a row ``d`` of the documents, found in another way."""
    match condition:
        case And(parts):
            return _joined("AND", [check_sql(part) for part in parts])
        case Or(parts):
            return _joined("OR", [check_sql(part) for part in parts])
        case Not(part):
            inner = check_sql(part)
            return Sql(f"({inner.text} IS FALSE)", inner.parameters)
        case _ if condition.field.kind == "metadata":
            tests = [_has_value(condition.field, test) for test in _typed(condition)]
            return _joined("OR", tests)
        case _:
            return _joined("OR", list(_built_in(condition)))


def find_sql(leaf: Leaf) -> Iterator[Sql]:
    """Yield queries for the ids of all documents that pass one comparison, in a column ``id``.

    A document passes if any of the queries finds it. The same document may be found several times.
    """
    if leaf.field.kind != "metadata":
        for test in _built_in(leaf):
            yield Sql(f"SELECT d.id AS id FROM documents d WHERE {test.text}", test.parameters)
        return
    keys = leaf.field.keys
    query = f"SELECT m.document_id AS id FROM metadata_values m WHERE m.key IN ({_marks(keys)})"
    for test in _typed(leaf):
        yield Sql(f"{query} AND {test.text}", (*keys, *test.parameters))


def _typed(condition: Comparison | In | Glob | Exists) -> Iterator[Sql]:
    """Yield the tests of rows ``m`` of metadata, one of which must pass."""
    match condition:
        case Comparison(_, operator, value):
            yield _compare_typed(operator, value)
        case In(_, values):
            yield from _in_typed(values)
        case Glob(_, pattern):
            test = glob_sql("m.text", pattern)
            yield Sql(f"{_ANY_TEXT} AND {test.text}", test.parameters)
        case Exists():
            yield Sql("TRUE")


def _built_in(condition: Comparison | In | Glob | Exists) -> Iterator[Sql]:
    """Yield the tests of a document's own columns, one of which must pass."""
    column = COLUMNS[condition.field.name]
    match condition:
        case Comparison(_, operator, value):
            yield _compare(column, operator, value)
        case In(_, values):
            yield from _in(column, values)
        case Glob(field, pattern):
            yield (path_glob_sql if field.kind == "path" else glob_sql)(column, pattern)
        case Exists():
            yield Sql("TRUE")


def _joined(word: str, parts: Sequence[Sql]) -> Sql:
    """Join conditions; without any, return a condition that nothing passes."""
    if not parts:
        return Sql("FALSE")
    # SQLite's parser has a stack of 100 entries. Put the deepest part first, where each level takes
    # one entry; in other parts it takes three.
    parts = sorted(parts, key=_depth, reverse=True)
    conditions = f" {word} ".join(part.text for part in parts)
    parameters = tuple(chain.from_iterable(part.parameters for part in parts))
    return Sql(conditions if len(parts) == 1 else f"({conditions})", parameters)


def _depth(sql: Sql) -> int:
    """Return how deep parentheses are nested."""
    return max(accumulate((char == "(") - (char == ")") for char in sql.text))


def _has_value(field: Field, test: Sql) -> Sql:
    """Whether a row ``m`` of the field's values passes a test."""
    # The plus signs disable indexes on these columns: SQLite must begin with the document's own
    # few rows, not with all rows of the field.
    rows = f"""SELECT +kind AS kind, +text AS text, +number AS number FROM metadata_values
               WHERE document_id = d.id AND key IN ({_marks(field.keys)})"""
    parameters = (*field.keys, *test.parameters)
    return Sql(f"EXISTS (SELECT 1 FROM ({rows}) m WHERE {test.text})", parameters)


def _marks(keys: Sequence[str]) -> str:
    return ", ".join("?" * len(keys))


def _compare(column: str, operator: Operator, value: Value) -> Sql:
    """Compare a column whose values all have the type of the given value."""
    match value:
        case Moment():
            return _compare_moment(column, operator, value, _NANOSECONDS)
        case Number(value=number):
            return Sql(f"{column} {operator} ?", (number,))
        case Text(text):
            return Sql(f"{column} {operator} ?", (text,))


def _compare_typed(operator: Operator, value: Value) -> Sql:
    """Compare a value of metadata; values of another type do not pass."""
    match value:
        case Moment():
            test = _compare_moment("m.number", operator, value, 1)
            return Sql(f"m.kind = {Kind.DATE:d} AND {test.text}", test.parameters)
        case Number(value=number):
            return Sql(f"m.kind = {Kind.NUMBER:d} AND m.number {operator} ?", (number,))
        case Text(text) if operator == "=":
            return Sql(f"{_ANY_TEXT} AND m.text = ?", (text,))
        case Text(text):
            return Sql(f"m.kind = {Kind.TEXT:d} AND m.text {operator} ?", (text,))


def _compare_moment(column: str, operator: Operator, moment: Moment, unit: int) -> Sql:
    """Compare a time with an interval: ``<=`` includes the whole day, ``=`` is any time in it.

    Args:
        column: column or expression of the time, in units of 1/``unit`` microseconds.
        operator: operator of the comparison.
        moment: interval to compare with.
        unit: number of the column's units in a microsecond.
    """
    first, last = moment.first * unit, (moment.last + 1) * unit - 1
    if operator == "=":
        return Sql(f"{column} BETWEEN ? AND ?", (_bound(first), _bound(last)))
    return Sql(f"{column} {operator} ?", (_bound(last if operator in ("<=", ">") else first),))


def _bound(number: int) -> int | float:
    """Return the number, as a float if SQLite's 64-bit integers can't hold it."""
    return number if number in _INT64 else float(number)


def _in(column: str, values: Sequence[Value]) -> Iterator[Sql]:
    numbers, moments, texts = _by_type(values)
    if numbers or texts:
        yield _in_set(column, [*numbers, *texts])
    for length, firsts in moments.items():
        kept = [first * _NANOSECONDS for first in firsts if first * _NANOSECONDS in _INT64]
        yield _in_set(_floor(column, length * _NANOSECONDS), kept)


def _in_typed(values: Sequence[Value]) -> Iterator[Sql]:
    numbers, moments, texts = _by_type(values)
    if numbers:
        yield _and_kind(f"m.kind = {Kind.NUMBER:d}", _in_set("m.number", numbers))
    if texts:
        yield _and_kind(_ANY_TEXT, _in_set("m.text", texts))
    for length, firsts in moments.items():
        test = _in_set(_floor("m.number", length), firsts)
        yield _and_kind(f"m.kind = {Kind.DATE:d}", test)


def _and_kind(kind: str, test: Sql) -> Sql:
    return Sql(f"{kind} AND {test.text}", test.parameters)


def _in_set(value: str, members: Sequence[Parameter]) -> Sql:
    """Look up a value in a set, which is a single parameter for any number of members."""
    return Sql(f"{value} IN (SELECT value FROM json_each(?))", (json.dumps(members),))


def _floor(column: str, length: int) -> str:
    """Return the start of the day, minute or second of a time; SQLite's ``%`` keeps the sign."""
    return f"{column} - (({column} % {length}) + {length}) % {length}"


def _by_type(
    values: Sequence[Value],
) -> tuple[list[int | float], dict[int, list[int]], list[str]]:
    """Return the numbers, the first microseconds of dates and times by length, and the texts."""
    numbers: list[int | float] = []
    moments: dict[int, list[int]] = {}
    texts: list[str] = []
    for value in values:
        match value:
            case Number(value=number):
                numbers.append(number)
            case Moment(first=first, length=length):
                moments.setdefault(length, []).append(first)
            case Text(text):
                texts.append(text)
    return numbers, moments, texts
