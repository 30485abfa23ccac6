"""The SDK's client in process, and documents that are hard to answer with."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from mcp import Client

from retrieval.gateway.config import GatewayConfig
from retrieval.gateway.mcp.backend import Backend
from retrieval.gateway.mcp.bounds import ANSWER_CHARS
from retrieval.gateway.mcp.server import create_server
from retrieval.gateway.upstream import Upstream

T = TypeVar("T")


@asynccontextmanager
async def in_process(target: str, *, token: str = "") -> AsyncIterator[Client]:
    """A client of an MCP server in this process, which asks a server."""
    upstream = Upstream(GatewayConfig(target=target, timeout=30))
    backend = Backend(timeout=30, token=token)
    backend.connect(upstream)
    try:
        async with Client(create_server(backend)) as client:
            yield client
    finally:
        await upstream.close()


def ask(target: str, work: Callable[[Client], Awaitable[T]], *, token: str = "") -> T:
    """Return what some work with a client returns, in an event loop of its own."""

    async def main() -> T:
        async with in_process(target, token=token) as client:
            return await work(client)

    return asyncio.run(main())


def text_of(result: Any) -> str:
    """The text of a tool's answer, which is all that it has, and is short enough."""
    (content,) = result.content
    assert result.structured_content is None
    assert len(content.text.encode("utf-16-le")) // 2 < ANSWER_CHARS
    return str(content.text)


async def answer(client: Client, tool: str, **arguments: Any) -> Any:
    """The answer of a tool that succeeds."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return json.loads(text_of(result))


async def refusal(client: Client, tool: str, **arguments: Any) -> str:
    """The text of a tool's error, in one line."""
    result = await client.call_tool(tool, arguments)
    assert result.is_error, result.content
    text = text_of(result)
    assert "\n" not in text
    assert "Traceback" not in text
    return text


async def whole_text(client: Client, identifier: str) -> str:
    """The text of a document, read part by part."""
    parts, start = [], 0
    while True:
        part = await answer(client, "fetch", id=identifier, start=start)
        assert part["start"] == start
        assert part["end"] == start + len(part["text"])
        parts.append(part["text"])
        if "next_start" not in part:
            assert part["end"] == part["characters"]
            return "".join(parts)
        assert part["next_start"] == part["end"] > start
        start = part["next_start"]


def write_degenerate(folder: Path) -> None:
    """Documents that would not fit into an answer: long, odd, many, and of large metadata."""
    folder.mkdir()
    (folder / "line.txt").write_text("harbour " * 9_000)
    (folder / "word.txt").write_text("a" * 50_000)
    odd = '"quoted" back\\slash \U0001f6a2 \tTab Äpfel\r\n' * 700
    (folder / "odd #1?.txt").write_text(odd, encoding="utf-8")
    (folder / "作者 笔记.txt").write_text("港口" * 12_000, encoding="utf-8")
    fields = "\n".join(f"field{number}: {'value ' * 20}" for number in range(200))
    header = f"---\ntitle: {'A long title ' * 100}\nnote: {'x' * 5_000}\n{fields}\n---\n"
    (folder / "metadata.md").write_text(f"{header}\nThe ferry leaves the harbour.\n")
    for number in range(70):
        path = folder / ("deep " * 8).strip() / ("folder " * 20).strip() / f"{number:03}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"Ferry {number} leaves the harbour. " * 4)
