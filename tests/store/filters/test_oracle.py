"""Random filters over random metadata pass what a plain evaluation in Python lets through."""

import json
import operator
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from retrieval.domain.metadata import Metadata
from retrieval.store.filters.language import Filter, parse_filter
from retrieval.store.filters.tree import (
    And,
    Comparison,
    Condition,
    Exists,
    Glob,
    In,
    Not,
    Or,
)
from tests.store.filters.test_filters import both_ways, new_database, put

OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

NUMBERS = ("2024", "2024.0", "2024.50", "2023", "-7", "0", "-0", "007", "9" * 18, "9" * 25)
DATES = (
    *("2024-01-01", "2024-01-01T00:00", "2024-01-01 00:00:59", "2023-12-31T23:59:59.999999Z"),
    *("2024-01-01T01:00:00+01:00", "2024-01-02", "2024", "2024-13-01", "2024-W01-1", "20240101"),
    *("9999-12-31T23:59:59-14:00", "0001-01-01", "2024-01"),
)
WORDS = (
    *("Nan", "inf", "-Infinity", "1e5", "1e-07", "0x10", "1_000", " 5 ", "+1", "1.", ".5", "true"),
    *("false", "", "王", "a, b", "b", "A", "\u0660\u0661", "12:00", "2024"),
)
texts = st.one_of(
    *(st.sampled_from(some) for some in (NUMBERS, DATES, WORDS)),
    st.text("ab*?[]\"'\\ (),:=<>!-.0159ä王", max_size=6),
)
scalars = st.one_of(
    texts,
    st.booleans(),
    st.integers(2022, 2025),
    st.integers(-(2**70), 2**70),
    st.sampled_from([2024.5, 1e-07, 1e300]),
    st.floats(allow_nan=False, allow_infinity=False),
)
names = st.sampled_from(["Team Name", "size", "meta", "a.b", "a", "b"])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=2),
    max_leaves=6,
)
metadata = st.dictionaries(names, values, max_size=4)


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@st.composite
def comparisons(draw: st.DrawFn) -> str:
    name = draw(names)
    prefix = draw(st.sampled_from(["meta.", "meta.meta."] if name == "size" else ["", "meta."]))
    field = draw(st.sampled_from([prefix + quoted(name), prefix + quoted(name.upper())]))
    field = field if prefix.count(".") < 2 else "meta." + quoted(f"meta.{name}")
    form = draw(st.sampled_from([*OPERATORS, "!=", ":", "IN", "NOT IN", "*"]))
    if form.endswith("IN"):
        return f"{field} {form} ({','.join(map(quoted, draw(st.lists(texts, max_size=4))))})"
    return f"{field}:*" if form == "*" else f"{field}{form}{quoted(draw(texts))}"


filters = st.recursive(
    comparisons(),
    lambda inner: st.one_of(
        inner.map(lambda part: f"NOT {part}"),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"({' AND '.join(parts)})"),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"({' OR '.join(parts)})"),
    ),
    max_leaves=6,
)


# --- The rules of docs/filters.md, said once more without any of the code above or below SQL.


def values_of(fields: Metadata, keys: tuple[str, ...]) -> list[Any]:
    """All values under a name; an object counts as one, too."""
    found: list[Any] = []

    def visit(path: str, value: Any) -> None:
        if isinstance(value, list):
            for part in value:
                visit(path, part)
            return
        if path in keys:
            found.append(value)
        if isinstance(value, dict):
            for name, part in value.items():
                visit(f"{path}.{name.lower()}", part)

    for name, value in fields.items():
        visit(name.lower(), value)
    return found


def written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def typed(value: Any) -> tuple[str, Any, Any]:
    """Type, value, and the end of what it stands for."""
    if isinstance(value, bool):
        return "boolean", written(value), None
    if isinstance(value, float):
        return "number", value, value
    text = written(value)
    digits = text.removeprefix("-")
    whole, dot, part = digits.partition(".")
    plain = whole.isascii() and whole.isdigit() and (whole == "0" or whole[0] != "0")
    if plain and len(whole) <= 19 and (not dot or (part.isascii() and part.isdigit())):
        number = float(text) if dot else int(text)
        if dot or abs(number) < 2**63:
            return "number", number, number
    moment = stretch(text)
    return ("date", *moment) if moment else ("text", text, text)


