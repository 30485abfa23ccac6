"""``F``: the text that each comparison becomes, and what can't be compared."""

import enum
import math
import operator
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.client import F, FilterExpression, RetrievalClient
from retrieval.client.filters import filter_text
from retrieval.client.filters.expressions import BUILT_IN
from retrieval.client.requests import documents_request, search_request, stream_search_request
from retrieval.client.writing.requests import delete_where_request
from retrieval.errors import InvalidArgument
from retrieval.store.filters import tree
from retrieval.store.filters.language import parse_filter
from retrieval.store.filters.values import Moment, Number, read_value

NOON = datetime(2024, 1, 31, 12, tzinfo=UTC)


class Stage(enum.StrEnum):
    DRAFT = "draft"


class Level(enum.IntEnum):
    HIGH = 3


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        (F("tag") == "a", 'tag="a"'),
        (F("tag") != "a", 'tag!="a"'),
        (F("year") < 2024, "year<2024"),
        (F("year") <= -7, "year<=-7"),
        (F("year") > 2.50, "year>2.5"),
        (F("year") >= 2024, "year>=2024"),
        (F("year") >= 2024, "year>=2024"),
        (F("price") == Decimal("2.50"), "price=2.50"),
        (F("ratio") < 1e-7, "ratio<0.0000001"),
        (F("big") < 5.150883458287338e16, "big<51508834582873380.0"),
        (F("big") < 9.5e18, "big<9500000000000000000.0"),
        (F("zero") == Decimal("0E+1000000000"), "zero=0"),
        (F("draft") == True, "draft=true"),  # noqa: E712  (an expression, not a truth value)
        (F("draft") != False, "draft!=false"),  # noqa: E712
        (F("day") == date(2024, 1, 31), "day=2024-01-31"),
        (F("day") <= NOON, 'day<="2024-01-31T12:00:00.000000Z"'),
        (
            F("day") < NOON.astimezone(timezone(timedelta(hours=5, minutes=53, seconds=28))),
            'day<"2024-01-31T12:00:00.000000Z"',
        ),
        (F("stage") == Stage.DRAFT, 'stage="draft"'),
        (F("level") == Level.HIGH, "level=3"),
        (F("n") == np.int64(3), "n=3"),
        (F("n") >= np.float32(0.5), "n>=0.5"),
        (F("n") == np.bool_(True), "n=true"),
        (F("tag").isin(["a", 2, True]), 'tag IN ("a", 2, true)'),
        (F("tag").isin(number for number in (1, 2)), "tag IN (1, 2)"),
        (F("tag").isin([]), "tag IN ()"),
        (~F("tag").isin({"a"}), 'NOT tag IN ("a")'),
        (F("path").matches("guides/**"), 'path:"guides/**"'),
        (F("draft").exists(), "draft:*"),
        (F("meta.size").exists(), "meta.size:*"),
        # Names.
        (F("author.name") == "Kim", 'author.name="Kim"'),
        (F("Team Name") == "X", '"Team Name"="X"'),
        (F(" Team\n Name ") == "X", '"Team Name"="X"'),
        (F("meta.Team Name") == "X", 'meta."Team Name"="X"'),
        (F("META.size") == "XL", 'meta.size="XL"'),
        (F("not") == 1, '"not"=1'),
        (F("meta.IN") == 1, 'meta."IN"=1'),
        (F("-x") == 1, '"-x"=1'),
        (F("作者") == "王", '"作者"="王"'),
        (F('a"b\\c') == 'd"e\\f', '"a\\"b\\\\c"="d\\"e\\\\f"'),
        # What binds tighter needs no parentheses.
        ((F("a") == 1) & (F("b") == 2) & (F("c") == 3), "a=1 AND b=2 AND c=3"),
        ((F("a") == 1) & ((F("b") == 2) & (F("c") == 3)), "a=1 AND b=2 AND c=3"),
        ((F("a") == 1) | (F("b") == 2) & (F("c") == 3), "a=1 OR b=2 AND c=3"),
        (((F("a") == 1) | (F("b") == 2)) & (F("c") == 3), "(a=1 OR b=2) AND c=3"),
        (~((F("a") == 1) & (F("b") == 2)), "NOT (a=1 AND b=2)"),
        (~~(F("a") == 1), "NOT NOT a=1"),
        (FilterExpression("a=1 OR b=2") & (F("c") == 3), "(a=1 OR b=2) AND c=3"),
    ],
)
def test_the_text_of_a_condition(condition: FilterExpression, text: str) -> None:
    assert (condition.text, str(condition)) == (text, text)
    parse_filter(text)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (lambda: F("a") == None, "F('a') is None; to find documents without the field, give ~F("),  # noqa: E711
        (lambda: F("a") == [1], "F('a') is of type list; give a text, number, boolean, date"),
        (lambda: F("a") == b"x", "F('a') is of type bytes"),
        (lambda: F("a") == F("b"), "F('a') is of type F"),
        (lambda: F("a") < True, "F('a') is True, and booleans have no order"),
        (lambda: F("a") < np.bool_(False), "F('a') is False, and booleans have no order"),
        (
            lambda: F("a") == math.nan,  # noqa: PLW0177
            "F('a') is nan; numbers in filters have at most 19 digits",
        ),
        (lambda: F("a") == float("inf"), "F('a') is inf"),
        (lambda: F("a") == 1e300, "F('a') is 1e+300"),
        (lambda: F("a") == 1e-40, "F('a') is 1e-40"),
        (lambda: F("a") == Decimal("1E+1000000000"), "F('a') is 1E+1000000000"),
        (lambda: F("a") == Decimal("1E-1000000000"), "F('a') is 1E-1000000000"),
        (lambda: F("a") == Decimal("0E-1000000000"), "F('a') is 0E-1000000000"),
        (lambda: F("a") == Decimal("NaN"), "F('a') is NaN"),
        (lambda: F("a") == Decimal("-Infinity"), "F('a') is -Infinity"),
        (lambda: F("a") == 2**63, "F('a') is a whole number of more than 64 bits"),
        (lambda: F("a") == 10**5000, "F('a') is a whole number of more than 64 bits"),
        (lambda: F("a") == datetime(2024, 1, 31), "F('a') has no time zone: give one, such as"),
        (
            lambda: F("a") == datetime.min.replace(tzinfo=timezone(timedelta(hours=5))),
            "F('a') is out of range",
        ),
        (lambda: F("a") == np.datetime64("2024-01-31"), "F('a') is of type datetime64"),
        (lambda: F("a") == "x\x00", "F('a') has a null character"),
        (lambda: F("a") == "\ud800", "F('a') is not valid Unicode"),
        (lambda: F("a").isin("abc"), "F('a').isin has a value of type str; give a list of values"),
        (lambda: F("a").isin({"b": 1}), "F('a').isin has a value of type dict"),
        (lambda: F("a").isin(3), "F('a').isin has a value of type int"),  # type: ignore[arg-type]
        (lambda: F("a").isin([1, None]), "a value of F('a') is None"),  # type: ignore[list-item]
        (lambda: F("a").matches(3), "the pattern of F('a') is of type int"),  # type: ignore[arg-type]
        (
            lambda: F("Size").exists(),
            "has the field 'Size'; for one of the metadata, give F('me",
        ),
        (lambda: F(3), "the name of a field is of type int"),  # type: ignore[arg-type]
        (lambda: F(" "), "' ' names no field"),
        (lambda: F("meta."), "'meta.' names no field"),
        (lambda: F("a\x00"), "the name of a field has a null character"),
        # Python's own words can't be used.
        (lambda: F("a") == 1 and F("b") == 2, "the condition a=1 is neither true nor false"),
        (lambda: not F("a"), "F('a') is a field and no condition yet"),
        (lambda: 2020 <= F("a") < 2024, "the condition a>=2020 is neither true nor false"),
        (lambda: F("a") == 1 & F("b") == 2, "F('b') is a field and no condition yet: compare it"),  # type: ignore[operator]
        (lambda: F("a") | F("b"), "F('a') is a field and no condition yet"),  # type: ignore[operator]
    ],
)
def test_what_can_not_be_a_condition(condition: Callable[[], Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=re.escape(message)) as refused:
        condition()
    assert refused.value.metadata["field"] == "filter"


def test_a_condition_and_a_text_are_not_joined() -> None:
    for join in (operator.and_, operator.or_):
        with pytest.raises(TypeError, match="unsupported operand type"):
            join(F("a") == 1, "b=2")


def test_built_in_fields_are_those_of_the_language() -> None:
    assert set(tree.BUILT_IN) == BUILT_IN


@given(st.integers() | st.floats() | st.decimals())
def test_a_number_is_read_as_the_same_number_or_refused(number: Any) -> None:
    try:
        text = (F("n") == number).text.removeprefix("n=")
    except InvalidArgument:
        assert isinstance(number, Decimal) or not 1e-14 <= abs(number) < 2**63
        return
    value = read_value(text)
    assert isinstance(value, Number)
    assert value.value in ((number, float(number)) if isinstance(number, Decimal) else (number,))


@given(st.datetimes(timezones=st.timezones() | st.just(UTC)))
def test_a_time_is_read_as_the_same_moment(moment: datetime) -> None:
    try:
        text = (F("n") == moment).text
    except InvalidArgument:
        assert moment.year in (datetime.min.year, datetime.max.year)
        return
    value = read_value(text.removeprefix('n="').removesuffix('"'))
    assert isinstance(value, Moment)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    assert (value.first, value.length) == (since // timedelta(microseconds=1), 1)


def test_requests_take_conditions_and_texts() -> None:
    given = F("year") >= 2024
    for filter in (given, given.text):
        requests = (
            documents_request("default", page_size=1, filter=filter),
            search_request("bread", k=1, filter=filter),
            stream_search_request("bread", limit=1, filter=filter),
            delete_where_request(filter, None, dry_run=True, wait=False, collection="default"),
        )
        assert [request.filter for request in requests] == ["year>=2024"] * 4
    with pytest.raises(InvalidArgument, match=re.escape("F('year') is a field and no condition")):
        filter_text(F("year"))
    with pytest.raises(InvalidArgument, match=r"filter is of type dict; translate it with filter_"):
        filter_text({"year": 2024})


def test_clients_search_with_conditions(client: RetrievalClient) -> None:
    bees = client.search("bees", k=50, filter=F("path").matches("beehive*"))
    assert {passage.uri.rpartition("/")[2] for passage in bees} == {"beehive.md"}
    others = ~(F("title") == "The beehive") & (F("size") > 0)
    assert "beehive" not in str([passage.uri for passage in client.search("bees", filter=others)])
    assert not client.search("bees", filter=F("tag").exists()).passages


def test_the_page_shows_the_texts() -> None:
    page = (Path(__file__).parents[3] / "docs/filters.md").read_text(encoding="utf-8")
    shown = 0
    for code in re.findall(r"^```python run\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        names: dict[str, Any] = {}
        exec(re.sub(r"^with .*?\n\n", "", code, flags=re.MULTILINE | re.DOTALL), names)
        for name, text in re.findall(r"^print\((\w+)\)  # (.+)$", code, re.MULTILINE):
            assert str(names[name]) == text
            shown += 1
    assert shown == 2
