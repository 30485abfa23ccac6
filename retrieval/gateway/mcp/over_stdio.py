"""The protocol over standard input and output: the process of an assistant's own."""

import asyncio
import os
import signal
import threading
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any, Final

from mcp.server import Server
from mcp.server.stdio import stdio_server

from retrieval.gateway.config import GatewayConfig
from retrieval.gateway.mcp.backend import Backend
from retrieval.gateway.mcp.server import create_server
from retrieval.gateway.upstream import Upstream

_MESSAGE_BYTES: Final = 4 << 20
"""Of one message, as over HTTP. A longer line is answered as one that is no message."""
_READ_BYTES: Final = 64 << 10


def run(config: GatewayConfig, target: AbstractAsyncContextManager[str], *, token: str) -> None:
    """Answer until standard input closes, SIGTERM or Ctrl-C.

    Args:
        config: how to connect to the server; its ``target`` is replaced.
        target: yields the server's address, and keeps the server running if it is our own. Clients
            are answered meanwhile.
        token: for all requests.

    Raises:
        RetrievalError: the server can't start, or there can't be a connection.
    """
    asyncio.run(_run(config, target, token))


async def _run(config: GatewayConfig, target: AbstractAsyncContextManager[str], token: str) -> None:
    backend = Backend(timeout=config.timeout, token=token)
    serving = asyncio.create_task(_serve(create_server(backend)))
    connecting = asyncio.create_task(_connected(backend, config, target))
    tasks = {serving, connecting}
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.result()


async def _connected(
    backend: Backend, config: GatewayConfig, target: AbstractAsyncContextManager[str]
) -> None:
    """Give a backend its connection, and keep what is behind it until this task is cancelled."""
    async with target as address:
        upstream = Upstream(replace(config, target=address))
        backend.connect(upstream)
        try:
            await asyncio.Event().wait()
        finally:
            await upstream.close()


async def _serve(server: Server[Any]) -> None:
    """Answer until standard input closes, or nobody reads standard output any more."""
    lines: Any = _Lines(asyncio.get_running_loop())
    try:
        async with stdio_server(stdin=lines) as (received, sent):
            await server.run(received, sent, server.create_initialization_options())
    except* BrokenPipeError:
        pass


class _Lines:
    """Lines of standard input, read by a thread that does not keep the process from ending.

    The SDK's own reader does: its thread waits for a line, and Python waits for its thread. Others
    find standard input empty, as the SDK does it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: asyncio.Queue[str | None] = asyncio.Queue(1)
        self._source = os.dup(0)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        threading.Thread(target=self._read, name="stdin", daemon=True).start()

    def __aiter__(self) -> "_Lines":
        return self

    async def __anext__(self) -> str:
        line = await self._queue.get()
        if line is None:
            raise StopAsyncIteration
        return line

    def _read(self) -> None:
        pending = bytearray()
        try:
            while data := os.read(self._source, _READ_BYTES):
                first, *more = data.split(b"\n")
                pending += first[: max(0, _MESSAGE_BYTES + 1 - len(pending))]
                for part in more:
                    self._put(_decoded(pending))
                    pending = bytearray(part)
            if pending:
                self._put(_decoded(pending))
            self._put(None)
        except RuntimeError:
            return  # the event loop has ended

    def _put(self, line: str | None) -> None:
        asyncio.run_coroutine_threadsafe(self._queue.put(line), self._loop).result()


def _decoded(line: bytearray) -> str:
    return line.decode("utf-8", "replace") if len(line) <= _MESSAGE_BYTES else "(too long)"
