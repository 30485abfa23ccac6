"""The writer process from start to end."""

import asyncio
import logging
import os
import shutil
import signal
import sys
from threading import Thread
from typing import Final

import grpc
from grpc_health.v1 import health
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

from indexer.ingest.writer.collection import Shared
from indexer.ingest.writer.collections import WritableCollections
from indexer.ingest.writer.embedding import Embedding
from indexer.ingest.writer.models import Models
from indexer.ingest.writer.room import Room
from indexer.ingest.writer.servicer import WriterServicer
from indexer.ingest.writer.settings import MAX_REQUEST_OVERHEAD, WriterSettings
from indexer.readers.on_demand import OnDemandReaders
from retrieval.domain.own_process import claim_process
from retrieval.indexer_v1.ingest_service_pb2_grpc import add_IngestServiceServicer_to_server
from retrieval.service.observability.request_log import set_up_logging

LOG = logging.getLogger("retrieval.ingest")

_ROOM_BYTES: Final = 128 << 20
"""Total size of the documents that are read or wait for their commit; others wait unread. It keeps
all readers busy with documents of usual sizes, and takes a few hundred MB of memory."""
_GRACE_SECONDS: Final = 5.0
"""Time for calls in flight to be answered after SIGTERM."""
_END_SECONDS: Final = 8.0
"""Time for the commits in flight. Then the process just ends: what was not acknowledged may be
lost, and the index is whole in any case."""


def main() -> None:
    """Read the settings from standard input, and serve until it ends."""
    settings = WriterSettings.from_json(sys.stdin.readline())
    claim_process()
    # On a terminal that stops processes in the background when they write: this one logs there.
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    # A collection's model is on this disk, or it is refused: nothing is downloaded for clients.
    os.environ["HF_HUB_OFFLINE"] = "1"
    set_up_logging(settings.log_format, settings.log_level)
    asyncio.run(_serve(settings))
    # Threads that still embed would keep Python alive.
    logging.shutdown()
    os._exit(0)


async def _serve(settings: WriterSettings) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    loop.add_signal_handler(signal.SIGINT, stopping.set)
    Thread(target=_wait_for_end, args=(loop, stopping), name="parent", daemon=True).start()
    readers = OnDemandReaders(kept=1)
    embedding = Embedding()
    models = Models(settings.models, settings.device)
    shared = Shared(models, embedding, readers, Room(_ROOM_BYTES), settings.commit_seconds)
    collections = WritableCollections(settings.collections, settings.data, shared)
    await asyncio.to_thread(collections.remove_unfinished)
    largest = settings.max_document_bytes + MAX_REQUEST_OVERHEAD
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", largest),
            ("grpc.max_send_message_length", -1),
        ]
    )
    servicer = WriterServicer(collections, settings.max_document_bytes)
    add_IngestServiceServicer_to_server(servicer, server)
    add_HealthServicer_to_server(health.aio.HealthServicer(), server)  # type: ignore[attr-defined]
    server.add_insecure_port(f"unix:{settings.socket}")
    await server.start()
    LOG.info("the writing process is ready")
    beside = [
        asyncio.create_task(collections.warm()),
        asyncio.create_task(collections.close_deleted()),
    ]
    await stopping.wait()
    for task in beside:
        task.cancel()
    await server.stop(_GRACE_SECONDS)
    try:
        await asyncio.wait_for(_close(collections, embedding, readers), _END_SECONDS)
    except TimeoutError:
        LOG.warning("a commit was given up: nothing that was acknowledged is lost")
    # The server removes the socket's folder, unless it was killed.
    shutil.rmtree(settings.socket.parent, ignore_errors=True)


async def _close(
    collections: WritableCollections, embedding: Embedding, readers: OnDemandReaders
) -> None:
    await asyncio.gather(asyncio.to_thread(readers.close), asyncio.to_thread(embedding.close))
    await collections.close()


def _wait_for_end(loop: asyncio.AbstractEventLoop, stopping: asyncio.Event) -> None:
    """Wait until standard input ends, and so has the server."""
    while sys.stdin.read(1):
        pass
    loop.call_soon_threadsafe(stopping.set)
