"""The stream of ``put_many`` of the asyncio client."""

import asyncio
import contextlib
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
)
from types import TracebackType
from typing import Any, Final, Self

import grpc

from retrieval.client.connection import Endpoint, closed_under_way
from retrieval.client.writing.documents import PutItem, put_of
from retrieval.client.writing.ledger import NOT_WRITABLE, PutLedger, PutPlan, ended_early, stalled
from retrieval.client.writing.results import PutOutcome, PutProgress
from retrieval.errors import ClientClosed, InvalidArgument
from retrieval.indexer_v1 import ingest_service_pb2 as pb

_END_SECONDS: Final = 5.0
"""Time for the server to end a stream whose puts are all answered."""

_REFUSAL_SECONDS: Final = 0.5
"""Time for the server to refuse a stream, after a refusal may have been lost."""

_Arrived = pb.PutDocumentsResponse | grpc.RpcError | None


class AsyncPutStream(AsyncIterator[PutOutcome]):
    """The outcomes of ``put_many`` as they arrive; can be read once, by one task at a time.

    An asynchronous context manager: leaving it, or ``close``, gives up what is not answered yet.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        method: Callable[[], Any],
        items: Iterable[PutItem] | AsyncIterable[PutItem],
        plan: Callable[[], Awaitable[PutPlan]],
    ) -> None:
        """Prepare; the first outcome that is read opens the stream.

        Args:
            endpoint: where the server is.
            method: returns ``PutDocuments`` of the running event loop.
            items: the documents.
            plan: returns what they have in common; may ask the server.
        """
        self._endpoint = endpoint
        self._method = method
        self._make_plan = plan
        self._ledger: PutLedger | None = None
        self._items: AsyncIterator[PutItem] | None = _each(items)
        self._reading: asyncio.Task[PutItem] | None = None
        """Waits for the next item."""
        self._outcomes: deque[PutOutcome] = deque()
        self._call: _Call | None = None
        self._is_over = False

    @property
    def progress(self) -> PutProgress:
        """How far it has come."""
        return PutProgress() if self._ledger is None else self._ledger.progress

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> PutOutcome:
        """Return the next outcome.

        Raises:
            ServiceError: the stream was refused, or broke and could not be opened again.
        """
        try:
            if self._ledger is None and not self._is_over:
                self._ledger = PutLedger(await self._make_plan())
            if self._ledger is not None:
                self._ledger.restart_clock()
                while not self._outcomes and not self._is_over:
                    await self._step(self._ledger)
        except BaseException:
            await self.close()
            raise
        if not self._outcomes:
            raise StopAsyncIteration
        return self._outcomes.popleft()

    async def finish(self) -> PutProgress:
        """Put everything that is left, and return the counts; outcomes are dropped.

        Raises:
            ServiceError: see ``__anext__``.
        """
        async for _ in self:
            pass
        return self.progress

    async def close(self) -> None:
        """End the stream; what was not answered may be put or not."""
        self._is_over = True
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    async def _step(self, ledger: PutLedger) -> None:
        """Take the answers that are there, or wait for an answer or an item."""
        if await self._take(ledger):
            return
        self._send(ledger)
        if self._items is not None and ledger.has_room and self._reading is None:
            self._reading = asyncio.ensure_future(anext(self._items))
        if not len(ledger) and self._reading is None:
            await self._end()
            return
        arrival = self._call.arrival() if self._call is not None else None
        seconds = ledger.seconds_to_wait if len(ledger) else None
        waits = [task for task in (arrival, self._reading) if task is not None]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if arrival is not None:
                arrival.cancel()
        if self._reading is not None and self._reading.done():
            reading, self._reading = self._reading, None
            await self._read(ledger, reading)
        elif not await self._take(ledger) and ledger.is_stalled:
            raise stalled(self._endpoint.target, ledger.plan.timeout)

    async def _read(self, ledger: PutLedger, reading: "asyncio.Task[PutItem]") -> None:
        try:
            item = reading.result()
        except StopAsyncIteration:
            self._items = None
            return
        try:
            if put_of(item).path is None:
                request = ledger.plan.request(item)
            else:
                request = await asyncio.to_thread(ledger.plan.request, item)
        except InvalidArgument as error:
            self._outcomes.append(ledger.refuse(item, error))
            return
        ledger.admit(item, request)
        self._send(ledger)

    def _send(self, ledger: PutLedger) -> None:
        self._endpoint.check_open()
        for message in ledger.to_send():
            if self._call is None:
                self._call = _Call(self._method(), self._endpoint.metadata)
            self._call.outgoing.put_nowait(message)

    async def _take(self, ledger: PutLedger) -> bool:
        """Take all answers that are there; return whether something arrived."""
        something = False
        while (call := self._call) is not None and call.arrived:
            arrived = call.arrived.popleft()
            something = True
            if not isinstance(arrived, pb.PutDocumentsResponse):
                await self._reopen(ledger, call, arrived)
            elif (outcome := ledger.answer(arrived)) is not None:
                self._outcomes.append(outcome)
        return something

    async def _reopen(self, ledger: PutLedger, call: "_Call", error: grpc.RpcError | None) -> None:
        """Drop a stream that has ended, and prepare to send what was not answered on a new one."""
        call.cancel()
        self._call = None
        if self._endpoint.closed:
            raise closed_under_way() from error
        if error is None or _is_about_sending(error):
            broken = ended_early(self._endpoint.target)
        else:
            translated = self._endpoint.error(error, unknown=NOT_WRITABLE)
            if isinstance(translated, ClientClosed):
                raise translated from error
            broken = translated
        pause = ledger.broken(broken)
        if pause is None:
            raise broken from error
        await asyncio.sleep(pause)
        if error is not None and _is_about_sending(error):
            # If the server refuses the next stream, its reason comes while nothing is sent.
            self._call = _Call(self._method(), self._endpoint.metadata)
            await self._call.something(_REFUSAL_SECONDS)

    async def _end(self) -> None:
        """End a stream whose puts are all answered."""
        self._is_over = True
        call, self._call = self._call, None
        if call is not None:
            await call.end()


class _Call:
    """A stream to the server, read by a task."""

    def __init__(self, method: Any, metadata: tuple[tuple[str, str], ...]) -> None:  # noqa: ANN401
        """Open the stream."""
        self.outgoing: asyncio.Queue[pb.PutDocumentsRequest | None] = asyncio.Queue()
        """Messages to send; None ends them."""
        self.arrived: deque[_Arrived] = deque()
        """Answers, and last of all the error that ended the stream, or None."""
        self._something = asyncio.Event()
        self._call = method(_messages(self.outgoing), metadata=metadata)
        self._reader = asyncio.ensure_future(self._read())

    def arrival(self) -> "asyncio.Task[bool]":
        """Return a task that ends when something has arrived since the last call."""
        if not self.arrived:
            self._something.clear()
        return asyncio.ensure_future(self._something.wait())

    async def something(self, seconds: float) -> None:
        """Wait until something has arrived, or some seconds have passed."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._something.wait(), seconds)

    def cancel(self) -> None:
        """End the stream now."""
        self._call.cancel()
        self._reader.cancel()

    async def end(self) -> None:
        """Let the server end the stream, and wait for that."""
        self.outgoing.put_nowait(None)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._reader), _END_SECONDS)
        self.cancel()

    async def _read(self) -> None:
        """Pass on everything that arrives."""
        end: _Arrived = None
        try:
            async for response in self._call:
                self.arrived.append(response)
                self._something.set()
        except grpc.RpcError as error:
            end = error
        finally:  # closing the channel cancels this task
            self.arrived.append(end)
            self._something.set()


def _is_about_sending(error: grpc.RpcError) -> bool:
    """Return whether a message could not be sent, because the server had ended the stream already.

    ``grpc.aio`` then makes up a status of its own (grpcio 1.85), and the server's reason is lost.
    """
    return isinstance(error, grpc.aio.AioRpcError) and "execute_batch" in error.debug_error_string()


async def _messages(
    outgoing: "asyncio.Queue[pb.PutDocumentsRequest | None]",
) -> AsyncGenerator[pb.PutDocumentsRequest]:
    while (message := await outgoing.get()) is not None:
        yield message


async def _each(items: Iterable[PutItem] | AsyncIterable[PutItem]) -> AsyncGenerator[PutItem]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
