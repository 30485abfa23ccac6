"""The writer process: started with the server, started again when it ends, and stopped with it.

A process that never answers, or no longer, is killed, and another one takes its place.

The process gets its settings as one line on its standard input, which stays open: when the server
ends in whatever way, the input ends, and the process ends itself. It answers on a Unix socket in a
folder that only this user can enter. Each start has a folder of its own, so nothing of a process
that was killed is in the way of the next.
"""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import grpc.aio

from indexer.ingest.front.process.heartbeat import Heartbeat, Patience
from indexer.ingest.front.process.socket_folder import SocketFolder, remove_leftovers
from indexer.ingest.writer.settings import WriterSettings
from retrieval.errors import NotServing
from retrieval.indexer_v1 import ingest_service_pb2 as pb
from retrieval.indexer_v1.ingest_service_pb2_grpc import IngestServiceStub

if TYPE_CHECKING:
    from retrieval.indexer_v1.ingest_service_pb2_grpc import IngestServiceAsyncStub

LOG = logging.getLogger(__name__)

_T = TypeVar("_T")

COMMAND: Final = (sys.executable, "-m", "indexer.ingest.writer")
"""The program of the process."""
PATIENCE: Final = Patience()
"""With each process."""

_NICENESS: Final = 15
"""Behind searches (10), as bulk requests to embed are. With searches on every core it keeps an
eighth of each, where 19 keeps a sixteenth, and with 10 searches take twice as long; see "Writing
over the network" in docs/benchmarks.md."""
_FIRST_PAUSE_SECONDS: Final = 0.25
_MAX_PAUSE_SECONDS: Final = 30.0
"""Before the process is started again: the pause doubles each time it ends soon."""
_STEADY_SECONDS: Final = 60.0
"""A process that has run for this long has not ended soon."""
_STOP_SECONDS: Final = 10.0
"""For the process to finish its commit and end; then it is killed, which loses nothing that was
acknowledged."""
_NEVER_MS: Final = 2**31 - 1
_PUT_DOCUMENT: Final = "/indexer.v1.IngestService/PutDocument"


