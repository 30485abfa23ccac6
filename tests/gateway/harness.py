"""A gateway in a thread, and a client that sends exactly what a test says."""

import asyncio
import http.client
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from retrieval.gateway.config import GatewayConfig
from retrieval.gateway.server import RunningGateway, Site, gateway_site
from retrieval.gateway.upstream import Upstream


@dataclass(frozen=True)
class Answered:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def problem(self) -> tuple[int, str]:
        """Status and reason of an error, which must be problem details."""
        assert self.headers["content-type"] == "application/problem+json", self.body
        problem = self.json
        assert problem["status"] == self.status
        assert problem["detail"]
        return self.status, problem["reason"]


class Http:
    """Sends requests to a port, each over a connection of its own."""

    def __init__(self, port: int, **headers: str) -> None:
        self.port = port
        self.headers = headers

    def __call__(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        data: bytes | None = None,
        timeout: float = 60,
        **headers: str,
    ) -> Answered:
        """Send one request: ``body`` as JSON, ``data`` as it is; names of headers with ``_``."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        given = {
            name.replace("_", "-"): value for name, value in {**self.headers, **headers}.items()
        }
        if body is not None:
            data = json.dumps(body).encode()
            given = {"content-type": "application/json", **given}
        try:
            connection.request(method, path, body=data, headers=given)
            answer = connection.getresponse()
            names = {name.lower(): value for name, value in answer.getheaders()}
            return Answered(answer.status, names, answer.read())
        finally:
            connection.close()


@dataclass(frozen=True)
class Doors:
    """A server with tokens that takes documents, and a gateway to it."""

    target: str
    port: int
    tokens: Mapping[str, str]
    """By what they are for: ``all``, a scope, ``not`` and a scope; ``other`` for a collection that
    is not there, and ``spent`` for one request."""

    def http(self, token: str) -> Http:
        """Who asks the gateway with a token; with none for an empty name."""
        return Http(self.port, **self.headers(token))

    def headers(self, token: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self.tokens[token]}"} if token else {}


@contextmanager
def gateway(
    target: str,
    make_site: Callable[[GatewayConfig, Upstream], Site] = gateway_site,
    **settings: Any,
) -> Iterator[Http]:
    """A gateway in front of a server, on a free port, with an event loop of its own."""
    ready, loops = threading.Event(), []
    ports: list[int] = []
    failures: list[BaseException] = []

    async def main() -> None:
        running = RunningGateway(GatewayConfig(port=0, target=target, **settings), make_site)
        loops.append((asyncio.get_running_loop(), running))

        def say_ready(port: int) -> None:
            ports.append(port)
            ready.set()

        await running.serve(say_ready)

    def run() -> None:
        try:
            asyncio.run(main())
        except Exception as error:  # noqa: BLE001  (raised again by the thread that waits)
            failures.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(60)
    if failures:
        raise failures[0]
    try:
        yield Http(ports[0])
    finally:
        loop, running = loops[0]
        loop.call_soon_threadsafe(running.stop)
        thread.join(60)
        assert not thread.is_alive()
