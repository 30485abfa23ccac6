"""`retrieval mcp` as assistants start it."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

from retrieval.gateway.config import HttpLimits
from retrieval.gateway.mcp.over_http import mcp_site
from retrieval.service.access.token_file import create_token
from tests.gateway.harness import Http, gateway
from tests.gateway.mcp.harness import answer, refusal
from tests.service.harness import RunningServer, running, wait_until

COMMAND = [sys.executable, "-m", "retrieval", "mcp"]
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
ACCEPT = "application/json, text/event-stream"
INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}


def connect(*arguments: str, token: str = "", **settings: Any) -> Client:
    """A client that starts the program as assistants do."""
    env = {**os.environ, "RETRIEVAL_TOKEN": token}
    command, *given = [*COMMAND, *arguments]
    return Client(StdioServerParameters(command=command, args=given, env=env), **settings)


class Raw:
    """The program, and lines of its standard streams."""

    def __init__(self, *arguments: str) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [*COMMAND, *arguments], stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )

    def send(self, *messages: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        for message in messages:
            self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def receive(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def call(self, number: int, tool: str, **arguments: Any) -> Any:
        params = {"name": tool, "arguments": arguments}
        self.send({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params})
        answered = self.receive()
        assert answered["id"] == number
        return answered["result"]

    @property
    def children(self) -> list[int]:
        """Processes that it has started."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in listed.read_text().split()] if listed.exists() else []


@contextmanager
def started(*arguments: str) -> Iterator[Raw]:
    """The program after the handshake."""
    raw = Raw(*arguments)
    try:
        raw.send(HELLO, INITIALIZED)
        assert raw.receive()["result"]["serverInfo"]["name"] == "gte-retrieval"
        yield raw
    finally:
        raw.process.kill()
        raw.process.communicate(timeout=30)


