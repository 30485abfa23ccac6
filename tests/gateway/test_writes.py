"""Documents put and deleted over HTTP, and collections changed, at a server that writes."""

import base64
import io
import json
import zipfile
from typing import Any

import pytest

from retrieval.gateway.schemas import answers
from retrieval.gateway.schemas import writes as schemas
from tests.gateway.harness import Answered, Doors, Http


@pytest.fixture
def door(doors: Doors) -> Http:
    return doors.http("all")


def found(door: Http, query: str, **options: Any) -> list[str]:
    answer = door("POST", "/v1/search", {"query": query, "k": 3, **options})
    return [one["uri"] for one in answer.json["passages"]]


def test_a_document_is_put_found_and_deleted(door: Http) -> None:
    body = {"uri": "a/put", "text": "Rosin and dusk", "metadata": {"year": 2026}, "wait": True}
    put = door("POST", "/v1/documents", body)
    assert put.status == 201
    schemas.PutResult.model_validate_json(put.body)
    assert put.headers["etag"] == f'"{put.json["documents"][0]["sha256"]}"'
    assert found(door, "rosin dusk", filter="year=2026") == ["a/put"]
    again = door("POST", "/v1/documents", body)
    assert (again.status, again.json["documents"][0]["change"]) == (200, "unchanged")
    assert door("GET", "/v1/documents/a/put").json["text"] == "Rosin and dusk"
    gone = door("DELETE", "/v1/documents/a/put?wait=true")
    assert (gone.status, gone.json["uris"]) == (200, ["a/put"])
    assert found(door, "rosin dusk", filter="year=2026") == []
    assert door("GET", "/v1/documents/a/put").problem == (404, "NOT_FOUND")
    assert door("DELETE", "/v1/documents/a/put").problem == (404, "NOT_FOUND")


def test_a_file_is_put_as_it_is(door: Http) -> None:
    query = "?wait=true&title=Mine&metadata=" + '{"tag":["x","y"]}'
    put = door(
        "PUT",
        f"/v1/documents/a/page.html{query}",
        data="<h1>Käse</h1><p>Nectar</p>".encode("latin-1"),
        content_type="text/html; charset=latin-1",
    )
    assert put.status == 201, put.body
    one = put.json["documents"][0]
    assert (one["uri"], one["title"], one["format"]) == ("a/page.html", "Mine", "html")
    document = door("GET", "/v1/documents/a/page.html").json
    assert "Käse" in document["text"]
    assert document["metadata"]["tag"] == ["x", "y"]


@pytest.mark.parametrize(
    "media_type", ["", "application/octet-stream", "application/x-www-form-urlencoded"]
)
def test_a_file_without_a_media_type_is_known_by_its_name(door: Http, media_type: str) -> None:
    headers = {"content_type": media_type} if media_type else {}
    put = door("PUT", "/v1/documents/a/known.md", data=b"# Known\n\nice\n", **headers)
    assert put.json["documents"][0]["format"] == "markdown"


def test_content_of_each_kind(door: Http) -> None:
    for number, content in enumerate(
        (
            {"text": "ice"},
            {"data": base64.b64encode(b"# Ice\n").decode(), "file_name": "x.md"},
            {"passages": [{"text": "ice", "heading_path": ["A", "B"], "page": 2}]},
        )
    ):
        put = door("POST", "/v1/documents", {"uri": f"kinds/{number}", **content, "wait": True})
        assert put.status in (200, 201), put.body
    document = door("GET", "/v1/documents/kinds/2?text=false").json
    passage = door("GET", f"/v1/{document['name']}/passages/0").json["passage"]
    assert (passage["heading_path"], passage["page_start"]) == (["A", "B"], 2)


def test_an_archive_is_several_documents(door: Http) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("one.md", "# One\n\nboulders\n")
        archive.writestr("two.bin", b"\x00\x01\x02" * 100)
    put = door("PUT", "/v1/documents/a/files.zip?wait=true", data=packed.getvalue())
    assert [one["uri"] for one in put.json["documents"]] == ["a/files.zip/one.md"]
    assert [one["uri"] for one in put.json["skipped"]] == ["a/files.zip/two.bin"]
    assert "etag" not in put.headers
    gone = door("DELETE", "/v1/documents/a/files.zip")
    assert gone.json["uris"] == ["a/files.zip/one.md"]


