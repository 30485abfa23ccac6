"""Drawn conditions pass the documents that they say: through text, parser and SQL."""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from retrieval.client import F, FilterExpression, filter_from_dict
from retrieval.domain.metadata import Metadata
from retrieval.store.filters.language import parse_filter
from tests.store.filters import test_oracle as oracle
from tests.store.filters.test_filters import put

SIGNS = {"==": "=", "!=": "=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
IN_DICTIONARIES = {"==": "$eq", "!=": "$ne", "<": "$lt", "<=": "$lte", ">": "$gt", ">=": "$gte"}
PYTHON: Mapping[str, Callable[[Any, Any], FilterExpression]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "isin": F.isin,
    "matches": F.matches,
}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

names = st.sampled_from(
    ["Team Name", "meta.size", "a", "a", "a.b", "meta.a", "not", "作者", 'q"u\\o']
)
# Few values, most of them close to another, so that many of those asked for are there.
TEXTS = (
    "a",
    "\\a",
    "\\\\a",
    '"',
    '\\"',
    "a\nb",
    "a b",
    "') OR a:* OR (a='",
    "é",
    "e\u0301",
    "王",
    "🥖",
)
NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
ZONE = timezone(timedelta(hours=5, minutes=45))
MOMENTS = (
    *(NOON, NOON + MICROSECOND, NOON + timedelta(seconds=1) - MICROSECOND, NOON.astimezone(ZONE)),
    *(datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=ZONE)),
)
NUMBERS = (2024, 2024.5, -7, 0, 0.0000001, 5.150883458287338e16, 51508834582873380, 2**63 - 1)
DAYS = (date(2023, 12, 31), date(2024, 1, 1))

STORED = (
    *TEXTS,
    *("2024", "2024.50", "51508834582873376", "true", True, False, 2024, 2024.5, -7, 0, 1e-7),
    *(5.150883458287338e16, 51508834582873380, 2**63 - 1, "2023-12-31", "2024-01-01"),
    *("2024-01-01T00:00", "2024-01-01T12:00:00Z", "2024-01-01T12:00:00.000001Z"),
    *("2024-01-01T12:00:00.999999", "2024-01-01T17:45+05:45", "2024-01-01T23:59:59.999999"),
)

texts = (
    st.sampled_from(TEXTS) | oracle.texts | st.text(st.characters(exclude_categories=["Cs", "Cc"]))
)
moments = st.sampled_from(MOMENTS)
moments |= st.datetimes(datetime(2023, 12, 31), datetime(2024, 1, 3), timezones=st.timezones())
numbers = st.one_of(
    st.sampled_from(NUMBERS),
    st.integers(-(2**63) + 1, 2**63 - 1),
    st.floats(-1e18, 1e18).filter(lambda value: not value or abs(value) > 1e-9),
    st.decimals(-3000, 3000, places=2),
)
days = st.sampled_from(DAYS)
stored = st.one_of(
    *(st.sampled_from(some) for some in (TEXTS, NUMBERS, [*map(str, DAYS)])),
    moments.map(lambda value: value.isoformat()),
    st.booleans(),
    oracle.scalars,
)
documents = st.lists(
    st.dictionaries(
        st.sampled_from(["Team Name", "size", "a", "not", "作者", 'q"u\\o']),
        stored | st.lists(stored, max_size=3) | st.fixed_dictionaries({"b": stored}),
        max_size=5,
    ),
    min_size=1,
    max_size=4,
)


@dataclass(frozen=True)
class Drawn:
    """A condition in three forms."""

    expression: FilterExpression
    meaning: tuple[Any, ...]
    """What it says: ("not" | "and" | "or", parts), or (how, field, value)."""
    dictionary: Mapping[str, Any] | None
    """None if dictionaries can't say it."""


@st.composite
def comparisons(draw: st.DrawFn) -> Drawn:
    name = draw(names)
    field = F(name)
    how = draw(st.sampled_from([*SIGNS, "isin", "isin", "exists", "matches"]))
    if how == "exists":
        return Drawn(field.exists(), (how, name, None), {name: {"$exists": True}})
    if how == "matches":
        pattern = draw(texts)
        return Drawn(field.matches(pattern), (how, name, pattern), None)
    values = texts | numbers | days | moments
    if how == "isin":
        listed = draw(st.lists(values | st.booleans(), max_size=3))
        return Drawn(field.isin(listed), (how, name, listed), {name: {"$in": listed}})
    value = draw(values | st.booleans() if how in ("==", "!=") else values)
    expression = PYTHON[how](field, value)
    return Drawn(expression, (how, name, value), {name: {IN_DICTIONARIES[how]: value}})