class Writer:
    """The writer process of a server; belongs to the event loop."""

    def __init__(
        self,
        settings: WriterSettings,
        *,
        max_message_bytes: int,
        on_change: Callable[[bool], Awaitable[None]],
        command: Sequence[str] = (),
    ) -> None:
        """Start nothing yet.

        Args:
            settings: for the process; its socket is chosen here.
            max_message_bytes: limits a message to it or from it.
            on_change: called with whether the process answers, whenever that changes.
            command: the program of the process, with its arguments; empty for ``COMMAND``.
        """
        self._settings = settings
        self._most = max_message_bytes
        self._on_change = on_change
        self._command = command or COMMAND
        self._process: asyncio.subprocess.Process | None = None
        self._channel: grpc.aio.Channel | None = None
        self._stub: IngestServiceAsyncStub | None = None
        self._task: asyncio.Task[None] | None = None
        self._first = asyncio.Event()
        self._stopping = False
        self.starts = 0
        """How often the process was started."""
        self.hangs = 0
        """How often it was killed because it gave no answer."""

    @property
    def is_ready(self) -> bool:
        """Whether the process answers."""
        return self._stub is not None

    @property
    def process_id(self) -> int | None:
        """Number of the process; None if none runs."""
        return self._process.pid if self._process is not None else None

    @property
    def stub(self) -> "IngestServiceAsyncStub":
        """Where to call the process.

        Raises:
            NotServing: it is not ready.
        """
        if self._stub is None:
            raise NotServing("the writing process is starting: try again in a moment")
        return self._stub

    @property
    def put_document(self) -> Callable[..., Awaitable[pb.PutDocumentResponse]]:
        """The method PutDocument of the process; it takes the request's bytes.

        Raises:
            NotServing: the process is not ready.
        """
        if self._stub is None or self._channel is None:
            return self.stub.PutDocument  # raises
        call: Callable[..., Awaitable[pb.PutDocumentResponse]] = self._channel.unary_unary(
            _PUT_DOCUMENT, None, pb.PutDocumentResponse.FromString
        )
        return call

    async def start(self) -> None:
        """Start the process, and wait until it answers; from then on, it is kept running.

        Raises:
            NotServing: it ended before it answered, or did not answer in time; the lines on
                standard error say why.
        """
        self._task = asyncio.create_task(self._keep_running(), name="writer")
        await self._first.wait()
        if not self.is_ready:
            await self.stop()
            raise NotServing(
                "the writing process can't be started: the lines above say why; without "
                "--writable and --data, the server needs none"
            )

    async def stop(self) -> None:
        """End the process, and wait for that."""
        self._stopping = True
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _keep_running(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        await asyncio.to_thread(remove_leftovers)
        while True:
            started = time.monotonic()
            try:
                await self._run_in_folder()
            except OSError as error:
                LOG.warning("the writing process can't be started: %s", error)
            except Exception:  # a bug must not end writing for good
                LOG.exception("the writing process was given up")
            self._first.set()
            if time.monotonic() - started > _STEADY_SECONDS:
                pause = _FIRST_PAUSE_SECONDS
            LOG.warning("the writing process is started again in %g s", pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _MAX_PAUSE_SECONDS)

    async def _run_in_folder(self) -> None:
        """Run the process once, with a folder for its socket.

        Raises:
            OSError: it can't be started.
        """
        folder = await asyncio.to_thread(SocketFolder.make)
        try:
            await self._run(folder.socket)
        finally:
            await self._close()
            await asyncio.to_thread(folder.remove)

    async def _run(self, socket: Path) -> None:
        """Run the process until it ends.

        Raises:
            OSError: it can't be started.
        """
        self.starts += 1
        process = self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            # Ctrl-C is for the server, which stops the process in order. A new session would do for
            # that as well, but Linux may share cores between sessions before it looks at niceness.
            process_group=0,
        )
        with suppress(OSError):  # it has ended already, or the system does not allow it
            os.setpriority(os.PRIO_PROCESS, process.pid, _NICENESS)
        assert process.stdin is not None  # noqa: S101  (as asked for above)
        settings = replace(self._settings, socket=socket)
        process.stdin.write(settings.to_json().encode() + b"\n")
        with suppress(ConnectionError):
            await process.stdin.drain()
        ended = asyncio.create_task(process.wait())
        try:
            channel = self._channel = self._connect(socket)
            heartbeat = Heartbeat(channel, PATIENCE)
            if await _before(ended, heartbeat.begins()):
                self._stub = IngestServiceStub(channel)
                await self._on_change(True)
                self._first.set()
                await _before(ended, heartbeat.stops())
            if not ended.done():
                self._kill(process)
            LOG.error("the writing process has ended with code %s", await ended)
        finally:
            ended.cancel()

    def _kill(self, process: asyncio.subprocess.Process) -> None:
        """Kill a process that hangs, with its readers."""
        self.hangs += 1
        if self.is_ready:
            what = f"has not answered for {PATIENCE.silent_seconds:g} s"
        else:
            what = f"was not ready within {PATIENCE.start_seconds:g} s"
        LOG.error("the writing process %s: killing it", what)
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)

    def _connect(self, socket: Path) -> grpc.aio.Channel:
        """Return a connection to the process, which is made once it listens."""
        options = [
            ("grpc.max_receive_message_length", self._most),
            ("grpc.max_send_message_length", self._most),
            # The socket appears while we wait; the first attempts come before that.
            ("grpc.initial_reconnect_backoff_ms", 20),
            ("grpc.min_reconnect_backoff_ms", 20),
            ("grpc.max_reconnect_backoff_ms", 200),
            ("grpc.enable_http_proxy", 0),
            # Stay connected: something may tidy the folder of the socket meanwhile.
            ("grpc.client_idle_timeout_ms", _NEVER_MS),
        ]
        return grpc.aio.insecure_channel(f"unix:{socket}", options=options)

    async def _close(self) -> None:
        """Close the connection, and end the process if it still runs."""
        was_ready, self._stub = self.is_ready, None
        if self._channel is not None:
            await self._channel.close(None)
            self._channel = None
        if was_ready:
            await self._on_change(False)
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), _STOP_SECONDS)
        except TimeoutError:
            LOG.warning("the writing process did not end in %g s: killing it", _STOP_SECONDS)
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _before(ended: "asyncio.Task[int]", work: Coroutine[Any, Any, _T]) -> _T | None:
    """Return the result of some work; None if the process ends before."""
    task = asyncio.create_task(work)
    try:
        await asyncio.wait([task, ended], return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() and not ended.done() else None
    finally:
        task.cancel()
