"""The protocol over HTTP: who may ask, and what is no request of it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from retrieval.gateway.mcp.over_http import mcp_site
from retrieval.service.access.token_file import create_token, revoke_token
from tests.gateway.harness import Http, gateway
from tests.gateway.mcp.harness import answer, refusal
from tests.service.harness import RunningServer, running

PING = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
SEARCH = {
    **PING,
    "method": "tools/call",
    "params": {"name": "search", "arguments": {"query": "ferry"}},
}
ACCEPT = "application/json, text/event-stream"


@pytest.fixture(scope="module")
def http(server: RunningServer) -> Iterator[Http]:
    with gateway(server.target, mcp_site, cors_origins=("https://chat.example",)) as running_site:
        yield running_site


def connect(http: Http, token: str = "", **settings: Any) -> Client:
    """A client that sends a token."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    sending = httpx2.AsyncClient(headers=headers, timeout=60)
    url = f"http://127.0.0.1:{http.port}/mcp"
    return Client(streamable_http_client(url, http_client=sending), **settings)


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_tools_answer_in_every_version_of_the_protocol(http: Http, mode: Any) -> None:
    heard = []

    async def hear(progress: float, _total: float | None, _message: str | None) -> None:
        heard.append(progress)

    async def main() -> None:
        async with connect(http, mode=mode) as client:
            found = await answer(client, "search", query="ferry", top_k=1)
            assert found["results"][0]["title"] == "The ferry"
            await client.call_tool("search", {"query": "ferry"}, progress_callback=hear)
            assert (await client.list_resources()).resources

    asyncio.run(main())
    assert heard[0] == 0


def test_the_guard_is_that_of_the_gateway(http: Http) -> None:
    def post(path: str = "/mcp", body: object = PING, **headers: str) -> Any:
        return http("POST", path, body, accept=ACCEPT, **headers)

    assert post().status == 200
    assert post(host="evil.example").problem == (421, "FOREIGN_HOST")
    assert post(origin="https://evil.example").problem == (403, "FOREIGN_ORIGIN")
    assert post(origin="https://chat.example").status == 200
    assert post("/").problem == (404, "NOT_FOUND")
    assert http("GET", "/mcp").problem == (405, "METHOD_NOT_ALLOWED")
    assert http("DELETE", "/mcp").headers["allow"] == "POST"
    large = http("POST", "/mcp", data=b"{", content_length=str(65 << 20))
    assert large.problem == (413, "BODY_TOO_LARGE")
    assert http("POST", "/mcp", data=b"{", accept=ACCEPT).status == 400
    asked = http(
        *("OPTIONS", "/mcp"),
        origin="https://chat.example",
        access_control_request_method="POST",
        access_control_request_headers="authorization,mcp-protocol-version",
    )
    assert asked.status == 200
    assert "authorization" in asked.headers["access-control-allow-headers"]


def test_each_request_has_its_own_token(index: Path, tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    searches = create_token(file, "searches", scopes=("search",))
    reads = create_token(file, "reads", scopes=("read",))
    slow = create_token(file, "slow", rate=0.001)

    async def main(http: Http) -> None:
        async with connect(http, searches) as searching, connect(http, reads) as reading:
            for _ in range(2):
                assert (await answer(searching, "search", query="ferry"))["results"]
                assert "lacks the scope read" in await refusal(searching, "list_documents")
                assert (await answer(reading, "list_documents"))["documents"]
                assert "lacks the scope search" in await refusal(reading, "search", query="a")

    with (
        running({"default": index}, token_file=file) as server,
        gateway(server.target, mcp_site) as http,
    ):
        missing = http("POST", "/mcp", PING, accept=ACCEPT)
        assert missing.problem == (401, "UNAUTHENTICATED")
        assert missing.headers["www-authenticate"] == "Bearer"
        wrong = http("POST", "/mcp", PING, accept=ACCEPT, authorization="Bearer rt_nonsense")
        assert wrong.problem == (401, "UNAUTHENTICATED")
        assert wrong.headers["www-authenticate"] == 'Bearer error="invalid_token"'
        asyncio.run(main(http))

        def status(token: str) -> int:
            found = http("POST", "/mcp", SEARCH, accept=ACCEPT, authorization=f"Bearer {token}")
            return found.status

        assert [status(slow) for _ in range(2)] == [200, 200]  # tools say what the limit is
        revoke_token(file, "searches")
        server.loop.call_soon_threadsafe(server.server.reload_access)
        # The tool says so, and the next request is refused at the door.
        assert [status(searches) for _ in range(3)] == [200, 401, 401]
        assert status(reads) == 200
