"""Names of documents and cursors, which assistants pass back as they got them."""

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.errors import InvalidArgument
from retrieval.gateway.mcp.cursors import Position, from_cursor, to_cursor
from retrieval.gateway.mcp.names import (
    MAX_NAME_CHARS,
    Reference,
    as_uri,
    document_id,
    parse,
    part_id,
)

NAME = "collections/docs/documents/12"
URIS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


@given(URIS, st.booleans())
def test_an_id_names_its_document(uri: str, escaped: bool) -> None:
    made = document_id(f"{NAME}/passages/3", uri)
    given_back = as_uri(made) if escaped else made
    assert parse(given_back) == Reference("docs", uri)
    assert parse(part_id(given_back, 5, 90)) == Reference("docs", uri, start=5, end=90)


def test_ids_are_legible() -> None:
    assert document_id(NAME, "notes/作者 笔记#1.md") == "retrieval://docs/notes/作者%20笔记%231.md"
    made = document_id(NAME, "https://example.org/a?b=c")
    assert made == "retrieval://docs/https://example.org/a%3Fb=c"
    uri = as_uri(document_id(NAME, "作者.md"))
    assert uri == "retrieval://docs/%E4%BD%9C%E8%80%85.md"
    assert urlsplit(uri).netloc == "docs"


@pytest.mark.parametrize("uri", ["a/" * 2_000, "作" * 300])
def test_a_very_long_uri_gives_way_to_the_resource_name(uri: str) -> None:
    made = document_id(f"{NAME}/passages/3", uri)
    assert made == NAME
    assert parse(made) == Reference(name=NAME)
    assert parse(as_uri(part_id(made, 1, 2))) == Reference(name=NAME, start=1, end=2)
    assert len(as_uri(made)) < MAX_NAME_CHARS


def test_models_name_documents_in_other_ways() -> None:
    assert parse(" notes/ferry.md\n") == Reference("default", "notes/ferry.md")
    assert parse("https://example.org/a#char=3") == Reference(
        "default", "https://example.org/a#char=3"
    )
    assert parse(f"{NAME}/passages/0").is_passage
    assert not parse(NAME).is_passage
    assert parse("retrieval://docs/a#char=7,").start == 7
    assert parse("retrieval://docs/a#other") == Reference("docs", "a#other")


@given(st.builds(Position, st.text(max_size=20), st.integers(0, 100), st.integers(0, 100)))
def test_a_cursor_is_of_one_request(position: Position) -> None:
    cursor = to_cursor(position, "query", True)
    assert cursor.isascii()
    assert from_cursor(cursor, "query", True) == position
    with pytest.raises(InvalidArgument, match="of another search"):
        from_cursor(cursor, "question", True)


@pytest.mark.parametrize("cursor", ["x", "AAAA", "🚢", "W10", "bnVsbA", "WzEsMiwzLDRd" * 999])
def test_a_cursor_of_ones_own_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidArgument, match="cursor"):
        from_cursor(cursor, "query")


def test_no_cursor_is_the_beginning() -> None:
    assert from_cursor("", "query") == Position()
