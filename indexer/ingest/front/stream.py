"""One stream of puts: many at once, each answered as soon as it is committed."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from typing import Final, Literal

from google.rpc import error_details_pb2

from indexer.ingest.front.limits.pending import Pending
from indexer.ingest.front.puts import Puts
from indexer.ingest.front.received import ReceivedItem
from retrieval.errors import NotServing, RetrievalError
from retrieval.indexer_v1 import ingest_service_pb2 as pb
from retrieval.service.access.callers import Caller
from retrieval.service.grpc_api.status import to_status
from retrieval.service.limits.under_way import Transfers

LOG = logging.getLogger(__name__)

_WINDOW_DOCUMENTS: Final = 256
"""Documents of one stream that are read and not yet answered. A commit takes a fraction of a second
and gathers what has come meanwhile: with fewer, the model would wait for commits."""
_SHARE_OF_PENDING: Final = 2
"""One stream holds at most half of what all streams may hold, so that another one goes on, too."""


class PutStream:
    """Answers one ``PutDocuments``."""

    def __init__(
        self,
        caller: Caller,
        puts: Puts,
        pending: Pending,
        transfers: Transfers,
        drained: asyncio.Event,
    ) -> None:
        """Read nothing yet.

        Args:
            caller: who puts the documents.
            puts: puts each of them.
            pending: counts what all streams hold.
            transfers: counts their messages.
            drained: set when no further document may be read.
        """
        self._caller = caller
        self._puts = puts
        self._pending = pending
        self._transfers = transfers
        self._drained = drained
        self._answers: asyncio.Queue[pb.PutDocumentsResponse | None] = asyncio.Queue()
        """What is to be sent; None wakes up whoever sends."""
        self._under_way: set[asyncio.Task[None]] = set()
        self._room = asyncio.Event()
        self._read_count = 0
        self._unsent = 0
        """Documents that are read, and whose answers are not taken by the client yet."""
        self._unanswered_bytes = 0
        self.documents = 0
        """Documents that were put."""
        self.failed = 0
        """Documents that were answered with an error."""
        self.bytes = 0
        """Bytes of the documents that were put."""

    async def answers(
        self, requests: AsyncIterator[ReceivedItem]
    ) -> AsyncGenerator[pb.PutDocumentsResponse]:
        """Yield an answer for each request, in the order in which they are committed.

        If the generator is closed or cancelled, documents that were not handed over yet are
        dropped.

        Args:
            requests: of the client.

        Raises:
            NotServing: the server shuts down; what was read is answered.
            RetrievalError: what reading the requests raises, after the last answer.
        """
        reading = asyncio.create_task(self._read(requests))
        reading.add_done_callback(self._end_reading)
        try:
            while not (reading.done() and not self._under_way and self._answers.empty()):
                answer = await self._answers.get()
                if answer is None:
                    continue
                yield answer
                self._unsent -= 1
                self._room.set()
            await reading  # raises what has ended it
        finally:
            for task in (reading, *self._under_way):
                task.cancel()

    async def _read(self, requests: AsyncIterator[ReceivedItem]) -> None:
        """Read and begin one document after the other, while there is room for more.

        Raises:
            NotServing: the server shuts down.
        """
        draining = asyncio.create_task(self._drained.wait())
        try:
            await self._read_all(requests, draining)
        finally:
            draining.cancel()

    async def _read_all(
        self,
        requests: AsyncIterator[ReceivedItem],
        draining: "asyncio.Task[Literal[True]]",
    ) -> None:
        while True:
            await self._wait_for_room()
            request = await _next(requests, draining)
            if request is None:
                return
            self._read_count += 1
            size = len(request.put.raw)
            self._transfers.hold(size)  # at once: the server has just stopped counting it
            self._unsent += 1
            self._unanswered_bytes += size
            task = asyncio.create_task(self._put(request, size))
            self._under_way.add(task)
            task.add_done_callback(self._end)
            del request  # the next one may take its time to come

    async def _wait_for_room(self) -> None:
        allowance = self._caller.allowance
        if self._read_count and allowance is not None:  # the first one counts as the request
            await asyncio.sleep(allowance.seconds_until_next())
            allowance.charge(1)
        most = self._pending.limit // _SHARE_OF_PENDING
        while self._unsent >= _WINDOW_DOCUMENTS or self._unanswered_bytes >= most:
            self._room.clear()
            await self._room.wait()

    async def _put(self, item: ReceivedItem, size: int) -> None:
        """Put one document, and queue its answer."""
        answer = pb.PutDocumentsResponse(request_id=item.request_id)
        try:
            # One without a document is refused for its empty URI.
            response = await self._puts.put(self._caller, item.put, self._pending, patient=True)
            answer.response.CopyFrom(response)
            self.documents += 1
            self.bytes += item.put.content_bytes
        except RetrievalError as error:
            answer.error.CopyFrom(_put_error(error))
            self.failed += 1
        except Exception as error:
            LOG.exception("a document of a stream has failed")
            answer.error.CopyFrom(_put_error(error))
            self.failed += 1
        finally:
            self._transfers.release(size)
            self._unanswered_bytes -= size
            self._room.set()
        self._answers.put_nowait(answer)

    def _end_reading(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled():
            task.exception()  # marks it as seen, even if the client is gone
        self._answers.put_nowait(None)

    def _end(self, task: "asyncio.Task[None]") -> None:
        self._under_way.discard(task)
        self._answers.put_nowait(None)


async def _next(
    requests: AsyncIterator[ReceivedItem], draining: "asyncio.Task[Literal[True]]"
) -> ReceivedItem | None:
    """Return the next request; None if there are no more.

    Raises:
        NotServing: the server shuts down.
    """
    coming = asyncio.ensure_future(anext(requests, None))
    try:
        await asyncio.wait([coming, draining], return_when=asyncio.FIRST_COMPLETED)
        if not coming.done():
            raise NotServing("the server is shutting down: try again in a moment")
        return coming.result()
    finally:
        if not coming.done():
            coming.cancel()
            with suppress(asyncio.CancelledError):
                await coming


def _put_error(error: Exception) -> pb.PutError:
    """Return the error of one document, as ``PutDocument`` would end with it."""
    status = to_status(error)
    info = error_details_pb2.ErrorInfo()
    status.details[0].Unpack(info)
    return pb.PutError(
        code=status.code, message=status.message, reason=info.reason, metadata=info.metadata
    )
