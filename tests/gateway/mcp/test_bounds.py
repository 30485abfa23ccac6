"""What fits into an answer."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.gateway.mcp.bounds import (
    as_json,
    divided,
    fitting,
    fitting_fields,
    fitting_items,
    json_length,
    length,
    shortened,
)

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
CLUMSY = st.text(st.sampled_from('a "\\\n\r\t\x00\x1fé\U0001f6a2'), max_size=60)
ROOM = st.integers(0, 80)


def in_json(text: str) -> int:
    return json_length(text) - 2


@given(ANY_TEXT | CLUMSY, ROOM)
def test_as_many_characters_fit_as_json_has_room_for(text: str, room: int) -> None:
    count = fitting(text, room)
    assert in_json(text[:count]) <= room
    assert count == len(text) or in_json(text[: count + 1]) > room


@given(ANY_TEXT | CLUMSY, ROOM)
def test_a_shortened_text_says_so(text: str, room: int) -> None:
    short = shortened(text, room + 1)
    assert in_json(short) <= room + 1
    assert short == text or short[-1] == "…"


@given(ANY_TEXT | CLUMSY, st.integers(6, 80))
def test_parts_of_a_text_make_the_whole(text: str, room: int) -> None:
    parts, rest = [], text
    while rest:
        part = divided(rest, room)
        assert part
        assert in_json(part) <= room
        parts.append(part)
        rest = rest[len(part) :]
    assert "".join(parts) == text


def test_a_text_is_divided_where_it_reads_well() -> None:
    text = "One two.\n\nThree four.\nFive six seven"
    assert divided(text, len(text) + 4) == "One two.\n\nThree four.\nFive six seven"
    assert divided(text, 30) == "One two.\n\nThree four.\n"
    assert divided(text, 12) == "One two.\n\n"
    assert divided("abcdefgh", 6) == "abcdef"
    assert divided("\x00", 1) == "\x00"


def test_lengths_are_those_of_javascript() -> None:
    assert length("a\U0001f6a2é") == 4
    assert json_length(["é", 1]) == len('["é",1]')


@given(st.lists(ANY_TEXT, max_size=6), ROOM)
def test_items_that_fit(items: list[str], room: int) -> None:
    count = len(fitting_items(items, room))
    if count:
        assert json_length(items[:count]) - 1 <= room
    if count < len(items):
        assert json_length(items[: count + 1]) - 1 > room


@pytest.mark.parametrize("room", [0, 10, 100, 1_000])
def test_fields_that_fit(room: int) -> None:
    fields = {"year": 2024, "note": "x" * 500, "tags": ["a"] * 50, "author": {"name": "Kim"}}
    shown, omitted = fitting_fields(fields, room)
    assert len(as_json(shown)) <= room + 2
    assert len(shown) + omitted == len(fields)
    assert json.loads(as_json(shown)) == shown
    if room == 1_000:
        assert shown == {**fields, "note": "x" * 249 + "…"}