@cache
def stretch(text: str) -> tuple[timedelta, timedelta] | None:
    lengths = {
        "%Y-%m-%d": timedelta(days=1),
        "%Y-%m-%dT%H:%M": timedelta(minutes=1),
        "%Y-%m-%dT%H:%M:%S": timedelta(seconds=1),
        "%Y-%m-%dT%H:%M:%S.%f": timedelta(microseconds=1),
    }
    for form, length in lengths.items():
        for zone in ("", "%z") if "H" in form else ("",):
            for separator in "T ":
                try:
                    start = datetime.strptime(text, (form + zone).replace("T", separator))
                except ValueError:
                    continue
                if len(text) < len("2024-01-01") or text[4] != "-" or text[7] != "-":
                    continue
                start = start if start.tzinfo else start.replace(tzinfo=UTC)
                first = start - datetime(1970, 1, 1, tzinfo=UTC)
                return first, first + length - timedelta(microseconds=1)
    return None


def compares(stored: Any, sign: str, given_text: str) -> bool:
    if isinstance(stored, dict):
        return False
    kind, value, _ = typed(stored)
    wanted, first, last = typed(given_text)
    if wanted == "text":
        if sign == "=":
            return written(stored) == given_text
        return kind == "text" and OPERATORS[sign](value, first)
    if kind != wanted:
        return False
    if sign == "=":
        return bool(first <= value <= last)
    return OPERATORS[sign](value, last if sign in ("<=", ">") else first)


def passes(fields: Metadata, condition: Condition) -> bool:
    match condition:
        case And(parts):
            return all(passes(fields, part) for part in parts)
        case Or(parts):
            return any(passes(fields, part) for part in parts)
        case Not(part):
            return not passes(fields, part)
        case _:
            return any(fits(value, condition) for value in values_of(fields, condition.field.keys))


def fits(stored: Any, condition: Comparison | In | Glob | Exists) -> bool:
    match condition:
        case Exists():
            return True
        case In(_, members):
            return any(compares(stored, "=", member.text) for member in members)
        case Comparison(_, sign, value):
            return compares(stored, sign, value.text)
        case Glob(_, pattern):
            return not isinstance(stored, dict) and fnmatchcase(written(stored), pattern)


@settings(max_examples=50, deadline=None)
@given(st.lists(metadata, min_size=1, max_size=4), st.lists(filters, min_size=1, max_size=6))
@example([{"a": 2**63}], ['"a">"0"', '"a"="9223372036854775808"'])
@example([{"a": "2024-01-01T00:00"}], ['"a" IN ("2024-01-01", "2024-01-01T00:00:00Z")'])
def test_sql_passes_what_the_rules_let_through(
    documents: list[Metadata], conditions: list[str]
) -> None:
    connection = emptied()
    for number, fields in enumerate(documents):
        put(connection, f"docs/{number}.md", ("", 0, "2024-01-01T00:00:00", fields))
    for text in conditions:
        where = parse_filter(text)
        wanted = [n for n, fields in enumerate(documents) if passes(fields, where.tree)]
        assert numbers(connection, where) == (wanted, wanted), text


@cache
def shared() -> sqlite3.Connection:
    return new_database()


def emptied() -> sqlite3.Connection:
    shared().execute("DELETE FROM documents")
    return shared()


def numbers(connection: sqlite3.Connection, where: Filter) -> tuple[list[int], list[int]]:
    """Numbers of the documents that pass: those found, and those checked."""
    number_of = {
        identifier: int(uri.removeprefix("docs/").removesuffix(".md"))
        for identifier, uri in connection.execute("SELECT id, uri FROM documents")
    }
    found, checked = both_ways(connection, where)
    return [number_of[one] for one in found], [number_of[one] for one in checked]


@settings(max_examples=50, deadline=None)
@given(st.lists(scalars, min_size=20, max_size=20), st.sampled_from([NUMBERS, DATES, WORDS]))
def test_sql_compares_as_the_rules_say(stored: list[Any], given_texts: Sequence[str]) -> None:
    connection = emptied()
    for number, value in enumerate(stored):
        put(connection, f"docs/{number}.md", ("", 0, "2024-01-01T00:00:00", {"a": value}))
    for text in given_texts:
        for sign in OPERATORS:
            where = parse_filter(f"a{sign}{quoted(text)}")
            wanted = [n for n, value in enumerate(stored) if compares(value, sign, text)]
            assert numbers(connection, where) == (wanted, wanted), where.text


@settings(max_examples=50, deadline=None)
@given(scalars, texts)
def test_a_value_is_less_equal_or_more_or_of_another_type(stored: Any, text: str) -> None:
    connection = emptied()
    put(connection, "docs/0.md", ("", 0, "2024-01-01T00:00:00", {"a": stored}))

    def holds(sign: str) -> bool:
        where = parse_filter(f"a{sign}{quoted(text)}")
        return bool(numbers(connection, where)[0])

    less, equal, more = holds("<"), holds("="), holds(">")
    assert less + equal + more <= 1
    if less or more or typed(stored)[0] == typed(text)[0] != "boolean":
        assert holds("<=") == (less or equal)
        assert holds(">=") == (more or equal)
    assert holds("!=") == (not equal)
