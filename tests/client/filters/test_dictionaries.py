"""Filters from dictionaries: what each becomes, and what can't be translated."""

import re
from datetime import UTC, date, datetime
from typing import Any

import pytest

from retrieval.client import filter_from_dict
from retrieval.errors import InvalidArgument
from retrieval.store.filters.language import MAX_DEPTH, parse_filter


def nested(depth: int) -> dict[str, Any]:
    inner: dict[str, Any] = {"a": 1}
    for _ in range(depth):
        inner = {"$not": inner}
    return inner


@pytest.mark.parametrize(
    ("conditions", "text"),
    [
        ({"tag": "a"}, 'tag="a"'),
        ({"tag": "a", "year": 2024}, 'tag="a" AND year=2024'),
        ({"draft": False}, "draft=false"),
        ({"day": date(2024, 1, 31)}, "day=2024-01-31"),
        ({"day": {"$lt": datetime(2024, 1, 31, tzinfo=UTC)}}, 'day<"2024-01-31T00:00:00.000000Z"'),
        ({"n": {"$eq": 1}}, "n=1"),
        ({"n": {"$ne": 1}}, "n!=1"),
        ({"n": {"$gt": 1}}, "n>1"),
        ({"n": {"$gte": 1}}, "n>=1"),
        ({"n": {"$lt": 1.5}}, "n<1.5"),
        ({"n": {"$lte": -1}}, "n<=-1"),
        ({"n": {"$gte": 1, "$lt": 5}}, "n>=1 AND n<5"),
        ({"n": {"$in": [1, "b"]}}, 'n IN (1, "b")'),
        ({"n": {"$in": ()}}, "n IN ()"),
        ({"n": {"$nin": {1}}}, "NOT n IN (1)"),
        ({"n": {"$exists": True}}, "n:*"),
        ({"n": {"$exists": False}}, "NOT n:*"),
        ({"n": {"$not": {"$gt": 1}}}, "NOT n>1"),
        ({"n": {"$not": {"$gt": 1, "$exists": True}}}, "NOT (n>1 AND n:*)"),
        ({"n": {"$not": 1}}, "NOT n=1"),
        ({"$and": [{"a": 1}, {"b": 2, "c": 3}]}, "a=1 AND b=2 AND c=3"),
        ({"$or": [{"a": 1}, {"b": 2, "c": 3}]}, "a=1 OR b=2 AND c=3"),
        ({"$or": [{"a": 1}, {"b": 2}], "c": 3}, "(a=1 OR b=2) AND c=3"),
        ({"$or": ({"a": 1},)}, "a=1"),
        ({"$not": {"$or": [{"a": 1}, {"b": 2}]}}, "NOT (a=1 OR b=2)"),
        ({"author.name": "Kim", "Team Name": "X"}, 'author.name="Kim" AND "Team Name"="X"'),
        (nested(MAX_DEPTH), "NOT " * MAX_DEPTH + "a=1"),
    ],
)
def test_what_a_dictionary_says(conditions: dict[str, Any], text: str) -> None:
    assert filter_from_dict(conditions).text == text
    parse_filter(text)


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({}, "filter is an empty dictionary; leave it out to pass all documents"),
        (None, "filter is None; give a dictionary"),
        ([{"a": 1}], "filter is of type list; give a dictionary"),
        ({3: 1}, "filter has a key of type int; give the name of a field as a text"),
        ({"": 1}, "filter can't be translated: '' names no field"),
        (
            {"$nor": [{"a": 1}]},
            "filter has '$nor', which is no operator of conditions; these are $",
        ),
        ({"$where": "1"}, "no operator of conditions; these are $and, $or, $not"),
        ({"$or": []}, "filter['$or'] is an empty list; leave it out"),
        ({"$or": {"a": 1}}, "filter['$or'] is of type dict; give a list of dictionaries"),
        ({"$or": [{"a": 1}, 3]}, "filter['$or'][1] is of type int; give a dictionary"),
        ({"$not": [{"a": 1}]}, "filter['$not'] is of type list; give a dictionary"),
        ({"a": {}}, "filter['a'] is an empty dictionary; give an operator"),
        ({"a": {"b": 1}}, "filter['a'] has the key 'b' and not an operator; a field within an"),
        ({"a": {"$gte": 1, "b": 1}}, "filter['a'] has the key 'b' and not an operator"),
        ({"a": {1: 1}}, "filter['a'] has the key 1 and not an operator"),
        (
            {"a": {"$regex": "x"}},
            "filter['a'] has '$regex', which is no operator of a field; these",
        ),
        ({"a": [1, 2]}, "filter['a'] is of type list; give {'$in': [...]} for one of several"),
        ({"a": {"$in": "xyz"}}, "filter['a']['$in'] is of type str; give a list of values"),
        (
            {"a": {"$in": [None]}},
            "filter['a']['$in'] can't be translated: a value of F('a') is None",
        ),
        ({"a": {"$exists": 1}}, "filter['a']['$exists'] is of type int; give True or False"),
        ({"path": {"$exists": True}}, "filter['path']['$exists'] can't be translated: every docu"),
        ({"a": None}, "filter['a'] can't be translated: the value of F('a') is None"),
        (
            {"a": {"$eq": [1]}},
            "filter['a']['$eq'] can't be translated: the value of F('a') is of t",
        ),
        (
            {"$and": [{"a": 1}, {"b": {"$gt": True}}]},
            "filter['$and'][1]['b']['$gt'] can't be translated: the value of F('b') is True, and",
        ),
        (nested(10_000), "filter has more than 40 levels"),
    ],
)
def test_what_can_not_be_translated(conditions: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=re.escape(message)) as refused:
        filter_from_dict(conditions)
    assert refused.value.metadata["field"] == "filter"


def test_a_dictionary_within_itself() -> None:
    endless: dict[str, Any] = {"a": 1}
    endless["$not"] = endless
    with pytest.raises(InvalidArgument, match="filter has more than 40 levels"):
        filter_from_dict(endless)
    of_field: dict[str, Any] = {}
    of_field["$not"] = of_field
    with pytest.raises(InvalidArgument, match="filter has more than 40 levels"):
        filter_from_dict({"a": of_field})
