"""Answers with whatever documents hold; they are short, and what is left out is said."""

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from retrieval.client.results import DocumentInfo, SearchResults, SearchTimings
from retrieval.domain.passages import Passage
from retrieval.gateway.mcp.answers import (
    Listing,
    documents_listing,
    error_text,
    fetch_answer,
    fits_whole,
    search_answer,
)
from retrieval.gateway.mcp.bounds import ANSWER_CHARS, length
from retrieval.gateway.mcp.cursors import Position, from_cursor
from retrieval.gateway.mcp.reading import Part

TEXTS = st.builds(
    lambda part, times: part * times,
    st.sampled_from(["a", " word", "\n", "\x01", '"', "\U0001f6a2", "港口\n\n"]),
    st.sampled_from([0, 1, 300, 1_900, 9_000]),
)
VALUES: Any = TEXTS | st.integers() | st.lists(TEXTS, max_size=2)
METADATA: Any = st.dictionaries(TEXTS, VALUES, max_size=4)
URIS = TEXTS.filter(bool) | st.just("https://example.org/a?b=c#d")
LIMIT = ANSWER_CHARS


def document(uri: str, **values: Any) -> DocumentInfo:
    return DocumentInfo(
        **{
            "name": "collections/docs/documents/12",
            "uri": uri,
            "title": "",
            "metadata": {},
            "format": "text",
            "encoding": "utf-8",
            "size_bytes": 1,
            "modified_at": datetime.fromtimestamp(0, UTC),
            "char_count": 0,
            "passage_count": 1,
            "text": None,
            "sha256": "ab" * 32,
            **values,
        }
    )


def passage(number: int, uri: str, title: str, text: str, metadata: Any) -> Passage:
    return Passage(
        name=f"collections/docs/documents/12/passages/{number}",
        document_id=12,
        uri=uri,
        title=title,
        ordinal=number,
        char_start=number,
        char_end=number + len(text),
        line_start=1,
        line_end=2,
        heading_path=(title, title),
        text=text,
        token_count=1,
        metadata=metadata,
        score=0.5,
    )


def results(passages: Any, **values: Any) -> SearchResults:
    return SearchResults(
        **{
            "passages": tuple(passages),
            "next_page_token": "",
            "generation": 1,
            "model_fingerprint": "",
            "query_token_count": 1,
            "query_truncated": False,
            "timings": SearchTimings(0, 0, 0, 0),
            "mode": "dense",
            **values,
        }
    )


@given(URIS, TEXTS, METADATA, TEXTS, st.sampled_from([0, 7, 2**30]))
def test_a_part_of_a_document_goes_on_where_it_ends(
    uri: str, title: str, metadata: Any, text: str, start: int
) -> None:
    about = document(uri, title=title, metadata=metadata, char_count=start + len(text))
    part = Part(about, text, start)
    whole = fetch_answer(part, "asked")
    assert length(whole) < LIMIT
    read = json.loads(whole)
    assert read["title"]
    assert read["url"]
    assert text.startswith(read["text"])
    assert bool(read["text"]) == bool(text)
    assert (read["start"], read["end"]) == (start, start + len(read["text"]))
    assert read.get("next_start") == (None if read["text"] == text else read["end"])
    assert fits_whole(part, "asked") == (start == 0 and read["text"] == text)
    assert ("note" in read) == (not fits_whole(part, "asked"))
    left_out = read.get("metadata_fields_left_out", 0)
    assert len(read["metadata"]) + left_out == len(metadata)


@given(URIS, TEXTS, METADATA, TEXTS, st.sampled_from(["", "token"]))
def test_results_that_do_not_fit_are_behind_the_cursor(
    uri: str, title: str, metadata: Any, text: str, token: str
) -> None:
    count = 6
    found = results(
        (passage(number, uri, title, text, metadata) for number in range(count)),
        next_page_token=token,
        warnings=("w" * 9_000,) * 9,
    )
    position, seen = Position("", count), 0
    while True:
        whole = search_answer(found, position, "query")
        assert length(whole) < LIMIT
        read = json.loads(whole)
        assert read["results"]
        for one in read["results"]:
            assert one["id"].endswith(f"#char={seen},{seen + len(text)}")
            assert one.get("text_is_cut", False) == (one["text"] != text)
            seen += 1
        if "next_cursor" not in read:
            break
        position = from_cursor(read["next_cursor"], "query")
        if position.page_token != "":
            assert position == Position("token", count)
            break
    assert seen == count
    assert bool(token) == (position.page_token == "token")


@given(st.lists(st.tuples(URIS, TEXTS), max_size=5), st.sampled_from([0, 90, 7_000, 90_000]))
def test_rows_of_a_list_that_fit(rows: list[tuple[str, str]], cursor: int) -> None:
    documents = [document(uri, title=title) for uri, title in rows]

    def listing(count: int) -> Listing:
        return documents_listing(
            documents[:count], "c" * cursor, total=2**40, warnings=["w" * 900] * 9
        )

    count = listing(len(rows)).fitting
    assert length(listing(count).text) < LIMIT
    if count < len(rows):
        assert length(listing(count + 1).text) >= LIMIT
    assert ("next_cursor" in json.loads(listing(count).text)) == (0 < cursor < 8_000)


def test_documents_are_named_for_people() -> None:
    def named(uri: str, **values: Any) -> tuple[str, str]:
        read = json.loads(fetch_answer(Part(document(uri, **values), "", 0), "x" * 90_000))
        assert read["id"] == f"retrieval://docs/{uri}"
        return read["title"], read["url"]

    assert named("notes/ferry.md") == ("ferry.md", "retrieval://docs/notes/ferry.md")
    assert named("https://a.example/b", title="B") == ("B", "https://a.example/b")
    linked = {"url": "https://a.example/c"}
    assert named("c.md", metadata=linked) == ("c.md", "https://a.example/c")
    assert named("c.md", metadata={"url": ["https://a.example/c"]})[1] == "retrieval://docs/c.md"
    assert named("c.md", metadata={"url": "javascript:x"})[1] == "retrieval://docs/c.md"


def test_an_error_is_one_short_line() -> None:
    assert error_text("a\n b") == "a b"
    assert length(error_text("x" * 90_000)) == 2_000
