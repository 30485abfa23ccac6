"""Channels of an asyncio client: one for each event loop that uses it.

A channel of ``grpc.aio`` belongs to the event loop in which it was made.
"""

import asyncio
import threading
from typing import Any

import grpc
from grpc_health.v1.health_pb2_grpc import HealthStub

from retrieval.client.connection import Endpoint
from retrieval.indexer_v1.ingest_service_pb2_grpc import IngestServiceStub
from retrieval.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from retrieval.v1.index_service_pb2_grpc import IndexServiceStub
from retrieval.v1.rerank_service_pb2_grpc import RerankServiceStub
from retrieval.v1.search_service_pb2_grpc import SearchServiceStub


class Stubs:
    """A channel in the running event loop, and the services behind it."""

    def __init__(self, endpoint: Endpoint, *more: tuple[str, int]) -> None:
        """Prepare to connect; the first call connects.

        Args:
            endpoint: where the server is.
            more: options of the channel that take precedence over those of the endpoint.
        """
        target, options = endpoint.target, [*endpoint.options, *more]
        if endpoint.credentials is None:
            self.channel = grpc.aio.insecure_channel(target, options=options)
        else:
            self.channel = grpc.aio.secure_channel(target, endpoint.credentials, options=options)
        # The stubs are typed for channels that block.
        channel: Any = self.channel
        self.search: Any = SearchServiceStub(channel)
        self.embedding: Any = EmbeddingServiceStub(channel)
        self.rerank: Any = RerankServiceStub(channel)
        self.index: Any = IndexServiceStub(channel)
        self.ingest: Any = IngestServiceStub(channel)
        self.health: Any = HealthStub(channel)


class Loops:
    """The stubs of each event loop. Thread-safe: every thread may run a loop of its own."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Begin without channels."""
        self._endpoint = endpoint
        self._stubs: dict[asyncio.AbstractEventLoop, Stubs] = {}
        self._lock = threading.Lock()

    def stubs(self) -> Stubs:
        """Return the stubs of the running event loop; the first call in a loop makes them.

        Raises:
            ClientClosed: the client is closed.
        """
        loop = asyncio.get_running_loop()
        with self._lock:
            self._endpoint.check_open()
            found = self._stubs.get(loop)
            if found is None:
                # A loop that is closed has no more use for its channel, which then closes itself.
                for other in [other for other in self._stubs if other.is_closed()]:
                    del self._stubs[other]
                found = self._stubs[loop] = Stubs(self._endpoint)
        return found

    async def close(self) -> None:
        """Close all channels, each in its own loop; calls in flight fail."""
        with self._lock:
            self._endpoint.closed = True
            stubs, self._stubs = self._stubs, {}
        here = asyncio.get_running_loop()
        for loop, one in stubs.items():
            if loop is here:
                await one.channel.close(None)
            elif loop.is_running():
                closing = asyncio.run_coroutine_threadsafe(one.channel.close(None), loop)
                await asyncio.wrap_future(closing)
