"""What ``put_many`` has sent and what is not answered yet; knows neither threads nor event loops.

A stream that breaks is opened again, and what was not answered is sent again: a put can be repeated
without harm. At most one put of a URI is sent at a time, so puts of the same URI take effect in
their order, whatever is repeated.
"""

import heapq
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import grpc

from retrieval.client.connection import MAX_ATTEMPTS, RETRYABLE, pause_seconds
from retrieval.client.writing.documents import PathLike, PutItem, put_of, put_request, uri_of
from retrieval.client.writing.results import PutOutcome, PutProgress, PutResult, error_of
from retrieval.errors import RetrievalError, ServiceError, ServiceUnavailable
from retrieval.indexer_v1 import ingest_service_pb2 as pb

WINDOW_PUTS: Final = 256
"""Puts that wait for an answer at most: several commits' worth, so that the server never waits."""
WINDOW_BYTES: Final = 32 << 20
"""Bytes of these puts at most, unless a single one is larger: bounds the client's memory."""

_PASSING_REASONS: Final = ("OVERLOADED", "RATE_LIMITED")
"""Reasons of RESOURCE_EXHAUSTED that pass by themselves, unlike a quota or a full disk."""

NOT_WRITABLE: Final = (
    "it does not take changes; start it with `retrieval serve --writable`, or with --data DIR"
)
"""Advice if the server does not know a method that changes collections."""

OnProgress = Callable[[PutProgress], object]


@dataclass(frozen=True, slots=True)
class PutPlan:
    """What all puts of one ``put_many`` have in common."""

    collection: str
    root: PathLike | None
    wait: bool
    timeout: float
    """Seconds for which no answer may come."""
    on_progress: OnProgress | None
    max_bytes: int
    """Limits a message."""

    def request(self, item: PutItem) -> pb.PutDocumentRequest:
        """Return the request for an item; reads its file.

        Raises:
            InvalidArgument: the item can't be sent.
        """
        return put_request(
            put_of(item),
            collection=self.collection,
            root=self.root,
            wait=self.wait,
            max_bytes=self.max_bytes,
        )


@dataclass(slots=True)
class _Unanswered:
    """A put that was read from the iterable and has no final answer yet."""

    item: PutItem
    message: pb.PutDocumentsRequest
    size: int
    failures: int = 0
    """Number of answers with an error that passes, such as overload."""
    give_up_at: float = 0.0
    """When to accept such an error as final; set by the first one."""

    @property
    def uri(self) -> str:
        return self.message.document.uri