def test_conditions_are_those_of_http(door: Http) -> None:
    def put(text: str, **headers: str) -> Answered:
        return door(
            "PUT",
            "/v1/documents/a/if.txt",
            data=text.encode(),
            content_type="text/plain",
            **headers,
        )

    assert put("one", if_match='"' + "0" * 64 + '"').problem[0] in (404, 412)
    first = put("one", if_none_match="*")
    assert first.status == 201
    assert put("two", if_none_match="*").problem == (412, "ALREADY_EXISTS")
    second = put("two", if_match=first.headers["etag"])
    assert second.status == 200
    assert put("three", if_match=first.headers["etag"]).problem == (412, "CONFLICT")
    stale = door("DELETE", "/v1/documents/a/if.txt", if_match=first.headers["etag"])
    assert stale.problem == (412, "CONFLICT")
    assert door("DELETE", "/v1/documents/a/if.txt", if_match=second.headers["etag"]).status == 200
    for wrong in ({"if_match": "*"}, {"if_match": '"a", "b"'}, {"if_none_match": '"a"'}):
        assert put("four", **wrong).problem == (400, "INVALID_ARGUMENT")


def test_uris_need_escapes_only_where_http_does(door: Http) -> None:
    for uri, path in (
        ("https://example.org/a//b?c=d#e", "https%3A%2F%2Fexample.org%2Fa%2F%2Fb%3Fc%3Dd%23e"),
        ("ä/ö 100%", "%C3%A4/%C3%B6%20100%25"),
    ):
        put = door("PUT", f"/v1/documents/{path}?wait=true", data=b"ice", content_type="text/plain")
        assert put.json["documents"][0]["uri"] == uri
        assert door("GET", f"/v1/documents/{path}").json["uri"] == uri
        assert door("DELETE", f"/v1/documents/{path}").json["uris"] == [uri]


def test_a_batch_says_what_became_of_each(door: Http) -> None:
    documents = [{"uri": f"batch/{number}", "text": f"harbour {number}"} for number in range(30)]
    documents[7] = {"uri": "../up", "text": "a"}
    documents[9] = {"uri": "batch/9"}
    answer = door("POST", "/v1/documents:batch", {"documents": documents, "wait": True})
    assert answer.status == 200
    schemas.PutOutcomes.model_validate_json(answer.body)
    results = answer.json["results"]
    assert [one["uri"] for one in results] == [one["uri"] for one in documents]
    failed = {number: one["error"] for number, one in enumerate(results) if one["error"]}
    assert sorted(failed) == [7, 9]
    assert {one["reason"] for one in failed.values()} == {"INVALID_ARGUMENT"}
    assert all((one["result"] is None) == (one["error"] is not None) for one in results)
    nowhere = {"documents": [{"uri": "a", "text": "a"}], "collection": "No"}
    assert door("POST", "/v1/documents:batch", nowhere).problem == (400, "INVALID_ARGUMENT")
    twice = {"documents": [{"uri": "batch/0", "text": "a"}] * 2}
    assert door("POST", "/v1/documents:batch", twice).problem == (400, "INVALID_ARGUMENT")
    would = door("POST", "/v1/documents:delete", {"prefix": "batch/", "dry_run": True}).json
    assert would["document_count"] == 28
    gone = door("POST", "/v1/documents:delete", {"filter": "uri:batch/**", "wait": True})
    schemas.DeleteWhereResult.model_validate_json(gone.body)
    assert (gone.json["document_count"], gone.json["foreign_count"]) == (28, 0)


