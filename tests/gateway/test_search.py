"""Searches over HTTP: the same passages, names and scores as over gRPC and on the command line."""

import json
from typing import Any

import pytest

from retrieval.client import RetrievalClient
from retrieval.domain.passages import passage_as_json
from retrieval.domain.search_options import OPTIONS, SearchOptions
from retrieval.gateway.schemas.answers import BatchResults, SearchResults
from retrieval.gateway.schemas.requests import SearchBody, StreamBody
from tests.gateway.harness import Http
from tests.tiny_model import DIM


def test_a_page_is_that_of_grpc(http: Http, client: RetrievalClient) -> None:
    found = http("POST", "/v1/search", {"query": "harbour at night", "k": 3})
    assert found.status == 200
    expected = client.search("harbour at night", k=3)
    assert found.json["passages"] == [passage_as_json(one) for one in expected]
    assert found.json["next_page_token"] == expected.next_page_token != ""
    assert found.json["mode"] == expected.mode == "hybrid"
    assert found.json["seconds"]["total"] > 0
    SearchResults.model_validate_json(found.body)


def test_a_whole_number_may_have_a_point(http: Http) -> None:
    found = http("POST", "/v1/search", data=b'{"query": "winter", "k": 2.0}')
    assert found.status == 422  # without its media type it is no JSON
    found = http(
        "POST",
        "/v1/search",
        data=b'{"query": "winter", "k": 2.0}',
        content_type="application/json",
    )
    assert len(found.json["passages"]) == 2


def test_the_next_page_follows(http: Http, client: RetrievalClient) -> None:
    first = http("POST", "/v1/search", {"query": "winter", "k": 2}).json
    body = {"query": "winter", "k": 2, "page_token": first["next_page_token"]}
    second = http("POST", "/v1/search", body).json
    names = [one["name"] for one in first["passages"] + second["passages"]]
    assert names == [one.name for one in client.search("winter", k=4)]


def test_every_option_arrives(http: Http, client: RetrievalClient) -> None:
    options: dict[str, Any] = {
        "group_by_document": True,
        "group_size": 2,
        "highlight": True,
        "context_before": 1,
        "context_after": 1,
        "section_chars": 500,
        "omit_text": True,
        "omit_metadata": True,
        "include_vectors": True,
        "mode": "hybrid",
        "fusion": "weighted",
        "dense_weight": 0.25,
        "min_score": -1,
        "filter": "extension=md",
        "exact": True,
        "collapse": 0.999,
        "mmr": 0.5,
        "rerank_top": 0,
        "expected_model_fingerprint": client.collection().model.fingerprint,
    }
    assert set(options) == set(SearchOptions.__optional_keys__) - {"collection"}
    found = http("POST", "/v1/search", {"query": "harbour", "k": 4, **options})
    expected = client.search("harbour", k=4, **options)
    assert found.json["passages"] == [passage_as_json(one) for one in expected]
    assert found.json["passages"][0]["highlights"]["terms"]
    SearchResults.model_validate_json(found.body)


def test_queries_of_each_kind(http: Http, client: RetrievalClient) -> None:
    vector = [float(value) for value in client.embed("harbour", "query")]
    passage = client.search("harbour", k=1)[0]
    for body, query in (
        ({"query": "harbour"}, "harbour"),
        ({"vector": vector}, vector),
        ({"passage": passage.name}, passage),
        ({"query": "steeped", "collection": "tea"}, "steeped"),
    ):
        found = http("POST", "/v1/search", {**body, "k": 2}).json["passages"]
        collection = str(body.get("collection", "default"))
        expected = client.search(query, k=2, collection=collection)
        assert [one["name"] for one in found] == [one.name for one in expected]


