"""The tools and resources, with the SDK's client in this process and a real server."""

from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError

from retrieval.service.access.token_file import create_token
from retrieval.service.config import Address, ServiceConfig
from tests.gateway.mcp.harness import answer, ask, refusal
from tests.service.harness import RunningServer, free_port, running


def test_tools_describe_themselves(server: RunningServer) -> None:
    tools = ask(server.target, lambda client: client.list_tools()).tools
    assert [tool.name for tool in tools] == [
        *("search", "fetch", "list_documents", "list_collections")
    ]
    for tool in tools:
        assert tool.description
        assert tool.annotations is not None
        assert tool.annotations.read_only_hint
        assert not tool.annotations.open_world_hint
        assert tool.output_schema is None  # it would ask for structured content
        for argument in tool.input_schema["properties"].values():
            assert argument["description"]
            assert argument["type"] in ("string", "integer", "boolean")
    required = {tool.name: tool.input_schema.get("required", []) for tool in tools}
    assert required["search"] == ["query"]
    assert required["fetch"] == ["id"]


def test_search_finds_and_fetch_reads(server: RunningServer) -> None:
    async def work(client: Client) -> None:
        found = await answer(client, "search", query="when does the ferry leave the harbour?")
        best = found["results"][0]
        assert best["title"] == "The ferry"
        assert best["id"].startswith("retrieval://default/notes/ferry.md#char=")
        assert best["url"] == "retrieval://default/notes/ferry.md"
        assert "every hour" in best["text"]
        read = await answer(client, "fetch", id=best["id"])
        assert {"id", "title", "text", "url", "metadata"} <= set(read)
        assert read["id"] == best["id"]
        assert best["text"] in read["text"]
        assert read["text"].startswith("# The ferry")

    ask(server.target, work)


def test_options_of_search(server: RunningServer) -> None:
    async def work(client: Client) -> None:
        few = await answer(client, "search", query="harbour", top_k="2", filter=None)
        assert len(few["results"]) == 2
        more = await answer(
            *(client, "search"), query="harbour", cursor=few["next_cursor"], top_k=5
        )
        assert {one["id"] for one in few["results"]}.isdisjoint(
            one["id"] for one in more["results"]
        )
        by_document = await answer(client, "search", query="history", group_by_document=True)
        urls = [one["url"] for one in by_document["results"]]
        assert len(set(urls)) == len(urls) > 1
        only = await answer(client, "search", query="history", filter="path:violin.md")
        assert {one["title"] for one in only["results"]} == {"The violin"}
        tea = await answer(client, "search", query="tea", collection="tea", mode="lexical")
        assert [one["title"] for one in tea["results"]] == ["Tea"]
        odd = await answer(client, "search", query="tea", filter="colour=red")
        assert odd["results"] == []
        assert "a field that no document has" in odd["warnings"][0]

    ask(server.target, work)


def test_lists(server: RunningServer) -> None:
    async def work(client: Client) -> None:
        collections = (await answer(client, "list_collections"))["collections"]
        assert [(one["name"], one["documents"]) for one in collections] == [
            *(("default", 8), ("tea", 1))
        ]
        documents = (await answer(client, "list_documents"))["documents"]
        assert [one["uri"] for one in documents][:2] == ["notes/beehive.md", "notes/bread.md"]
        read = await answer(client, "fetch", id=documents[0]["id"])
        assert read["characters"] == documents[0]["characters"] == len(read["text"])

    ask(server.target, work)


@pytest.mark.parametrize(
    ("tool", "arguments", "words"),
    [
        ("search", {}, "query is missing"),
        ("search", {"query": "a", "top_k": 10_000}, "less than or equal to 100"),
        ("search", {"query": "a", "limit": 3}, "there is no argument limit; there are query, "),
        ("search", {"query": "a", "x" * 90_000: 1}, "there is no argument xxx"),
        ("search", {"query": "a", "filter": "(("}, "the filter is wrong at character 3"),
        ("search", {"query": "a", "mode": "fuzzy"}, "mode: input should be 'auto', "),
        ("search", {"query": "a", "collection": "teas"}, "this server has: default, tea"),
        ("search", {"query": "a", "cursor": "b"}, "this cursor is none that was given out"),
        ("search", {"query": "a" * 99_000}, "characters"),
        ("search", {"query": " "}, "empty"),
        ("fetch", {"id": "notes/nothing.md"}, "no document notes/nothing.md"),
        ("fetch", {"id": "collections/default/documents/999"}, "no document"),
        ("fetch", {"id": "notes/ferry.md", "start": 9_999}, "start is 9999, and the document has"),
        ("fetch", {"id": "notes/ferry.md", "start": -1}, "greater than or equal to 0"),
        ("list_documents", {"cursor": "x"}, "token"),
        ("list_documents", {"collection": "None"}, "None"),
    ],
)
def test_mistakes_are_tool_errors(
    server: RunningServer, tool: str, arguments: dict[str, Any], words: str
) -> None:
    assert words in ask(server.target, lambda client: refusal(client, tool, **arguments))


def test_progress_is_reported_to_clients_that_ask(server: RunningServer) -> None:
    heard: list[tuple[float, float | None, str | None]] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, total, message))

    async def work(client: Client) -> None:
        await client.call_tool("search", {"query": "ferry"}, progress_callback=hear)

    ask(server.target, work)
    assert heard[0][0] == 0
    assert heard[-1][:2] == (len(heard) - 1, len(heard) - 1)


def test_resources_of_all_collections(server: RunningServer) -> None:
    async def work(client: Client) -> list[str]:
        first = await client.list_resources()
        second = await client.list_resources(cursor=first.next_cursor)
        assert second.next_cursor is None
        with pytest.raises(MCPError, match="no document") as missing:
            await client.read_resource("retrieval://tea/coffee.md")
        assert missing.value.code == -32602
        return [one.uri for one in (*first.resources, *second.resources)]

    uris = ask(server.target, work)
    assert len(uris) == 9
    assert uris[-1] == "retrieval://tea/tea/tea.md"


def test_tokens_decide_what_a_tool_may(index: Path, other_index: Path, tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    searches = create_token(file, "searches", scopes=("search",))
    reads_tea = create_token(file, "reads", scopes=("read",), collections=("tea",))

    async def work(client: Client) -> None:
        assert (await answer(client, "search", query="ferry"))["results"]
        assert "lacks the scope read" in await refusal(client, "fetch", id="notes/ferry.md")

    async def work_with_tea(client: Client) -> None:
        names = (await answer(client, "list_collections"))["collections"]
        assert [one["name"] for one in names] == ["tea"]
        assert "lacks the scope search" in await refusal(client, "search", query="tea")
        assert "it sees: tea" in await refusal(client, "list_documents")

    with running({"default": index, "tea": other_index}, token_file=file) as server:
        ask(server.target, work, token=searches)
        ask(server.target, work_with_tea, token=reads_tea)
        without = ask(server.target, lambda client: refusal(client, "search", query="a"))
        assert "this server needs a token" in without


def test_a_server_that_is_away_is_an_error_until_it_is_back(index: Path) -> None:
    async def work(client: Client) -> None:
        assert "no server answers" in await refusal(client, "search", query="ferry")
        server = RunningServer(ServiceConfig({"default": index}, listen, device="cpu"))
        try:
            assert (await answer(client, "search", query="ferry"))["results"]
        finally:
            server.stop()

    listen = Address("127.0.0.1", free_port())
    ask(str(listen), work)
