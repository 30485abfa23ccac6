"""Pool of reader processes: files are read in parallel, and none can stall or crash the build.

On a hostile file a parser may loop, exhaust memory, or crash in a C library. Here that happens in a
process with limits: the file is skipped with the reason, and another process takes over.
"""

import os
import signal
import subprocess
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, Pipe, wait
from threading import Condition, Thread
from types import TracebackType
from typing import Final, Self

from indexer.readers.complaints import Complaints
from indexer.readers.isolation import isolated_command
from indexer.readers.messages import (
    Begun,
    Done,
    Job,
    Outcome,
    Parsed,
    Setup,
    Working,
    decode_message,
    encode_job,
    encode_setup,
)
from indexer.skip import MAX_DETAIL_CHARS, SkipReason
from retrieval.domain.records import Skipped, SourceFile
from retrieval.errors import RetrievalError

MAX_READERS: Final = 8
"""Maximum number of reader processes: each loads a tokenizer, and may use 2 GiB on a bad file."""
STUCK_SECONDS: Final = 600.0
"""Time without a message after which readers are killed. The limit on processor time stops loops
much earlier, so a silent reader most likely waits for a disk that doesn't answer."""

_ASSIGNED: Final = 2
"""Number of files assigned to a reader: the one it reads, and one more, so that it never waits."""
_AHEAD_PER_READER: Final = 8
"""Number of files per reader that may be read ahead of the first one that is not finished."""
_AHEAD_CHARS: Final = 64 << 20
"""Number of characters that may wait for the build: bounds its memory to a few hundred MB."""


def reader_count(files: int) -> int:
    """Return how many processes to read a number of files with."""
    return min(os.cpu_count() or 1, MAX_READERS, files)


@dataclass(frozen=True, slots=True)
class Finished:
    """A file has been read, and all of its outcomes have been yielded."""

    source: SourceFile
    complete: bool
    """Whether all of a container could be read."""


@dataclass(slots=True, eq=False)
class _Task:
    """A file that is being read, or whose outcomes wait for those of the files before it."""

    job: Job
    outcomes: deque[Outcome] = field(default_factory=deque)
    """Outcomes that were not passed on yet."""
    received: int = 0
    """Number of all outcomes so far."""
    chars: int = 0
    """Total length of the documents in ``outcomes``."""
    begun: str = ""
    """URI of the member of a container that is being parsed."""
    done: bool = False
    complete: bool = True

    def add(self, outcome: Outcome) -> None:
        """Add the outcome of the file, or of a member."""
        self.outcomes.append(outcome)
        self.received += 1
        self.chars += _chars(outcome)
        self.begun = ""
        if isinstance(outcome, Skipped) and outcome.uri == self.job.source.uri:
            self.complete = False


@dataclass(slots=True, eq=False)
class _Reader:
    """A process and the files assigned to it."""

    process: "subprocess.Popen[bytes]"
    connection: Connection
    complaints: Complaints
    tasks: deque[_Task] = field(default_factory=deque)
    """The process reads the first."""
    ready: bool = False

    def stop(self) -> int:
        """Kill the process, and return its exit status, which is negative for a signal."""
        self.connection.close()
        self.process.kill()
        status = self.process.wait()
        self.complaints.take_in()
        self.complaints.close()
        return status