@pytest.mark.parametrize(
    ("body", "problem", "words"),
    [
        ({}, (400, "INVALID_ARGUMENT"), "give one of query, vector and passage"),
        ({"query": "a", "vector": [1.0]}, (400, "INVALID_ARGUMENT"), "not 2"),
        ({"query": "a", "k": 0}, (400, "INVALID_ARGUMENT"), "k is 0"),
        ({"query": "a", "k": 1_000_000}, (400, "INVALID_ARGUMENT"), "from 1 to 1000"),
        ({"query": "a", "k": 2**70}, (400, "INVALID_ARGUMENT"), "too large"),
        ({"query": " "}, (400, "INVALID_ARGUMENT"), "empty"),
        ({"query": "a\ud800"}, (400, "INVALID_ARGUMENT"), "not valid Unicode"),
        ({"query": "a", "filter": "tag="}, (400, "INVALID_ARGUMENT"), "filter is wrong"),
        ({"query": "a", "collection": "nope"}, (404, "NOT_FOUND"), "nope"),
        ({"query": "a", "collection": "No Pe"}, (400, "INVALID_ARGUMENT"), "lower-case"),
        ({"query": "a", "k": "5"}, (422, "INVALID_ARGUMENT"), "k: input should be a valid integer"),
        ({"query": "a", "mode": "denze"}, (422, "INVALID_ARGUMENT"), "mode: input should be"),
        ({"query": "a", "top_k": 5}, (422, "INVALID_ARGUMENT"), "top_k: extra inputs"),
        ({"query": "a", "rerank_top": 5}, (409, "NO_RERANKER"), "reranker"),
        (
            {"vector": [1.0] * DIM, "expected_model_fingerprint": "0" * 64},
            (409, "UNEXPECTED_MODEL"),
            "embed the query",
        ),
        ({"vector": [1.0, 2.0]}, (400, "INVALID_ARGUMENT"), "64"),
        ({"passage": "nope"}, (400, "INVALID_ARGUMENT"), "passage is 'nope'"),
        ([], (422, "INVALID_ARGUMENT"), "dictionary"),
    ],
)
def test_mistakes_are_problems(
    http: Http, body: object, problem: tuple[int, str], words: str
) -> None:
    answered = http("POST", "/v1/search", body)
    assert answered.problem == problem, answered.json
    assert words in answered.json["detail"]


def test_a_body_that_is_no_json(http: Http) -> None:
    for data in (b"", b"{", b'{"query": "a"} x', b"\xff", b'{"k": ' + b"9" * 5000 + b"}"):
        answered = http("POST", "/v1/search", data=data, content_type="application/json")
        status, reason = answered.problem
        assert reason == "INVALID_ARGUMENT"
        assert status in (400, 422)


def test_several_searches_at_once(http: Http, client: RetrievalClient) -> None:
    searches = [{"query": "winter", "k": 1}, {"query": "tea", "collection": "tea"}]
    found = http("POST", "/v1/search/batch", {"searches": searches})
    assert found.status == 200
    BatchResults.model_validate_json(found.body)
    first, second = found.json["results"]
    assert [one["name"] for one in first["passages"]] == [client.search("winter", k=1)[0].name]
    assert second["passages"][0]["uri"] == "tea/tea.md"
    assert http("POST", "/v1/search/batch", {"searches": []}).problem[0] == 422


def events(body: bytes) -> list[tuple[str, Any]]:
    """Names and data of server-sent events."""
    blocks = body.decode().removesuffix("\n\n").split("\n\n")
    parsed = []
    for block in blocks:
        name, data = block.split("\n")
        parsed.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return parsed


def test_a_stream_is_that_of_grpc(http: Http, client: RetrievalClient) -> None:
    found = http("POST", "/v1/search/stream", {"query": "winter", "limit": 7, "min_score": -1})
    assert found.headers["content-type"] == "text/event-stream; charset=utf-8"
    (_, header), *passages, (end, count) = events(found.body)
    expected = client.stream_search("winter", limit=7, min_score=-1)
    assert [one for _, one in passages] == [passage_as_json(one) for one in expected]
    assert (header["mode"], header["generation"]) == (expected.mode, expected.generation)
    assert (end, count) == ("end", {"passage_count": 7})


def test_a_stream_that_can_not_begin_is_a_problem(http: Http) -> None:
    answered = http("POST", "/v1/search/stream", {"query": "a", "collection": "nope"})
    assert answered.problem == (404, "NOT_FOUND")


@pytest.mark.parametrize("body", [SearchBody, StreamBody])
def test_options_are_those_of_the_table(body: Any) -> None:
    schema = body.model_json_schema()["properties"]
    for name in SearchOptions.__optional_keys__ - {"collection"}:
        option, described = OPTIONS[name], schema[name]
        assert described["default"] == option.default
        assert "--" not in described["description"]
        if option.choices:
            assert described["enum"] == [*option.choices]
        if option.closed_range and not option.exclusive:
            assert (described["minimum"], described["maximum"]) == option.closed_range