def lives(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_over_standard_input(server: RunningServer, mode: Any) -> None:
    async def main() -> None:
        async with connect("--target", server.target, mode=mode) as client:
            found = await answer(client, "search", query="when does the ferry leave?")
            read = await answer(client, "fetch", id=found["results"][0]["id"])
            assert read["title"] == "The ferry"
            assert "is wrong" in await refusal(client, "search", query="a", filter="((")
            assert len((await client.list_resources()).resources) > 1

    asyncio.run(main())


def test_the_token_is_in_the_environment(index: Path, tmp_path: Path) -> None:
    token = create_token(tmp_path / "tokens.json", "assistant", scopes=("search",))

    async def main(target: str) -> None:
        async with connect("--target", target, token=token) as client:
            assert (await answer(client, "search", query="ferry"))["results"]
            assert "lacks the scope read" in await refusal(client, "fetch", id="a")
        async with connect("--target", target) as client:
            assert "needs a token" in await refusal(client, "search", query="ferry")

    with running({"default": index}, token_file=tmp_path / "tokens.json") as server:
        asyncio.run(main(server.target))


def test_an_index_needs_no_server(index: Path, other_index: Path) -> None:
    heard: list[str | None] = []

    async def hear(_progress: float, _total: float | None, message: str | None) -> None:
        heard.append(message)

    async def main() -> None:
        async with connect("--index", str(index), "--index", f"tea={other_index}") as client:
            await client.list_tools()
            first = await client.call_tool(
                "search", {"query": "tea", "collection": "tea"}, progress_callback=hear
            )
            assert not first.is_error, first.content
            collections = await answer(client, "list_collections")
            assert [one["name"] for one in collections["collections"]] == ["default", "tea"]

    asyncio.run(main())
    assert heard[0] == "the server is starting"
    assert heard[-1] == "Search documents: done"


def test_it_ends_with_its_input_and_its_server_with_it(index: Path) -> None:
    with started("--index", str(index)) as raw:
        assert not raw.call(2, "search", query="ferry").get("isError")
        (server,) = raw.children
        assert raw.process.stdin is not None
        raw.process.stdin.close()
        raw.process.stdin = None
        assert raw.process.wait(60) == 0
        assert not lives(server)
        assert raw.process.stdout is not None
        assert raw.process.stdout.read() == ""


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_while_it_waits_for_input(server: RunningServer, sent: Any) -> None:
    with started("--target", server.target) as raw:
        raw.process.send_signal(sent)
        assert raw.process.wait(60) == 0
        assert raw.process.stderr is not None
        assert raw.process.stderr.read() == ""


@pytest.mark.parametrize("after_start", [False, True])
def test_kill_leaves_no_server_behind(index: Path, after_start: bool) -> None:
    with started("--index", str(index)) as raw:
        if after_start:
            raw.call(2, "search", query="ferry")
        wait_until(lambda: raw.children)
        (server,) = raw.children
        raw.process.kill()
        wait_until(lambda: not lives(server))


def test_a_server_of_its_own_that_dies_is_started_again(index: Path) -> None:
    with started("--index", str(index)) as raw:
        raw.call(2, "search", query="ferry")
        (server,) = raw.children
        os.kill(server, signal.SIGKILL)
        wait_until(lambda: not lives(server))
        number = iter(range(3, 1_000))
        wait_until(lambda: not raw.call(next(number), "search", query="ferry").get("isError"))


def test_an_index_that_is_missing_is_said(tmp_path: Path) -> None:
    raw = Raw("--index", str(tmp_path / "missing"))
    assert raw.process.wait(60) == 2
    stdout, stderr = raw.process.communicate()
    assert stdout == ""
    assert "no index" in stderr
    assert "the server could not start" in stderr
    assert "Traceback" not in stderr


def test_what_is_no_message_is_refused(server: RunningServer) -> None:
    with started("--target", server.target) as raw:
        assert raw.process.stdin is not None
        raw.process.stdin.write("x" * (5 << 20) + "\nnonsense\n\n")
        raw.process.stdin.flush()
        assert not raw.call(2, "search", query="ferry").get("isError")


def test_over_http(server: RunningServer) -> None:
    raw = Raw("--http", "127.0.0.1:0", "--target", server.target)
    try:
        assert raw.process.stdout is not None
        ready = raw.process.stdout.readline()
        address, _, source = ready.strip().removeprefix("listening on ").partition(" · ")
        assert source == f"server {server.target}"
        port = int(address.removesuffix("/mcp").rpartition(":")[2])

        async def main() -> None:
            async with Client(address) as client:
                assert (await answer(client, "search", query="ferry"))["results"]

        asyncio.run(main())
        assert Http(port)("POST", "/mcp", {}, host="evil.example").status == 421
        raw.process.send_signal(signal.SIGTERM)
        assert raw.process.communicate(timeout=60) == ("", "")
        assert raw.process.returncode == 0
    finally:
        raw.process.kill()
        raw.process.communicate(timeout=30)


def test_a_signal_while_the_server_starts_leaves_nothing_behind(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    raw = Raw("--http", "127.0.0.1:0", "--index", str(index))
    wait_until(lambda: raw.children)
    (server,) = raw.children
    raw.process.send_signal(signal.SIGTERM)
    assert raw.process.communicate(timeout=60) == ("", "")
    assert raw.process.returncode == 0
    assert not lives(server)
    assert not list(tmp_path.glob("retrieval-mcp-*"))


def test_a_client_that_hangs_up_makes_room_for_others() -> None:
    limits = HttpLimits(body_bytes=4 << 20, concurrent_requests=1)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        gateway(f"127.0.0.1:{silent.getsockname()[1]}", mcp_site, limits=limits) as http,
    ):

        def is_admitted() -> bool:
            try:
                answered = http("POST", "/mcp", HELLO, accept=ACCEPT, timeout=0.5)
            except TimeoutError:
                return True
            return answered.status != 503

        assert is_admitted()
        wait_until(is_admitted, seconds=3)
