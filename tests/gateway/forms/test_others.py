"""Searches in the forms of Dify and Open WebUI."""

from typing import Any

import numpy as np
import pytest

from retrieval.client import RetrievalClient
from retrieval.gateway.routes.dify import filter_of
from retrieval.gateway.schemas.others import MetadataCondition, Records
from tests.gateway.harness import Http, gateway
from tests.service.harness import build_index, running


def test_dify_gets_records_with_scores_from_0_to_1(http: Http, client: RetrievalClient) -> None:
    body = {
        "knowledge_id": "default",
        "query": "harbour",
        "retrieval_setting": {"top_k": 40, "score_threshold": 0.0},
    }
    found = http("POST", "/retrieval", body)
    Records.model_validate_json(found.body)
    expected = client.search("harbour", k=40)
    records = found.json["records"]
    assert [one["content"] for one in records] == [one.text for one in expected]
    assert [one["score"] for one in records] == [min(1, max(0, one.score)) for one in expected]
    assert records[0]["metadata"]["uri"] == "notes/ferry.md"
    least = records[3]["score"]
    body["retrieval_setting"] = {"top_k": 40, "score_threshold": least}
    fewer = http("POST", "/retrieval", body).json["records"]
    assert fewer == [one for one in records if one["score"] >= least]
    body["knowledge_id"] = "nope"
    missing = http("POST", "/retrieval", body)
    assert missing.problem == (404, "NOT_FOUND")
    assert (missing.json["error_code"], bool(missing.json["error_msg"])) == (2001, True)


