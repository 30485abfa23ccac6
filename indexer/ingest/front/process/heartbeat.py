"""Find out whether the writer process still answers.

A process that is stopped or deadlocked does not end, and its connection stays open. The health
service of its event loop is asked for a sign of life: an answer takes nothing but the loop and a
moment of the interpreter lock, whatever its threads embed, merge or wait for.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import grpc.aio
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

if TYPE_CHECKING:
    from grpc_health.v1.health_pb2_grpc import HealthAsyncStub

_REQUEST: Final = health_pb2.HealthCheckRequest()
_RETRY_SECONDS: Final = 0.05
"""Before the first question is asked again: the process listens, but does not answer yet."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the process may give no answer."""

    start_seconds: float = 120.0
    """From its start to its first answer, which takes a second or two of imports. They read 150 MB
    of libraries, which a slow disk shared with others (5 MB/s) gives in 30 s."""
    beat_seconds: float = 5.0
    """Between two questions, and for each answer."""
    beats: int = 6
    """Number of questions in a row without an answer after which the process is taken for hung: 30
    seconds. Threads of Python hand over the interpreter lock after 5 ms; a call of a library that
    holds it copies at most a segment of vectors, for a few seconds from a slow disk. Answers took
    at most a second beside a full-speed ingest on two cores with a load of 12. Questions are
    counted, not seconds: while this process itself is stopped, none are missed."""

    @property
    def silent_seconds(self) -> float:
        """Time without an answer after which the process is taken for hung."""
        return self.beat_seconds * self.beats


class Heartbeat:
    """Asks one process; belongs to the event loop."""

    def __init__(self, channel: grpc.aio.Channel, patience: Patience) -> None:
        """Ask nothing yet."""
        self._health: HealthAsyncStub = HealthStub(channel)
        self._patience = patience

    async def begins(self) -> bool:
        """Wait for the first answer; return whether it comes in time."""
        deadline = time.monotonic() + self._patience.start_seconds
        while (left := deadline - time.monotonic()) > 0:
            if await self._ask(left):
                return True
            await asyncio.sleep(min(left, _RETRY_SECONDS))
        return False

    async def stops(self) -> None:
        """Return once several questions in a row had no answer."""
        missed = 0
        while missed < self._patience.beats:
            asked = time.monotonic()
            missed = 0 if await self._ask(self._patience.beat_seconds) else missed + 1
            # An answer, or a broken connection, comes at once.
            await asyncio.sleep(self._patience.beat_seconds - (time.monotonic() - asked))

    async def _ask(self, seconds: float) -> bool:
        try:
            await self._health.Check(_REQUEST, timeout=seconds, wait_for_ready=True)
        except grpc.RpcError:
            return False
        return True
