"""Documents, passages, collections and the server, read over HTTP."""

from pathlib import Path
from urllib.parse import quote

import pytest

import retrieval
from retrieval.client import RetrievalClient
from retrieval.domain.passages import passage_as_json
from retrieval.gateway.schemas import answers
from tests.gateway.harness import Http, gateway
from tests.service.harness import SUBJECTS, build_index, running, write_documents


def test_documents_by_pages(http: Http, client: RetrievalClient) -> None:
    uris, token = [], ""
    for _ in range(3):
        page = http("GET", f"/v1/documents?page_size=3&page_token={quote(token)}")
        answers.DocumentPage.model_validate_json(page.body)
        uris += [one["uri"] for one in page.json["documents"]]
        token = page.json["next_page_token"]
    assert token == ""
    assert uris == [one.uri for one in client.documents()]
    assert all(one["text"] is None for one in page.json["documents"])


def test_what_a_filter_can_say(http: Http) -> None:
    listed = http("GET", "/v1/fields")
    answers.Fields.model_validate_json(listed.body)
    assert {"root", "extension", "modified"} <= {one["name"] for one in listed.json["fields"]}
    values = http("GET", "/v1/fields/values?field=path&containing=FERRY&page_size=5")
    answers.FieldValues.model_validate_json(values.body)
    assert [one["text"] for one in values.json["values"]] == ["ferry.md"]
    query = {"query": "bread", "filter": values.json["values"][0]["filter"]}
    found = http("POST", "/v1/search", query).json["passages"]
    assert {one["uri"] for one in found} == {"notes/ferry.md"}
    assert http("GET", "/v1/fields/values?field=size").problem == (400, "INVALID_ARGUMENT")


def test_skipped_files_by_pages(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    write_documents(folder)
    for number in range(3):
        (folder / f"{number}.md").write_text("")
    with (
        running({"default": build_index(folder, tmp_path / "index")}) as server,
        gateway(server.target) as http,
    ):
        found, token = [], ""
        for _ in range(2):
            page = http("GET", f"/v1/skipped-files?page_size=2&page_token={quote(token)}")
            answers.SkippedPage.model_validate_json(page.body)
            assert sum(page.json["counts"].values()) == 3
            found += page.json["files"]
            token = page.json["next_page_token"]
        assert token == ""
        assert [one["uri"] for one in found] == [f"notes/{number}.md" for number in range(3)]
        assert {one["reason"] for one in found} == set(page.json["counts"])


def test_a_document_by_its_uri_or_its_name(http: Http, client: RetrievalClient) -> None:
    expected = client.document(next(client.documents()).name, with_text=True)
    found = http("GET", f"/v1/documents/{expected.uri}")
    answers.Document.model_validate_json(found.body)
    assert found.json["text"] == expected.text
    assert found.json["uri"] == expected.uri
    assert found.json == http("GET", f"/v1/{expected.name}").json
    assert http("GET", f"/v1/{expected.name}?text=false").json["text"] is None
    assert http("GET", f"/v1/documents/{quote(expected.uri, safe='')}").json == found.json
    other = http("GET", "/v1/documents/tea/tea.md?collection=tea")
    assert other.json["title"] == "Tea"


def test_a_part_of_a_document(http: Http, client: RetrievalClient) -> None:
    whole = client.document(uri="notes/ferry.md", with_text=True)
    assert whole.text is not None
    for query, keywords in (
        ("char_start=2&char_end=7", {"chars": (2, 7)}),
        ("char_end=7&text=false", {"chars": (0, 7)}),
        ("line_start=3", {"lines": (3, None)}),
        ("line_end=2", {"lines": (1, 2)}),
        ("char_start=100000", {"chars": (100000, None)}),
    ):
        for path in ("documents/notes/ferry.md", whole.name):
            found = http("GET", f"/v1/{path}?{query}")
            answers.Document.model_validate_json(found.body)
            expected = client.document(whole.name, **keywords)
            assert found.json["text"] == expected.text
            places = ("char_start", "char_end", "line_start", "line_end", "line_count")
            assert [found.json[name] for name in places] == [
                getattr(expected, name) for name in places
            ]
    first = http("GET", "/v1/documents/notes/ferry.md?char_end=7").json
    assert first["text"] == whole.text[:7]
    assert (first["media_type"], first["sha256"]) == ("text/markdown", whole.sha256)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("char_start=5&char_end=4", "char_end"),
        ("char_start=-1", "char_start"),
        ("line_start=0", "line_start"),
        ("line_start=3&line_end=2", "line_end"),
        ("line_end=0", "line_end"),
        ("line_start=1&char_start=1", "line_start"),
    ],
)
def test_a_range_that_is_none_is_named_as_it_was_given(http: Http, query: str, field: str) -> None:
    found = http("GET", f"/v1/documents/notes/ferry.md?{query}")
    assert found.problem == (400, "INVALID_ARGUMENT")
    assert found.json["metadata"] == {"field": field}


