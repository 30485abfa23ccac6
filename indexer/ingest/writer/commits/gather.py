"""Group commit: operations gather while a commit runs, and the next commit takes them together.

While others are being read and embedded, a commit waits for them for a moment. A client that waits
for each answer before it sends the next document is alone, and its commits come at once.
"""

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition
from types import MappingProxyType
from typing import Final

from indexer.ingest.writer.commits.operations import Operation
from indexer.ingest.writer.embedding import Vector
from retrieval.errors import NotServing

MAX_CHUNKS: Final = 1024
MAX_CHARS: Final = 16 << 20
MAX_OPERATIONS: Final = 1024
"""Bounds of one commit: those of a build's window, whose commit takes about a second."""


@dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    """An operation that waits for its commit."""

    operation: Operation
    vectors: Mapping[str, Vector]
    """Vectors of the texts that were embedded for it."""
    result: "Future[Committed]"
    chunks: int = field(init=False)
    chars: int = field(init=False)

    def __post_init__(self) -> None:
        """Measure the operation."""
        documents = self.operation.documents
        object.__setattr__(self, "chunks", sum(len(one.chunks) for one in documents))
        object.__setattr__(self, "chars", sum(len(one.document.text) for one in documents))


@dataclass(frozen=True, slots=True)
class Committed:
    """What became of an operation."""

    result: object
    """What its ``apply`` returned."""
    generation: int
    """A generation in which it has taken effect."""
    tokens: int = 0
    """Number of tokens that were embedded for it."""


class Gatherer:
    """Queue of operations; thread-safe. Takes them in order, bounded in number and size."""

    def __init__(self, seconds: float) -> None:
        """Start empty.

        Args:
            seconds: minimum time between two takes while other operations are coming; ends early
                when a commit would be full.
        """
        self._seconds = seconds
        self._waiting: deque[Waiting] = deque()
        self._chunks = self._chars = 0
        self._coming = 0
        self._taken = float("-inf")
        self._closed = False
        self._changed = Condition()

    @contextmanager
    def coming(self) -> Iterator[None]:
        """Say that an operation is being prepared, and will be put before the block ends."""
        with self._changed:
            self._coming += 1
        try:
            yield
        finally:
            with self._changed:
                self._coming -= 1
                self._changed.notify()

    def put(
        self, operation: Operation, vectors: Mapping[str, Vector] = MappingProxyType({})
    ) -> "Future[Committed]":
        """Add an operation; return what becomes of it, once it is committed.

        Args:
            operation: the operation.
            vectors: as in ``Waiting``.
        """
        one = Waiting(operation, vectors, Future())
        with self._changed:
            if self._closed:
                one.result.set_exception(NotServing("the server is shutting down"))
                return one.result
            self._waiting.append(one)
            self._chunks += one.chunks
            self._chars += one.chars
            self._changed.notify()
        return one.result

    def take(self, idle_seconds: float) -> Sequence[Waiting] | None:
        """Wait for operations, and return those of the next commit, at least one.

        Args:
            idle_seconds: how long to wait.

        Returns:
            the operations; none if none come for that long, or nobody waits for them any more; None
            when the queue is closed and empty.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._waiting or self._closed, idle_seconds):
                return ()
            self._changed.wait_for(
                lambda: self._closed or not self._coming or self._is_full(),
                max(0.0, self._taken + self._seconds - time.monotonic()),
            )
            if not self._waiting:
                return None
            self._taken = time.monotonic()
            return self._take_some()

    def close(self) -> None:
        """Take no more operations; those that wait are still to be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _is_full(self) -> bool:
        many = len(self._waiting) >= MAX_OPERATIONS
        return many or self._chunks >= MAX_CHUNKS or self._chars >= MAX_CHARS

    def _take_some(self) -> list[Waiting]:
        taken: list[Waiting] = []
        chunks = chars = 0
        while self._waiting and len(taken) < MAX_OPERATIONS:
            one = self._waiting[0]
            chunks, chars = chunks + one.chunks, chars + one.chars
            if taken and (chunks > MAX_CHUNKS or chars > MAX_CHARS):
                break
            self._waiting.popleft()
            self._chunks -= one.chunks
            self._chars -= one.chars
            # What nobody waits for any more is not done at all.
            if one.result.set_running_or_notify_cancel():
                taken.append(one)
        return taken
