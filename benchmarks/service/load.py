"""A crowd of clients in a process of its own, which measures how soon each request is answered.

    python -m benchmarks.service.load PLAN.json          (called by benchmarks/service/)

Connects, prints ``ready``, waits for a line on standard input, runs, and prints one JSON object:
start and end of every request, in seconds of the system's monotonic clock, and how it ended. A
closed crowd sends its next request as soon as the last one is answered. An open crowd sends at
random times of a given rate (Poisson), answered or not, and a request's time counts from the moment
it was due.
"""

import asyncio
import json
import random
import sys
import threading
import time
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from benchmarks.common.connections import GrpcConnection, HttpConnection

K = 10
METHOD = "/retrieval.v1.SearchService/Search"


@dataclass(frozen=True)
class Plan:
    """The parameters of a crowd."""

    kind: str
    """One of ``TARGETS``."""
    target: str
    """Address, or URL that the query is appended to."""
    clients: int
    """Clients of a closed crowd; connections of an open one."""
    seconds: float
    rate: float
    """Requests a second of an open crowd; 0 means a closed one."""
    queries: list[str]
    """Sent in this order, repeatedly, with a number that distinguishes the rounds."""
    seed: int = 0
    timeout: float = 60
    """Seconds that a client waits for an answer."""
    model: str = ""
    """Folder of the model, if clients embed."""
    cores: int = 0
    """Threads for embedding; 0 means all."""


@dataclass
class Answers:
    """Results, one entry per request."""

    started: list[float]
    ended: list[float]
    outcomes: list[str]

    def add(self, started: float, outcome: str) -> None:
        """Record a request that has just ended."""
        self.started.append(started)
        self.ended.append(time.monotonic())
        self.outcomes.append(outcome)


class Target(ABC):
    """Service that can be called from an event loop."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    @abstractmethod
    async def open(self) -> None:
        """Connect."""

    @abstractmethod
    async def ask(self, query: str) -> str:
        """Search; return ``ok`` or the name of the failure."""

    @abstractmethod
    async def close(self) -> None:
        """Close the connections."""


class Grpc(Target):
    """Ours, called over minimal connections."""

    async def open(self) -> None:
        from grpc import StatusCode

        from retrieval.v1.search_service_pb2 import SEARCH_MODE_DENSE, SearchRequest

        # Dense, like all peers.
        self._request = partial(SearchRequest, page_size=K, mode=SEARCH_MODE_DENSE)
        self._names = {code.value[0]: code.name for code in StatusCode}
        host, _, port = self.plan.target.rpartition(":")
        loop = asyncio.get_running_loop()
        self._connections = [
            (
                await loop.create_connection(
                    lambda: GrpcConnection(self.plan.target, METHOD, self.plan.timeout), host, port
                )
            )[1]
            for _ in range(max(1, min(8, self.plan.clients)))
        ]
        self._turn = 0

    async def ask(self, query: str) -> str:
        self._turn += 1
        connection = self._connections[self._turn % len(self._connections)]
        request = self._request(text=query).SerializeToString()
        status, size = await connection.call(request)
        if status:
            return self._names[status]
        return "ok" if size else "empty"

    async def close(self) -> None:
        for connection in self._connections:
            connection.close()


class GrpcLibrary(Target):
    """Ours, called by gRPC's own client. Answers are not parsed."""

    async def open(self) -> None:
        import grpc

        from retrieval.v1.search_service_pb2 import SEARCH_MODE_DENSE, SearchRequest

        options = [("grpc.use_local_subchannel_pool", 1)]
        connections = max(1, min(8, self.plan.clients))
        self._channels = [
            grpc.aio.insecure_channel(self.plan.target, options) for _ in range(connections)
        ]
        self._methods = [channel.unary_unary(METHOD) for channel in self._channels]
        # Dense, like all peers.
        self._request = partial(SearchRequest, page_size=K, mode=SEARCH_MODE_DENSE)
        self._error = grpc.aio.AioRpcError
        self._turn = 0
        await asyncio.gather(*(channel.channel_ready() for channel in self._channels))

    async def ask(self, query: str) -> str:
        self._turn += 1
        method = self._methods[self._turn % len(self._methods)]
        request = self._request(text=query).SerializeToString()
        try:
            answer: bytes = await method(request, timeout=self.plan.timeout)
        except self._error as error:
            return str(error.code().name)
        return "ok" if answer else "empty"

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()


