"""Pool of reader processes: files are read in parallel, and none can stall or crash the build.

On a hostile file a parser may loop, exhaust memory, or crash in a C library. Here that happens in a
process with limits: the file is skipped with the reason, and another process takes over.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import wait
from threading import Condition, Thread
from types import TracebackType
from typing import Final, Self

from indexer.readers.messages import Job, Outcome, Setup
from indexer.readers.worker import MAX_READERS, STUCK_SECONDS, Task, Worker, chars_of, reader_count
from retrieval.domain.records import SourceFile

__all__ = ["AHEAD_CHARS", "MAX_READERS", "BoundedQueue", "Finished", "Readers", "reader_count"]

_ASSIGNED: Final = 2
"""Number of files assigned to a reader: the one it reads, and one more, so that it never waits."""
_AHEAD_PER_READER: Final = 8
"""Number of files per reader that may be read ahead of the first one that is not finished."""
AHEAD_CHARS: Final = 64 << 20
"""Number of characters that may wait for the build: bounds its memory to a few hundred MB."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A file has been read, and all of its outcomes have been yielded."""

    source: SourceFile
    complete: bool
    """Whether all of a container could be read."""


class BoundedQueue:
    """Thread-safe queue bounded by the total length of the documents in it.

    ``queue.Queue`` is bounded by the number of its items, and documents differ by a factor of a
    million.
    """

    def __init__(self, max_chars: int) -> None:
        """Start empty.

        Args:
            max_chars: total length from which ``put`` waits.
        """
        self.closed = False
        self._max_chars = max_chars
        self._items: deque[Outcome | Finished] = deque()
        self._chars = 0
        self._finished = False
        self._error: BaseException | None = None
        self._changed = Condition()

    def put(self, item: Outcome | Finished) -> bool:
        """Add an item once there is room; return False if the queue is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._chars < self._max_chars or self.closed)
            self._items.append(item)
            self._chars += chars_of(item)
            self._changed.notify_all()
            return not self.closed

    def finish(self, error: BaseException | None = None) -> None:
        """Mark the end of the items; ``take`` then raises the error, if any."""
        with self._changed:
            self._finished, self._error = True, error
            self._changed.notify_all()

    def close(self) -> None:
        """Wake up ``put``: nobody takes items any more."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    def take(self) -> Iterator[Outcome | Finished]:
        """Yield items as they come.

        Raises:
            BaseException: the error given to ``finish``.
        """
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._finished)
                if not self._items:
                    break
                item = self._items.popleft()
                self._chars -= chars_of(item)
                self._changed.notify_all()
            yield item
        if self._error:
            raise self._error


class Readers:
    """Reader processes that read files ahead of the build; a context manager."""

    def __init__(self, setup: Setup, count: int) -> None:
        """Start the processes, without waiting until they are ready.

        Args:
            setup: settings of the processes.
            count: number of processes.
        """
        self._setup = setup
        self._readers = [Worker.start(setup) for _ in range(count)]
        self._results = BoundedQueue(AHEAD_CHARS)
        self._supervisor: Thread | None = None

    def read(self, jobs: Iterable[Job]) -> Iterator[Outcome | Finished]:
        """Yield the outcomes of each file, and ``Finished`` after them, in the order of the jobs.

        Call this once.
        """
        self._supervisor = Thread(
            target=self._supervise, args=(iter(jobs),), name="readers", daemon=True
        )
        self._supervisor.start()
        return self._results.take()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._results.close()
        for reader in self._readers:
            reader.process.kill()
        if self._supervisor:
            self._supervisor.join()
        for reader in self._readers:
            reader.stop()

    def _supervise(self, jobs: Iterator[Job]) -> None:
        try:
            for outcome in self._in_order(jobs):
                if not self._results.put(outcome):
                    break
            self._results.finish()
        except BaseException as error:  # noqa: BLE001 -- take() raises it
            self._results.finish(error)

    def _in_order(self, jobs: Iterator[Job]) -> Iterator[Outcome | Finished]:
        tasks: deque[Task] = deque()
        while not self._results.closed:
            self._hand_out(jobs, tasks)
            if not tasks:
                return
            first = tasks[0]
            if first.outcomes:
                outcome = first.outcomes.popleft()
                first.chars -= chars_of(outcome)
                yield outcome
            elif first.done:
                tasks.popleft()
                yield Finished(first.job.source, first.complete)
            else:
                self._receive(first)

    def _hand_out(self, jobs: Iterator[Job], tasks: "deque[Task]") -> None:
        """Assign the next files to the readers that have few."""
        for assigned in range(_ASSIGNED):
            for reader in tuple(self._readers):
                if len(reader.tasks) > assigned or len(tasks) >= _AHEAD_PER_READER * len(
                    self._readers
                ):
                    continue
                if (job := next(jobs, None)) is None:
                    return
                task = Task(job)
                tasks.append(task)
                self._assign(reader, task)

    def _assign(self, reader: Worker, task: Task) -> None:
        """Assign a file to a reader, after those that it has."""
        try:
            reader.assign(task)
        except OSError:  # the process has ended
            if not reader.tasks:
                self._replace(reader, stuck=False).assign(task)
            else:  # it is replaced in _receive, with all of its files
                reader.tasks.append(task)

    def _receive(self, first: Task) -> None:
        """Wait for a message, or the end, of a reader that isn't far ahead of the first file."""
        busy = {
            reader.connection: reader
            for reader in self._readers
            if reader.tasks and (reader.tasks[0] is first or reader.tasks[0].chars < AHEAD_CHARS)
        }
        complaints = [one.complaints for one in self._readers if not one.complaints.ended]
        ready = wait([*busy, *(one.fileno() for one in complaints)], STUCK_SECONDS)
        if self._results.closed:
            return
        for one in complaints:
            one.take_in()
        for connection, reader in busy.items():
            if ready and connection not in ready:
                continue
            if not ready or not reader.receive():
                self._replace(reader, stuck=not ready)

    def _replace(self, reader: Worker, *, stuck: bool) -> Worker:
        """Replace a process that has ended, or that is stuck, by a new one.

        The file that it was reading is skipped. If that was a member of a container, the new
        process goes on with the next member.

        Raises:
            RetrievalError: the process ended before it was ready, and so would the next.
        """
        reader.bury(stuck=stuck)
        new = Worker.start(self._setup)
        self._readers[self._readers.index(reader)] = new
        for task in reader.tasks:
            if not task.done:
                self._assign(new, task)
        return new
