"""The stream of ``put_many`` of the blocking client."""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import grpc

from retrieval.client.connection import Connection, closed_under_way
from retrieval.client.writing.documents import PutItem
from retrieval.client.writing.ledger import NOT_WRITABLE, PutLedger, PutPlan, ended_early, stalled
from retrieval.client.writing.results import PutOutcome, PutProgress
from retrieval.errors import ClientClosed, InvalidArgument
from retrieval.indexer_v1 import ingest_service_pb2 as pb

if TYPE_CHECKING:
    from retrieval.indexer_v1.ingest_service_pb2_grpc import IngestServiceStub

_END_SECONDS: Final = 5.0
"""Time for the server to end a stream whose puts are all answered."""

_Arrived = pb.PutDocumentsResponse | grpc.RpcError | None


class PutStream(Iterator[PutOutcome]):
    """The outcomes of ``put_many`` as they arrive; can be read once, by one thread at a time.

    A context manager: leaving it, or ``close``, gives up what is not answered yet.
    """

    def __init__(
        self,
        connection: Connection,
        ingest: "IngestServiceStub",
        items: Iterable[PutItem],
        plan: PutPlan,
    ) -> None:
        """Prepare; the first outcome that is read opens the stream.

        Args:
            connection: to the server.
            ingest: the service.
            items: the documents.
            plan: what they have in common.
        """
        self._connection = connection
        self._method = ingest.PutDocuments
        self._plan = plan
        self._ledger = PutLedger(plan)
        self._items: Iterator[PutItem] | None = iter(items)
        self._outcomes: deque[PutOutcome] = deque()
        self._call: _Call | None = None
        self._is_over = False

    @property
    def progress(self) -> PutProgress:
        """How far it has come."""
        return self._ledger.progress

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        """End the stream of an iterator that nobody reads any more."""
        if getattr(self, "_call", None) is not None:
            self.close()

    def __next__(self) -> PutOutcome:
        """Return the next outcome.

        Raises:
            ServiceError: the stream was refused, or broke and could not be opened again.
        """
        self._ledger.restart_clock()
        try:
            while not self._outcomes and not self._is_over:
                self._step()
        except BaseException:
            self.close()
            raise
        if not self._outcomes:
            raise StopIteration
        return self._outcomes.popleft()

    def finish(self) -> PutProgress:
        """Put everything that is left, and return the counts; outcomes are dropped.

        Raises:
            ServiceError: see ``__next__``.
        """
        for _ in self:
            pass
        return self.progress

    def close(self) -> None:
        """End the stream; what was not answered may be put or not."""
        self._is_over = True
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _step(self) -> None:
        """Do one thing: take the answers that are there, read an item, or wait for an answer."""
        if self._take(seconds=0.0):
            return
        if self._items is not None and self._ledger.has_room:
            self._read_item(self._items)
        elif len(self._ledger):
            self._send()
            if not self._take(self._ledger.seconds_to_wait) and self._ledger.is_stalled:
                raise stalled(self._connection.target, self._plan.timeout)
        else:
            self._end()

    def _read_item(self, items: Iterator[PutItem]) -> None:
        try:
            item = next(items)
        except StopIteration:
            self._items = None
            return
        try:
            request = self._plan.request(item)
        except InvalidArgument as error:
            self._outcomes.append(self._ledger.refuse(item, error))
            return
        self._ledger.admit(item, request)
        self._send()

    def _send(self) -> None:
        self._connection.check_open()
        if self._call is None:
            try:
                self._call = _Call(self._method, self._connection.metadata)
            except ValueError as error:  # closed by another thread a moment ago
                raise closed_under_way() from error
        for message in self._ledger.to_send():
            self._call.outgoing.put(message)

    def _take(self, seconds: float) -> bool:
        """Take all answers that are there, or wait for one; return whether something arrived."""
        something = False
        while (call := self._call) is not None:
            try:
                arrived = call.incoming.get(block=seconds > 0, timeout=seconds)
            except Empty:
                break
            something, seconds = True, 0.0
            if not isinstance(arrived, pb.PutDocumentsResponse):
                self._reopen(call, arrived)
            elif (outcome := self._ledger.answer(arrived)) is not None:
                self._outcomes.append(outcome)
        return something

    def _reopen(self, call: "_Call", error: grpc.RpcError | None) -> None:
        """Drop a stream that has ended, and prepare to send what was not answered on a new one."""
        call.cancel()
        self._call = None
        if error is None:
            broken = ended_early(self._connection.target)
        else:
            translated = self._connection.error(error, unknown=NOT_WRITABLE)
            if isinstance(translated, ClientClosed):
                raise translated from error
            broken = translated
        pause = self._ledger.broken(broken)
        if pause is None:
            raise broken from error
        time.sleep(pause)

    def _end(self) -> None:
        """End a stream whose puts are all answered."""
        self._is_over = True
        call, self._call = self._call, None
        if call is not None:
            call.end()


class _Call:
    """A stream to the server. A thread reads it, so that the caller can look without waiting."""

    def __init__(self, method: Any, metadata: tuple[tuple[str, str], ...]) -> None:  # noqa: ANN401
        """Open the stream."""
        self.outgoing: SimpleQueue[pb.PutDocumentsRequest | None] = SimpleQueue()
        """Messages to send; None ends them."""
        self.incoming: SimpleQueue[_Arrived] = SimpleQueue()
        """Answers, and last of all the error that ended the stream, or None."""
        self._call = method(iter(self.outgoing.get, None), metadata=metadata)
        # Knows nothing of this object, so that a stream that is dropped is closed.
        threading.Thread(target=_read, args=(self._call, self.incoming), daemon=True).start()

    def cancel(self) -> None:
        """End the stream now."""
        self.outgoing.put(None)  # the thread of gRPC that sends waits for it
        self._call.cancel()

    def end(self) -> None:
        """Let the server end the stream, and wait for that."""
        self.outgoing.put(None)
        with contextlib.suppress(Empty):
            self.incoming.get(timeout=_END_SECONDS)
        self._call.cancel()


def _read(call: Any, incoming: "SimpleQueue[_Arrived]") -> None:  # noqa: ANN401
    """Pass on everything that arrives on a stream."""
    try:
        for response in call:
            incoming.put(response)
    except grpc.RpcError as error:
        incoming.put(error)
    else:
        incoming.put(None)