def negated(part: Drawn) -> Drawn:
    dictionary = None if part.dictionary is None else {"$not": part.dictionary}
    return Drawn(~part.expression, ("not", [part.meaning]), dictionary)


def joined(word: str, parts: Sequence[Drawn]) -> Drawn:
    whole = parts[0].expression
    for part in parts[1:]:
        whole = whole & part.expression if word == "and" else whole | part.expression
    dictionaries = [part.dictionary for part in parts]
    dictionary = None if None in dictionaries else {f"${word}": dictionaries}
    return Drawn(whole, (word, [part.meaning for part in parts]), dictionary)


conditions = st.recursive(
    comparisons(),
    lambda inner: st.one_of(
        inner.map(negated),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: joined("and", parts)),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: joined("or", parts)),
    ),
    max_leaves=6,
)


def holds(fields: Metadata, meaning: tuple[Any, ...]) -> bool:
    """What the condition says, without its text."""
    how, *rest = meaning
    if how in ("not", "and", "or"):
        parts = [holds(fields, part) for part in rest[0]]
        return {"not": not parts[0], "and": all(parts), "or": any(parts)}[how]
    name, value = rest
    path = name.lower()
    inner = path.removeprefix("meta.")
    found = oracle.values_of(fields, (inner,) if inner == path else (inner, path))
    if how == "exists" or (how == "matches" and value == "*"):
        return bool(found)
    passes = any(fits(one, how, value) for one in found)
    return passes if how != "!=" else not passes


def fits(one: Any, how: str, value: Any) -> bool:
    """Whether a value in a document is what a comparison asks for; != asks for what = does."""
    if isinstance(one, dict):
        return False
    if how == "matches":
        return fnmatchcase(oracle.written(one), value)
    if how == "isin":
        return any(compares(one, "=", each) for each in value)
    return compares(one, SIGNS[how], value)


def compares(one: Any, sign: str, value: Any) -> bool:
    """Whether a value in a document compares with one of Python's as stated."""
    if isinstance(value, bool):
        return one is value or one == ("true" if value else "false")
    if isinstance(value, str):
        return oracle.compares(one, sign, value)
    kind, first, *_ = oracle.typed(one)
    if isinstance(value, int | float | Decimal):
        wanted = float(value) if isinstance(value, Decimal) else value
        return kind == "number" and oracle.OPERATORS[sign](first, wanted)
    if isinstance(value, datetime):
        start = end = value - EPOCH
    else:
        start = datetime(value.year, value.month, value.day, tzinfo=UTC) - EPOCH
        end = start + timedelta(days=1) - MICROSECOND
    if kind != "date" or sign == "=":
        return kind == "date" and bool(start <= first <= end)
    return oracle.OPERATORS[sign](first, end if sign in ("<=", ">") else start)


@pytest.mark.parametrize("how", [*SIGNS, "isin", "matches"])
def test_each_value_compares_with_each_other(how: str) -> None:
    connection = oracle.emptied()
    for number, value in enumerate(STORED):
        put(connection, f"docs/{number}.md", ("", 0, "2024-01-01T00:00:00", {"a": value}))
    ordered = how in ("<", "<=", ">", ">=")
    values: list[Any] = [*TEXTS, *NUMBERS, *MOMENTS, *DAYS, *([] if ordered else [True, False])]
    for value in TEXTS if how == "matches" else values:
        asked = [value, "none"] if how == "isin" else value
        condition = PYTHON[how](F("a"), asked)
        wanted = [n for n, one in enumerate(STORED) if holds({"a": one}, (how, "a", asked))]
        found = oracle.numbers(connection, parse_filter(condition.text))
        assert found == (wanted, wanted), condition


@settings(max_examples=40, deadline=None)
@given(documents, st.lists(conditions, min_size=1, max_size=5))
@example([{"a": 1.0}], [joined("and", [negated(Drawn(F("a") == 1, ("==", "a", 1), None))])])
def test_conditions_pass_what_they_say(documents: list[Metadata], conditions: list[Drawn]) -> None:
    connection = oracle.emptied()
    for number, fields in enumerate(documents):
        put(connection, f"docs/{number}.md", ("", 0, "2024-01-01T00:00:00", fields))
    for drawn in conditions:
        wanted = [n for n, fields in enumerate(documents) if holds(fields, drawn.meaning)]
        where = parse_filter(drawn.expression.text)
        assert oracle.numbers(connection, where) == (wanted, wanted), drawn.expression
        if drawn.dictionary is not None:
            translated = parse_filter(filter_from_dict(drawn.dictionary).text)
            assert translated.tree == where.tree or oracle.numbers(connection, translated) == (
                wanted,
                wanted,
            ), drawn.dictionary
