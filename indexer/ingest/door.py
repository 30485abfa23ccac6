"""The door that ``retrieval serve`` opens if it takes documents; an entry point names it."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import grpc.aio

from indexer.ingest.front.collections_admin import CollectionsAdmin
from indexer.ingest.front.deletions import Deletions
from indexer.ingest.front.handed_over import HandedOver
from indexer.ingest.front.limits.media_types import AllowedTypes
from indexer.ingest.front.limits.pending import Pending
from indexer.ingest.front.limits.quotas import Quotas
from indexer.ingest.front.metrics import IngestMetrics
from indexer.ingest.front.process.supervisor import Writer
from indexer.ingest.front.puts import Puts
from indexer.ingest.front.servicer import SERVICE, IngestServicer, handlers
from indexer.ingest.front.turns import Turns
from indexer.ingest.writer.settings import WriterSettings
from retrieval.service.access.token_file import Scope
from retrieval.service.config import ServiceConfig, Writing
from retrieval.service.grpc_api.doors import Host
from retrieval.service.scheduling.threads import supervise
from retrieval.store import Location

_ROOM_BYTES: Final = 1 << 20
"""Added to the server's limit of a message for messages to and from the writer process."""
_QUOTA_FILE: Final = "quotas.json"


def open_door(host: Host) -> "IngestDoor":
    """Return the door; see ``retrieval.service.grpc_api.doors``."""
    return IngestDoor(host)


class IngestDoor:
    """Answers IngestService on the server's port; see ``retrieval.service.grpc_api.doors.Door``."""

    def __init__(self, host: Host) -> None:
        """Put the parts together; start nothing yet."""
        self._host = host
        writing = host.config.writing or Writing()
        self._grace = host.config.grace_seconds
        self._writer = Writer(
            _writer_settings(host.config, writing),
            max_message_bytes=host.config.limits.message_bytes + _ROOM_BYTES,
            on_change=self._say_ready,
        )
        # Half for single puts, which are refused beyond it, and half for streams, which wait.
        pending, pending_streams = (Pending(writing.pending_bytes // 2) for _ in range(2))
        metrics = IngestMetrics(
            host.metrics.registry,
            pending_documents=lambda: pending.documents + pending_streams.documents,
            pending_bytes=lambda: pending.bytes + pending_streams.bytes,
            writer_starts=lambda: self._writer.starts,
            writer_hangs=lambda: self._writer.hangs,
        )
        self._quotas = Quotas(_quota_file(host.config))
        self._handed_over = HandedOver()
        self._servicer = self._make_servicer(metrics, writing, pending, pending_streams)
        self._background: list[asyncio.Task[None]] = []

    def _make_servicer(
        self, metrics: IngestMetrics, writing: Writing, pending: Pending, pending_streams: Pending
    ) -> IngestServicer:
        turns, handed_over = Turns(), self._handed_over
        parts = (self._writer, self._host.collections, self._host.refresher)
        puts = Puts(
            *parts,
            quotas=self._quotas,
            metrics=metrics,
            handed_over=handed_over,
            turns=turns,
            max_document_bytes=writing.document_bytes,
            allowed=AllowedTypes(writing.media_types),
        )
        return IngestServicer(
            puts,
            Deletions(*parts, metrics=metrics, turns=turns, handed_over=handed_over),
            CollectionsAdmin(*parts, turns=turns, data=writing.data),
            handed_over,
            transfers=self._host.transfers,
            pending=pending,
            pending_streams=pending_streams,
        )

    @property
    def scopes(self) -> Mapping[str, Scope]:
        """The service, and the scope that its methods need."""
        return {SERVICE: "write"}

    @property
    def writer(self) -> Writer:
        """The writer process."""
        return self._writer

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the service's handlers."""
        server.add_generic_rpc_handlers((handlers(self._servicer),))

    async def start(self) -> None:
        """Start the writer process, and wait until it answers.

        Raises:
            NotServing: it can't be started.
        """
        await self._say_ready(False)
        self._background.append(supervise("quotas", self._quotas.run, self._host.metrics))
        await self._writer.start()

    def drain(self) -> None:
        """Read streams no further; what was read is still answered."""
        self._servicer.drained.set()

    async def stop(self) -> None:
        """End the writer process once it has answered what it was given."""
        await self._handed_over.all_finished(self._grace)
        await self._writer.stop()
        for task in self._background:
            task.cancel()
        await self._quotas.write()

    async def _say_ready(self, ready: bool) -> None:
        await self._host.say_serving(SERVICE, ready)


def _writer_settings(config: ServiceConfig, writing: Writing) -> WriterSettings:
    """Return what the writer process is told."""
    named = {}
    for name, place in config.indexes.items():
        location = Location.parse(place)
        if writing.data is None or location != Location.parse(writing.data / name):
            named[name] = location.absolute()
    return WriterSettings(
        socket=Path(),
        collections=named,
        data=writing.data.absolute() if writing.data is not None else None,
        models=tuple(config.models),
        device=config.device,
        commit_seconds=writing.commit_seconds,
        max_document_bytes=writing.document_bytes,
        log_format=config.log_format,
        log_level=config.log_level,
    )


def _quota_file(config: ServiceConfig) -> Path | None:
    """Return the file of what tokens have put today; None if there are no tokens.

    It is in the folder of collections if there is one, because that can be written. Otherwise it
    is beside the token file.
    """
    if config.token_file is None:
        return None
    if config.writing is not None and config.writing.data is not None:
        return config.writing.data / f".{_QUOTA_FILE}"
    return config.token_file.with_name(f".{config.token_file.name}.{_QUOTA_FILE}")
