"""Reader processes for files that come one by one: each is answered when it is read.

Unlike the pool of a build, nothing is in order: a file that takes a minute holds up no other,
unless all processes read such files. Requests take turns, so that one with a thousand such files
makes another wait for one of them.
"""

import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition, Thread, current_thread
from types import TracebackType
from typing import Final, Self

from indexer.readers.messages import Job, Outcome, Setup
from indexer.readers.turns import TurnQueue
from indexer.readers.worker import (
    MAX_READERS,
    STUCK_SECONDS,
    Task,
    Worker,
    reader_count,
)
from indexer.skip import SkipReason
from retrieval.domain.records import Skipped
from retrieval.errors import NotServing, ReaderCannotStart

_SLOW_SECONDS: Final = 0.5
"""How long a file may wait before another process is started for it, beyond one for each core: then
all others are busy with slow files."""
_MAX_STARTS: Final = 3
"""Number of processes to start for a file before giving up. One that was killed while it started,
as by a system that is short of memory, says nothing about the next."""
_IDLE_SECONDS: Final = 60.0
"""Time without work after which a process is ended: it holds 100 MB, and starts within a second."""
_MAX_CHARS: Final = 128 << 20
"""Maximum length of all documents of a file together: any single document is shorter."""
_MAX_OUTCOMES: Final = 10_000
"""Maximum number of documents of a file, and of its parts that are skipped."""


@dataclass(frozen=True, slots=True)
class _Request:
    """A file to read, and who waits for it."""

    job: Job
    setup: Setup
    result: "Future[list[Outcome]]"
    since: float = field(default_factory=time.monotonic)


class OnDemandReaders:
    """Reader processes that are started when there is work; a context manager, thread-safe."""

    def __init__(
        self,
        usual: int | None = None,
        most: int = MAX_READERS,
        *,
        idle_seconds: float = _IDLE_SECONDS,
        kept: int = 0,
    ) -> None:
        """Start no process yet.

        Args:
            usual: number of processes to use unless files wait long; None for one for each core.
            most: maximum number of processes.
            idle_seconds: time without work after which a process is ended.
            kept: number of processes to keep nevertheless, so that the next file finds one.
        """
        self._usual = min(usual or reader_count(MAX_READERS), most)
        self._most = most
        self._idle_seconds = idle_seconds
        self._kept = kept
        self._waiting = TurnQueue[_Request]()
        self._threads: set[Thread] = set()
        self._workers: set[Worker] = set()
        self._idle = 0
        self._closed = False
        self._changed = Condition()

    def read(self, job: Job, setup: Setup, turn: str = "") -> "Future[list[Outcome]]":
        """Read a file.

        Args:
            job: the file.
            setup: settings to read it with.
            turn: the request that it is for; those of one request share its turns.

        Returns:
            what becomes all of its outcomes in order. If its reader crashes or exceeds a limit,
            that is a ``Skipped`` with the reason. If it holds too much, it is skipped as a whole. A
            file whose future is cancelled before it is begun is not read.
        """
        request = _Request(job, setup, Future())
        with self._changed:
            if self._closed:
                request.result.cancel()
                return request.result
            self._waiting.add(turn, request)
            self._start_if_needed()
            self._changed.notify()
        return request.result

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all processes; what was not read is cancelled or skipped."""
        with self._changed:
            self._closed = True
            while self._waiting:
                self._waiting.take().result.cancel()
            for worker in self._workers:
                worker.process.kill()
            threads = list(self._threads)
            self._changed.notify_all()
        for thread in threads:
            thread.join()

    def _start_if_needed(self) -> None:
        """Start a thread with a process if files wait for one; the lock is held."""
        if len(self._waiting) <= self._idle or len(self._threads) >= self._most:
            return
        waited = time.monotonic() - self._waiting.peek().since
        if len(self._threads) < self._usual or waited > _SLOW_SECONDS:
            thread = Thread(target=self._serve, name="reader", daemon=True)
            self._threads.add(thread)
            thread.start()

    def _take(self) -> _Request | None:
        """Wait for a file; return None, and forget this thread, if none comes for long."""
        with self._changed:
            self._idle += 1
            while not self._changed.wait_for(
                lambda: self._waiting or self._closed, self._idle_seconds
            ):
                if len(self._threads) > self._kept:
                    break
            self._idle -= 1
            if self._waiting and not self._closed:
                return self._waiting.take()
            self._threads.discard(current_thread())
            return None

    def _serve(self) -> None:
        """Read files with one process, which is replaced when it ends."""
        worker: Worker | None = None
        while (request := self._take()) is not None:
            if not request.result.set_running_or_notify_cancel():
                continue
            task, failed = Task(request.job), 0
            try:
                while not task.done:
                    if worker is None:
                        worker = self._start(request.setup)
                    try:
                        if not self._read(worker, task, request.setup):
                            worker = None
                    except ReaderCannotStart as error:
                        worker, failed = None, failed + 1
                        if failed == _MAX_STARTS:
                            raise NotServing(error.message) from error
                if self._closed:  # and the reader was killed for that
                    request.result.set_exception(_closing())
                else:
                    request.result.set_result(list(task.outcomes))
            except Exception as error:  # noqa: BLE001 -- the caller raises it
                self._end(worker)
                worker = None
                request.result.set_exception(error)
        self._end(worker)

    def _start(self, setup: Setup) -> Worker:
        """Start a process.

        Raises:
            NotServing: the end has come.
            OSError: the system can't start a process.
        """
        with self._changed:
            if self._closed:
                raise _closing()
            worker = Worker.start(setup)
            self._workers.add(worker)
            return worker

    def _read(self, worker: Worker, task: Task, setup: Setup) -> bool:
        """Read a file to its end, or as far as the process gets; return whether it goes on.

        Raises:
            ReaderCannotStart: the process ended before it was ready.
        """
        try:
            worker.assign(task, setup)
        except OSError:  # it ended while it had nothing to do
            self._end(worker)
            return False
        silent = 0.0
        while not task.done:
            if worker.wait(_SLOW_SECONDS):
                silent = 0.0
                going = worker.receive()
            else:
                silent += _SLOW_SECONDS
                going = silent < STUCK_SECONDS
                with self._changed:
                    self._start_if_needed()
            if task.chars > _MAX_CHARS or task.received > _MAX_OUTCOMES:
                self._end(worker)
                _give_up(task)
                return False
            if not going:
                with self._changed:
                    self._workers.discard(worker)
                worker.bury(stuck=silent > 0)
                return False
        return True

    def _end(self, worker: Worker | None) -> None:
        if worker is not None:
            with self._changed:
                self._workers.discard(worker)
            worker.stop()


def _give_up(task: Task) -> None:
    """Skip a file as a whole, because it holds too much."""
    source = task.job.source
    detail = f"holds more than {_MAX_OUTCOMES} documents, or {_MAX_CHARS} characters of text"
    task.outcomes.clear()
    task.add(Skipped(source.uri, source.root, SkipReason.OVER_LIMIT, detail))
    task.done = True


def _closing() -> NotServing:
    return NotServing("the server is shutting down")