@pytest.fixture(scope="module")
def tagged(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Documents with metadata that are alike otherwise."""
    folder = tmp_path_factory.mktemp("tagged")
    (folder / "notes").mkdir()
    heads = {
        "a": 'tag: spam\nyear: 2020\nTeam Name: a"b\\c',
        "b": "tag: ham and*eggs\nyear: 2024",
        "c": "year: 2030",
    }
    for name, head in heads.items():
        text = f"---\n{head}\n---\n\nThe ferry leaves the harbour.\n"
        (folder / "notes" / f"{name}.md").write_text(text)
    index = build_index(folder / "notes", folder / "index")
    with running({"default": index}) as server, gateway(server.target) as http:
        yield http


@pytest.mark.parametrize(
    ("name", "operator", "value", "expected"),
    [
        ("tag", "contains", "ham", "b"),
        ("tag", "contains", "*", "b"),
        ("tag", "not contains", "ham", "ac"),
        ("tag", "start with", "sp", "a"),
        ("tag", "end with", "eggs", "b"),
        ("tag", "is", "spam", "a"),
        ("tag", "is not", "spam", "bc"),
        ("tag", "in", ["spam", "x"], "a"),
        ("tag", "in", "spam", "a"),
        ("tag", "not in", ["spam", "x"], "bc"),
        ("tag", "empty", None, "c"),
        ("tag", "not empty", None, "ab"),
        ("year", "=", 2020, "a"),
        ("year", "≠", 2020, "bc"),
        ("year", ">", 2020, "bc"),
        ("year", "<", 2024, "a"),
        ("year", "≥", 2024, "bc"),
        ("year", "≤", 2024, "ab"),
        ("year", "after", 2024, "c"),
        ("year", "before", 2024, "a"),
        ("Team Name", "is", 'a"b\\c', "a"),
        (["tag", "year"], "is", "2030", "c"),
    ],
)
def test_conditions_of_dify_are_filters(
    tagged: Http, name: Any, operator: str, value: Any, expected: str
) -> None:
    condition = {"name": name, "comparison_operator": operator, "value": value}
    body = {
        "knowledge_id": "default",
        "query": "harbour",
        "retrieval_setting": {"top_k": 9},
        "metadata_condition": {"conditions": [condition]},
    }
    found = tagged("POST", "/retrieval", body)
    assert found.status == 200, found.json
    uris = sorted({one["metadata"]["uri"] for one in found.json["records"]})
    assert uris == [f"notes/{letter}.md" for letter in expected]


def test_conditions_are_joined() -> None:
    conditions = [
        {"name": name, "comparison_operator": "is", "value": value}
        for name, value in (("a", 1), (["b", "c"], "x"))
    ]
    made = {
        operator: filter_of(
            MetadataCondition.model_validate(
                {"logical_operator": operator, "conditions": conditions}
            )
        )
        for operator in ("and", "or")
    }
    assert made == {"and": 'a=1 AND (b="x" OR c="x")', "or": 'a=1 OR b="x" OR c="x"'}
    assert filter_of(None) == filter_of(MetadataCondition()) == ""


def test_a_condition_without_its_value_is_refused(http: Http) -> None:
    for condition in (
        {"name": "a", "comparison_operator": ">"},
        {"name": [], "comparison_operator": "is", "value": "a"},
        {"name": "a", "comparison_operator": "is", "value": ["a", "b"]},
    ):
        body = {
            "knowledge_id": "default",
            "query": "a",
            "retrieval_setting": {},
            "metadata_condition": {"conditions": [condition]},
        }
        assert http("POST", "/retrieval", body).problem == (400, "INVALID_ARGUMENT")


def test_open_webui_gets_links_that_work(http: Http, client: RetrievalClient) -> None:
    found = http("POST", "/open-webui/search", {"query": "harbour", "count": 3}).json
    expected = client.search("harbour", k=3, group_by_document=True)
    assert [(one["title"], one["snippet"]) for one in found] == [
        (one.title, one.text) for one in expected
    ]
    prefix = f"http://127.0.0.1:{http.port}"
    for one, passage in zip(found, expected, strict=True):
        assert one["link"].startswith(prefix)
        assert http("GET", one["link"].removeprefix(prefix)).json["uri"] == passage.uri
    tea = http("POST", "/open-webui/search?collection=tea", {"query": "tea"}).json[0]
    assert http("GET", tea["link"].removeprefix(prefix)).json["title"] == "Tea"


DIFY = {"content_type": "application/json", "authorization": "Bearer key"}
DIFY_BODY = (
    '{"retrieval_setting": {"top_k": 2, "score_threshold": 0.0}, "query": "harbour", '
    '"knowledge_id": "default"}'
)
DIFY_CONDITION = (
    '{"retrieval_setting": {"top_k": null, "score_threshold": 0.0}, "query": "harbour", '
    '"knowledge_id": "default", "metadata_condition": {"logical_operator": "and", "conditions": '
    '[{"name": "tag", "comparison_operator": "is", "value": "spam"}, '
    '{"name": "year", "comparison_operator": "not empty", "value": null}]}}'
)


def test_what_dify_sends(tagged: Http) -> None:
    """Its requests, byte by byte, and what it reads of the answers."""
    records = tagged("POST", "/retrieval", data=DIFY_BODY.encode(), **DIFY).json["records"]
    assert len(records) == 2
    for record in records:
        assert {"content", "score", "title"} <= record.keys()
        assert isinstance(record["metadata"], dict)
    chosen = tagged("POST", "/retrieval", data=DIFY_CONDITION.encode(), **DIFY).json["records"]
    assert {one["metadata"]["uri"] for one in chosen} == {"notes/a.md"}
    # To try a new address it posts nothing there, and takes 403, 404 and 502 for failures.
    assert tagged("POST", "/retrieval", **DIFY).status == 422


def test_what_open_webui_sends(http: Http, client: RetrievalClient) -> None:
    """Its requests, byte by byte, and what it reads of the answers."""
    headers = {
        "user_agent": "Open WebUI (https://github.com/open-webui/open-webui) RAG Bot",
        "accept_encoding": "gzip, deflate, br, zstd",
        "accept": "*/*",
        "authorization": "Bearer ",
        "content_type": "application/json",
    }
    search = b'{"query": "harbour", "count": 3}'
    found = http("POST", "/open-webui/search", data=search, **headers).json
    assert [sorted(one) for one in found] == [["link", "snippet", "title"]] * 3
    unset = http("POST", "/open-webui/search", data=b'{"query": "a", "count": null}', **headers)
    assert unset.status == 200
    users = {"x_openwebui_user_name": "Ann", "x_openwebui_user_id": "1", **headers}
    body = b'{"input": ["harbour", "bread"], "model": "default", "input_type": "query"}'
    made = http("POST", "/v1/embeddings", data=body, **users).json
    vectors = [one["embedding"] for one in made["data"]]
    assert np.allclose(vectors, client.embed(["harbour", "bread"], "query"), atol=1e-6)