def test_collections_are_made_changed_and_deleted(door: Http) -> None:
    made = door("POST", "/v1/collections", {"collection": "made", "chunk_tokens": 32})
    assert made.status == 201
    answers.Collection.model_validate_json(made.body)
    assert (made.json["chunk_tokens"], made.json["document_count"]) == (32, 0)
    assert door("POST", "/v1/collections", {"collection": "made"}).problem == (
        409,
        "ALREADY_EXISTS",
    )
    assert door("PATCH", "/v1/collections/made", {"language": "en"}).status == 200
    assert door("PATCH", "/v1/collections/made", {}).problem == (400, "INVALID_ARGUMENT")
    body = {"uri": "a", "text": "ice", "collection": "made", "wait": True}
    assert door("POST", "/v1/documents", body).status == 201
    assert found(door, "ice", collection="made") == ["a"]
    assert door("DELETE", "/v1/collections/made").status == 204
    assert door("GET", "/v1/collections/made").problem == (404, "NOT_FOUND")
    assert door("DELETE", "/v1/collections/made").problem == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"uri": "", "text": "a"}, (400, "INVALID_ARGUMENT")),
        ({"uri": "a/../b", "text": "a"}, (400, "INVALID_ARGUMENT")),
        ({"uri": "a"}, (400, "INVALID_ARGUMENT")),
        ({"uri": "a", "text": "a", "data": "YQ=="}, (400, "INVALID_ARGUMENT")),
        ({"uri": "a", "text": " "}, (400, "UNREADABLE_DOCUMENT")),
        ({"uri": "a.pdf", "data": "YQ=="}, (400, "UNREADABLE_DOCUMENT")),
        ({"uri": "notes/ferry.md", "text": "a"}, (409, "FOREIGN_ROOT")),
        ({"uri": "a", "text": "a", "collection": "nope"}, (404, "NOT_FOUND")),
        ({"uri": "a", "text": "a\ud800"}, (400, "INVALID_ARGUMENT")),
        ({"uri": "a", "text": "a", "metadata": {"x": {"y": None}}}, (201, "")),
        ({"uri": "a", "data": "not base64!"}, (422, "INVALID_ARGUMENT")),
        ({"uri": "a", "text": "a", "modified_at": "yesterday"}, (422, "INVALID_ARGUMENT")),
        (
            {"uri": "a", "text": "a", "modified_at": "2026-01-01T00:00:00"},
            (422, "INVALID_ARGUMENT"),
        ),
        ({"uri": "a", "text": "a", "modified_at": 0}, (422, "INVALID_ARGUMENT")),
        ({"uri": "a", "text": "a", "path": "/etc/passwd"}, (422, "INVALID_ARGUMENT")),
    ],
)
def test_mistakes_of_puts(door: Http, body: dict[str, Any], problem: tuple[int, str]) -> None:
    answered = door("POST", "/v1/documents", body)
    if problem[1]:
        assert answered.problem == problem, answered.json
    else:
        assert answered.status in (200, 201)


@pytest.mark.parametrize(
    "query", ["metadata=x", "metadata=[]", "metadata={", "title=a&wait=perhaps"]
)
def test_mistakes_of_uploads(door: Http, query: str) -> None:
    answered = door("PUT", f"/v1/documents/a?{query}", data=b"a", content_type="text/plain")
    assert answered.problem[0] in (400, 422)


def test_mistakes_of_deletions(door: Http) -> None:
    for body in ({}, {"filter": "a=1", "prefix": "a"}, {"prefix": ""}, {"filter": "a="}):
        assert door("POST", "/v1/documents:delete", body).problem == (400, "INVALID_ARGUMENT")
    assert door("DELETE", "/v1/documents/notes/ferry.md").problem == (409, "FOREIGN_ROOT")


def test_who_may_not_write_writes_nothing(doors: Doors) -> None:
    body = {"uri": "forbidden", "text": "ice"}
    batch = {"documents": [body]}
    for name in ("search", "other"):
        for method, path, sent in (
            ("POST", "/v1/documents", body),
            ("POST", "/v1/documents:batch", batch),
            ("DELETE", "/v1/documents/a", None),
            ("POST", "/v1/documents:delete", {"prefix": "a"}),
        ):
            answered = doors.http(name)(method, path, sent)
            assert answered.problem == (403, "PERMISSION_DENIED"), (name, path)
    anyone = doors.http("")
    assert anyone("POST", "/v1/documents", body).problem == (401, "UNAUTHENTICATED")
    assert doors.http("all")("GET", "/v1/documents/forbidden").problem == (404, "NOT_FOUND")


def test_a_server_that_takes_no_changes_says_so(http: Http) -> None:
    for method, path, body in (
        ("POST", "/v1/documents", {"uri": "a", "text": "a"}),
        ("POST", "/v1/documents:batch", {"documents": [{"uri": "a", "text": "a"}]}),
        ("DELETE", "/v1/documents/a", None),
        ("POST", "/v1/documents:delete", {"prefix": "a"}),
        ("POST", "/v1/collections", {"collection": "a"}),
        ("PATCH", "/v1/collections/default", {"language": "en"}),
        ("DELETE", "/v1/collections/default", None),
    ):
        answered = http(method, path, body)
        assert answered.problem == (501, "NOT_WRITABLE")
        assert "--writable" in answered.json["detail"]
    assert json.loads(http("GET", "/v1/collections/default").body)["document_count"] > 0