def test_documents_by_filter_and_counted(http: Http) -> None:
    found = http("GET", f"/v1/documents?filter={quote('path:b*')}&count=true&page_size=1")
    answers.DocumentPage.model_validate_json(found.body)
    assert [one["uri"] for one in found.json["documents"]] == ["notes/beehive.md"]
    assert found.json["total"] == {"documents": 2, "passages": 10}
    token = found.json["next_page_token"]
    found = http("GET", f"/v1/documents?filter={quote('path:b*')}&page_token={token}")
    assert [one["uri"] for one in found.json["documents"]] == ["notes/bread.md"]
    assert found.json["total"] is None
    found = http("GET", "/v1/documents?filter=tittle%3Dbread")
    assert "did you mean 'title'" in found.json["warnings"][0]


def test_a_passage_and_its_neighbours(http: Http, client: RetrievalClient) -> None:
    name = client.search("harbour", k=1)[0].name.rpartition("/")[0] + "/2"
    found = http("GET", f"/v1/{name}?before=1&after=2")
    answers.PassageContext.model_validate_json(found.body)
    expected = client.passage(name, before=1, after=2)
    assert found.json["passage"] == passage_as_json(expected.passage)
    assert (len(found.json["before"]), len(found.json["after"])) == (1, 2)


def test_collections(http: Http, client: RetrievalClient) -> None:
    page = http("GET", "/v1/collections")
    answers.CollectionPage.model_validate_json(page.body)
    assert [one["name"] for one in page.json["collections"]] == [
        one.name for one in client.collections()
    ]
    one = http("GET", "/v1/collections/default").json
    assert one == page.json["collections"][0]
    assert one["document_count"] == len(SUBJECTS)
    assert http("POST", "/v1/collections/default/reload").json == one


def test_the_server(http: Http, client: RetrievalClient) -> None:
    found = http("GET", "/v1/server")
    answers.ServerInfo.model_validate_json(found.body)
    assert found.json["version"] == retrieval.__version__
    assert found.json["limits"]["max_batch_size"] == client.server_info().limits.max_batch_size


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("/v1/documents/notes/nothing.md", (404, "NOT_FOUND")),
        ("/v1/documents/a%00b%ff", (404, "NOT_FOUND")),
        ("/v1/documents/notes/ferry.md?collection=nope", (404, "NOT_FOUND")),
        ("/v1/documents/notes/ferry.md?text=perhaps", (422, "INVALID_ARGUMENT")),
        ("/v1/documents?filter=path%3A", (400, "INVALID_ARGUMENT")),
        ("/v1/documents?page_size=0", (400, "INVALID_ARGUMENT")),
        ("/v1/documents?page_size=1001", (400, "INVALID_ARGUMENT")),
        ("/v1/documents?page_size=a", (422, "INVALID_ARGUMENT")),
        ("/v1/documents?page_token=a", (400, "INVALID_ARGUMENT")),
        ("/v1/collections/nope", (404, "NOT_FOUND")),
        ("/v1/collections/No%20pe", (400, "INVALID_ARGUMENT")),
        ("/v1/collections/default/documents/999", (404, "NOT_FOUND")),
        ("/v1/collections/default/documents/a", (422, "INVALID_ARGUMENT")),
        ("/v1/collections/default/documents/1/passages/999", (404, "NOT_FOUND")),
        ("/v1/collections/default/documents/1/passages/0?before=101", (400, "INVALID_ARGUMENT")),
        ("/v1/nothing", (404, "NOT_FOUND")),
    ],
)
def test_mistakes_are_problems(http: Http, path: str, problem: tuple[int, str]) -> None:
    assert http("GET", path).problem == problem


def test_another_method_is_a_problem(http: Http) -> None:
    answered = http("DELETE", "/v1/search")
    assert answered.problem == (405, "METHOD_NOT_ALLOWED")
    assert answered.headers["allow"] == "POST"
    answered = http("TRACE", "/v1/documents/a/b")
    assert answered.headers["allow"] == "DELETE, GET, PUT"
