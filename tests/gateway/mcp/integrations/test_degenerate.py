"""Documents that would not fit into an answer, with the SDK's client and a real server."""

import json

from mcp import Client

from retrieval.client import RetrievalClient
from retrieval.gateway.mcp.bounds import ANSWER_CHARS
from tests.gateway.mcp.harness import answer, ask, whole_text
from tests.service.harness import RunningServer


def test_every_answer_is_short_whatever_the_documents(degenerate: RunningServer) -> None:
    async def work(client: Client) -> None:
        with RetrievalClient(degenerate.target) as direct:
            listed = list(direct.documents())
            texts = {
                one.uri: direct.document(one.name, with_text=True).text or "" for one in listed
            }
        found, cursor = [], ""
        while True:
            page = await answer(client, "list_documents", cursor=cursor)
            found += page["documents"]
            cursor = page.get("next_cursor", "")
            if not cursor:
                break
        assert [one["uri"] for one in found] == [one.uri for one in listed]
        for one in [*found[:2], *found[-5:]]:
            assert await whole_text(client, one["id"]) == texts[one["uri"]]
        passages = []
        while True:
            page = await answer(
                *(client, "search"), query="harbour ferry 港口 a", top_k=100, cursor=cursor
            )
            assert page["results"]
            passages += [one["id"] for one in page["results"]]
            cursor = page.get("next_cursor", "")
            if not cursor or len(passages) > 300:
                break
        assert len(set(passages)) == len(passages) > 70

    ask(degenerate.target, work)


def test_a_passage_deep_in_a_long_document_is_read_with_what_is_around(
    degenerate: RunningServer,
) -> None:
    async def work(client: Client) -> None:
        uri = "retrieval://default/docs/line.txt"
        part = await answer(client, "fetch", id=f"{uri}#char=40000,40300")
        assert part["start"] <= 40_000
        assert part["end"] >= 40_300
        assert part["next_start"] == part["end"]
        assert "The document begins at start=0" in part["note"]
        again = await answer(client, "fetch", id=f"{uri}#char=40000,40300", start=0)
        assert again["start"] == 0
        changed = await answer(client, "fetch", id=f"{uri}#char=900000,900300")
        assert changed["start"] == 0

    ask(degenerate.target, work)


def test_large_metadata_is_left_out_and_counted(degenerate: RunningServer) -> None:
    async def work(client: Client) -> None:
        read = await answer(client, "fetch", id="retrieval://default/docs/metadata.md")
        shown, left_out = len(read["metadata"]), read["metadata_fields_left_out"]
        assert shown > 5
        assert shown + left_out == 64  # what an index keeps of one document
        assert read["title"].endswith("…")

    ask(degenerate.target, work)


def test_resources_are_listed_and_read_in_parts(degenerate: RunningServer) -> None:
    async def work(client: Client) -> None:
        found, cursor = [], None
        while True:
            page = await client.list_resources(cursor=cursor)
            assert len(page.model_dump_json(exclude_none=True)) < ANSWER_CHARS
            found += page.resources
            cursor = page.next_cursor
            if cursor is None:
                break
        names = [one.name for one in found]
        assert len(set(names)) == len(names) == 75
        assert all(one.uri.isascii() for one in found)
        long = next(one for one in found if "line.txt" in one.name)
        uri, text = long.uri, ""
        while uri:
            read = (await client.read_resource(uri)).contents
            whole = json.dumps([one.model_dump(exclude_none=True) for one in read])
            assert len(whole) < ANSWER_CHARS
            text += read[0].text  # type: ignore[union-attr]
            uri = read[1].uri if len(read) > 1 else ""
        assert text == "harbour " * 9_000
        part = (await client.read_resource(f"{long.uri}#char=8,15")).contents
        assert [one.text for one in part] == ["harbour"]  # type: ignore[union-attr]
        (template,) = (await client.list_resource_templates()).resource_templates
        assert template.uri_template == "retrieval://{collection}/{+uri}"

    ask(degenerate.target, work)