class Http(Target):
    """Service that takes the query in its URL; each client has its own connection."""

    async def open(self) -> None:
        url = urlsplit(self.plan.target)
        self._path = f"{url.path}?{url.query}"
        self._address = (url.hostname, url.port)
        self._idle: list[HttpConnection] = []

    async def ask(self, query: str) -> str:
        if self._idle:
            connection = self._idle.pop()
        else:
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(
                lambda: HttpConnection(self.plan.target), *self._address
            )
        status = await self.send(connection, query)
        if status:
            self._idle.append(connection)
        return "ok" if status == 200 else str(status)

    async def send(self, connection: HttpConnection, query: str) -> int:
        return await connection.get(self._path + quote(query))

    async def close(self) -> None:
        for connection in self._idle:
            connection.close()


class Gateway(Http):
    """Our own HTTP; it takes the query as JSON."""

    async def send(self, connection: HttpConnection, query: str) -> int:
        body = json.dumps({"query": query, "k": K, "mode": "dense"}).encode()
        return await connection.post("/v1/search", body)


class Chroma(Target):
    """chromadb's server; the client embeds, with sentence-transformers, in threads."""

    async def open(self) -> None:
        import chromadb
        import torch
        from sentence_transformers import SentenceTransformer

        if self.plan.cores:
            torch.set_num_threads(self.plan.cores)
        host, _, port = self.plan.target.partition(":")
        client = chromadb.HttpClient(host, int(port))
        self._collection = client.get_collection("passages", embedding_function=None)
        self._model = SentenceTransformer(self.plan.model)
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(max(1, self.plan.clients))

    async def ask(self, query: str) -> str:
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._ask, query)

    def _ask(self, query: str) -> str:
        vector = self._model.encode(query, normalize_embeddings=True, show_progress_bar=False)
        found: Any = self._collection.query(query_embeddings=[vector], n_results=K)
        return "ok" if found["ids"][0] else "empty"

    async def close(self) -> None:
        self._pool.shutdown()


TARGETS: dict[str, type[Target]] = {
    "grpc": Grpc,
    "grpc-library": GrpcLibrary,
    "http": Http,
    "gateway": Gateway,
    "chroma": Chroma,
}


def nth_query(plan: Plan, number: int) -> str:
    """Return the n-th query. No query repeats, because services cache answers."""
    rounds, place = divmod(number, len(plan.queries))
    return f"{plan.queries[place]} {rounds}" if rounds else plan.queries[place]


async def closed(target: Target, plan: Plan) -> Answers:
    """Run a closed crowd: every client sends its next request after the last answer."""
    answers = Answers([], [], [])
    until = time.monotonic() + plan.seconds
    following = iter(range(10**9))

    async def client() -> None:
        while time.monotonic() < until:
            query = nth_query(plan, next(following))
            started = time.monotonic()
            answers.add(started, await target.ask(query))

    await asyncio.gather(*(client() for _ in range(plan.clients)))
    return answers


async def opened(target: Target, plan: Plan) -> Answers:
    """Run an open crowd: requests arrive at random times."""
    answers = Answers([], [], [])
    moments = random.Random(plan.seed)

    async def request(due: float, query: str) -> None:
        answers.add(due, await target.ask(query))

    due = time.monotonic()
    until = due + plan.seconds
    async with asyncio.TaskGroup() as group:
        for number in range(10**9):
            due += moments.expovariate(plan.rate)
            if due > until:
                break
            # Sleep even if already late, so that other tasks get their turn.
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            group.create_task(request(due, nth_query(plan, number)))
    return answers


async def run(plan: Plan) -> None:
    """Connect, wait for the signal, send requests, print the results."""
    target = TARGETS[plan.kind](plan)
    await target.open()
    await target.ask(plan.queries[-1])
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    answers = await (opened if plan.rate else closed)(target, plan)
    await target.close()
    print(json.dumps(asdict(answers)), flush=True)


def main() -> None:
    """Read the plan and run it."""
    plan = Plan(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    asyncio.run(run(plan))


if __name__ == "__main__":
    main()