class PutLedger:
    """The unanswered puts of one ``put_many``, in a bounded window. Not thread-safe."""

    def __init__(self, plan: PutPlan, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without puts.

        Args:
            plan: what all puts have in common.
            clock: returns seconds.
        """
        self.plan = plan
        self.progress = PutProgress()
        self._clock = clock
        self._unanswered: dict[int, _Unanswered] = {}
        """By request id, in the order in which they were read."""
        self._bytes = 0
        self._ready: deque[int] = deque()
        """To be sent now."""
        self._paused: list[tuple[float, int]] = []
        """To be sent again later: a heap of (time, request id)."""
        self._same_uri: dict[str, deque[int]] = {}
        """By URI, the unanswered puts in order; all but the first wait to be sent."""
        self._last_id = 0
        self._heard = clock()
        """When the last answer came, or when the caller began to wait for one."""
        self._answered_ever = False
        self._breaks = 0
        """Streams that broke since the last answer."""

    def __len__(self) -> int:
        """Return the number of unanswered puts."""
        return len(self._unanswered)

    @property
    def has_room(self) -> bool:
        """Whether another put may be read from the iterable."""
        return not self._unanswered or (
            len(self._unanswered) < WINDOW_PUTS and self._bytes < WINDOW_BYTES
        )

    def admit(self, item: PutItem, request: pb.PutDocumentRequest) -> None:
        """Take a put into the window; ``to_send`` will return it."""
        self.restart_clock()
        self._last_id = identifier = self._last_id + 1
        message = pb.PutDocumentsRequest(request_id=identifier, document=request)
        put = _Unanswered(item, message, message.ByteSize())
        self._unanswered[identifier] = put
        self._bytes += put.size
        queue = self._same_uri.setdefault(put.uri, deque())
        queue.append(identifier)
        if len(queue) == 1:
            self._ready.append(identifier)
        self._count(waiting=1)

    def restart_clock(self) -> None:
        """Begin to wait for an answer now: before, the caller did something else."""
        self._heard = self._clock()

    def refuse(self, item: PutItem, error: RetrievalError) -> PutOutcome:
        """Return the outcome of an item that can't be sent."""
        try:
            uri = uri_of(put_of(item), self.plan.root)
        except RetrievalError:
            uri = ""
        self._count(failed=1)
        self._report()
        return PutOutcome(item, uri, None, error)

    def to_send(self) -> Iterator[pb.PutDocumentsRequest]:
        """Yield the messages that are to be sent now."""
        now = self._clock()
        while self._paused and self._paused[0][0] <= now:
            self._ready.append(heapq.heappop(self._paused)[1])
        while self._ready:
            yield self._unanswered[self._ready.popleft()].message

    @property
    def seconds_to_wait(self) -> float:
        """Seconds to wait for an answer before there is something else to do."""
        until = self._heard + self.plan.timeout
        if self._paused:
            until = min(until, self._paused[0][0])
        return max(0.0, until - self._clock())

    @property
    def is_stalled(self) -> bool:
        """Whether no answer has come for as long as the caller waits."""
        return bool(self._unanswered) and self._clock() >= self._heard + self.plan.timeout

    def answer(self, response: pb.PutDocumentsResponse) -> PutOutcome | None:
        """Take the server's answer to a put.

        Returns:
            what became of it; None if it will be sent again.
        """
        put = self._unanswered.get(response.request_id)
        if put is None:
            return None
        self._answered_ever = True
        self._heard, self._breaks = self._clock(), 0
        if response.HasField("response"):
            result = PutResult.from_message(response.response)
            self._remove(response.request_id)
            self._add(result)
            self._report()
            return PutOutcome(put.item, put.uri, result, None)
        error = error_of(response.error)
        if passes(error) and self._try_later(response.request_id):
            return None
        self._remove(response.request_id)
        self._count(failed=1)
        self._report()
        return PutOutcome(put.item, put.uri, None, error)

    def broken(self, error: ServiceError) -> float | None:
        """Prepare to send everything unanswered again, on a new stream.

        Args:
            error: what ended the stream.

        Returns:
            seconds to wait first; None if there is to be no new stream.
        """
        if not self._unanswered:
            return 0.0  # nothing is lost; the next put opens a stream, or meets the same error
        if not passes(error):
            return None
        self._breaks += 1
        pause = pause_seconds(self._breaks)
        # A server that was never reached is probably not there. One that was restarts.
        reached = self._answered_ever or bool(error.service_reason)
        if not reached and self._breaks >= MAX_ATTEMPTS:
            return None
        if self._clock() + pause > self._heard + self.plan.timeout:
            return None
        self._ready = deque(queue[0] for queue in self._same_uri.values())
        self._paused.clear()
        self.progress = replace(self.progress, reconnects=self.progress.reconnects + 1)
        return pause

    def _try_later(self, identifier: int) -> bool:
        """Schedule a put again after an error that passes; False if that has taken too long."""
        put, now = self._unanswered[identifier], self._clock()
        put.give_up_at = put.give_up_at or now + self.plan.timeout
        put.failures += 1
        at = now + pause_seconds(put.failures)
        if at > put.give_up_at:
            return False
        heapq.heappush(self._paused, (at, identifier))
        return True

    def _remove(self, identifier: int) -> None:
        """Drop a put that has its final answer, and let the next one of its URI be sent."""
        put = self._unanswered.pop(identifier)
        self._bytes -= put.size
        self._count(waiting=-1, size=put.size)
        queue = self._same_uri[put.uri]
        queue.popleft()
        if queue:
            self._ready.append(queue[0])
        else:
            del self._same_uri[put.uri]

    def _add(self, result: PutResult) -> None:
        changes = [document.change for document in result.documents]
        self._count(
            created=changes.count("created"),
            updated=changes.count("updated"),
            unchanged=changes.count("unchanged"),
            skipped=len(result.skipped),
            passages=sum(document.passage_count for document in result.documents),
            tokens=result.token_count,
        )

    def _count(self, **more: int) -> None:
        progress = self.progress
        sums = {name: getattr(progress, name) + number for name, number in more.items()}
        self.progress = replace(progress, **sums)

    def _report(self) -> None:
        if self.plan.on_progress is not None:
            self.plan.on_progress(self.progress)


def passes(error: ServiceError) -> bool:
    """Return whether an error passes by itself, so that the put is worth sending again."""
    return error.status in RETRYABLE or error.service_reason in _PASSING_REASONS


def ended_early(target: str) -> ServiceError:
    """Return the exception for a server that ends streams without answering all puts."""
    return ServiceUnavailable(
        f"{target} ended the stream before it had answered all documents",
        status=grpc.StatusCode.UNAVAILABLE.name,
    )


def stalled(target: str, timeout: float) -> ServiceError:
    """Return the exception for a stream on which no answer came for too long."""
    return ServiceError(
        f"no answer from {target} within {timeout:g} s; what was not answered may still be put",
        status=grpc.StatusCode.DEADLINE_EXCEEDED.name,
    )