class _BoundedQueue:
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
            self._chars += _chars(item)
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
                self._chars -= _chars(item)
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
        self._readers = [self._start() for _ in range(count)]
        self._results = _BoundedQueue(_AHEAD_CHARS)
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

    def _start(self) -> _Reader:
        ours, theirs = Pipe()
        complaints = Complaints()
        descriptors = [theirs.fileno(), complaints.descriptor()]
        with theirs:
            process = subprocess.Popen(  # noqa: S603 -- this very program
                isolated_command("indexer.readers.process", *map(str, descriptors)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=descriptors,
                # There is a reader for each core already, and backtraces would hide the message.
                env={**os.environ, "TOKENIZERS_PARALLELISM": "false", "RUST_BACKTRACE": "0"},
            )
        complaints.started()
        ours.send_bytes(encode_setup(self._setup))
        return _Reader(process, ours, complaints)

    def _supervise(self, jobs: Iterator[Job]) -> None:
        try:
            for outcome in self._in_order(jobs):
                if not self._results.put(outcome):
                    return
            self._results.finish()
        except BaseException as error:  # noqa: BLE001 -- take() raises it
            self._results.finish(error)

    def _in_order(self, jobs: Iterator[Job]) -> Iterator[Outcome | Finished]:
        tasks: deque[_Task] = deque()
        while not self._results.closed:
            self._hand_out(jobs, tasks)
            if not tasks:
                return
            first = tasks[0]
            if first.outcomes:
                outcome = first.outcomes.popleft()
                first.chars -= _chars(outcome)
                yield outcome
            elif first.done:
                tasks.popleft()
                yield Finished(first.job.source, first.complete)
            else:
                self._receive(first)

    def _hand_out(self, jobs: Iterator[Job], tasks: "deque[_Task]") -> None:
        """Assign the next files to the readers that have few."""
        for assigned in range(_ASSIGNED):
            for reader in tuple(self._readers):
                if len(reader.tasks) > assigned or len(tasks) >= _AHEAD_PER_READER * len(
                    self._readers
                ):
                    continue
                if (job := next(jobs, None)) is None:
                    return
                task = _Task(job)
                tasks.append(task)
                self._assign(reader, task)

    def _assign(self, reader: _Reader, task: _Task) -> None:
        """Assign a file to a reader, after those that it has."""
        message = encode_job(task.job)
        try:
            reader.connection.send_bytes(message)
        except OSError:  # the process has ended
            if not reader.tasks:
                reader = self._replace(reader, stuck=False)
                reader.connection.send_bytes(message)
            # A process that had files to read is replaced in _receive, with all of its files.
        reader.tasks.append(task)

    def _receive(self, first: _Task) -> None:
        """Wait for a message, or the end, of a reader that isn't far ahead of the first file."""
        busy = {
            reader.connection: reader
            for reader in self._readers
            if reader.tasks and (reader.tasks[0] is first or reader.tasks[0].chars < _AHEAD_CHARS)
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
            try:
                message = reader.connection.recv_bytes() if ready else b""
            except (EOFError, OSError):
                message = b""
            if message:
                _handle(reader, message)
            else:
                self._replace(reader, stuck=not ready)

    def _replace(self, reader: _Reader, *, stuck: bool) -> _Reader:
        """Replace a process that has ended, or that is stuck, by a new one.

        The file that it was reading is skipped. If that was a member of a container, the new
        process goes on with the next member.

        Raises:
            RetrievalError: the process ended before it was ready, and so would the next.
        """
        status = reader.stop()
        if not reader.ready:
            said = f": {last}" if (last := reader.complaints.last()) else ""
            raise RetrievalError(f"a reader process could not start (exit status {status}){said}")
        new = self._start()
        self._readers[self._readers.index(reader)] = new
        if reader.tasks:
            self._skip_current(reader, status, stuck=stuck)
        for task in reader.tasks:
            if not task.done:
                self._assign(new, task)
        return new

    def _skip_current(self, reader: _Reader, status: int, *, stuck: bool) -> None:
        """Skip the file, or the member of a container, that ended its reader."""
        task = reader.tasks[0]
        source, member = task.job.source, task.begun
        reason, detail = self._reason(task.job, status, stuck=stuck)
        if reason is SkipReason.CRASHED and (said := reader.complaints.last()):
            detail = f"{detail}: {said}"[:MAX_DETAIL_CHARS]
        task.add(Skipped(member or source.uri, source.root, reason, detail))
        if member:
            task.job = replace(task.job, after=task.received)
        else:
            task.done = True

    def _reason(self, job: Job, status: int, *, stuck: bool) -> tuple[SkipReason, str]:
        if stuck:
            return SkipReason.TIMED_OUT, f"no answer in {STUCK_SECONDS:.0f} s"
        if status == -signal.SIGPROF:
            seconds = self._setup.seconds_for(job.source.size)
            return SkipReason.TIMED_OUT, f"more than {seconds:.3g} s of processor time"
        if status < 0:
            return SkipReason.CRASHED, f"ended by {signal.Signals(-status).name}"
        return SkipReason.CRASHED, f"exit status {status}"


def _handle(reader: _Reader, data: bytes) -> None:
    """Handle a message of a reader; the first one only says that the reader is ready."""
    if not reader.ready:
        reader.ready = True
    elif reader.tasks:
        task, message = reader.tasks[0], decode_message(data)
        if isinstance(message, Begun):
            task.begun = message.uri
        elif isinstance(message, Done):
            task.done = True
            reader.tasks.popleft()
        elif not isinstance(message, Working):
            task.add(message)


def _chars(outcome: Outcome | Finished) -> int:
    return len(outcome.document.text) if isinstance(outcome, Parsed) else 0
