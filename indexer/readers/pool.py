"""Reader processes: files are read side by side, and none can stall the build or take it down.

A parser may run into any trouble on a hostile file: endless work, memory without end, a crash in
a C library. It happens in a process that is held to limits; the file is skipped with the reason,
and another process takes over.
"""

import os
import signal
import subprocess
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, Pipe, wait
from threading import Thread
from types import TracebackType
from typing import Final, Self, cast

from indexer.readers.bounded_queue import Passage
from indexer.readers.isolation import isolated_command
from indexer.readers.messages import Done, Job, Setup, decode_news, encode_job, encode_setup
from indexer.readers.read_file import Begun, Outcome, Parsed
from indexer.skip import SkipReason
from retrieval.domain.records import Skipped, SourceFile
from retrieval.errors import RetrievalError

STUCK_SECONDS: Final = 600.0
"""Readers that say nothing for so long are given up: their disk does not answer, most likely."""

_GIVEN: Final = 2
"""Files that a reader has been given: the one that it reads, and the next."""
_AHEAD_PER_READER: Final = 8
"""Files handed out for each reader before the first of them is passed on."""
_AHEAD_CHARS: Final = 64 << 20
"""Text that may wait for the build."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A file is read: all that it held was told."""

    source: SourceFile
    complete: bool
    """Whether all of a container could be read."""


@dataclass(slots=True, eq=False)
class _Task:
    """A file that is being read, or waits for those before it to be passed on."""

    job: Job
    outcomes: deque[Outcome] = field(default_factory=deque)
    """Those that were not passed on yet."""
    told: int = 0
    """How many there were."""
    chars: int = 0
    begun: str = ""
    """URI of the member of a container that is being parsed."""
    done: bool = False
    complete: bool = True

    def add(self, outcome: Outcome) -> None:
        """Take what became of the file, or of a member."""
        self.outcomes.append(outcome)
        self.told += 1
        self.chars += _chars(outcome)
        self.begun = ""
        if isinstance(outcome, Skipped) and outcome.uri == self.job.source.uri:
            self.complete = False


@dataclass(slots=True, eq=False)
class _Reader:
    """A process and what it has been given to do."""

    process: "subprocess.Popen[bytes]"
    connection: Connection
    tasks: deque[_Task] = field(default_factory=deque)
    """It reads the first."""
    ready: bool = False

    def stop(self) -> int:
        """Kill the process; returns its exit status, negative for a signal."""
        self.connection.close()
        self.process.kill()
        return self.process.wait()


class Readers:
    """Reads files ahead of the build, in order; a context manager."""

    def __init__(self, setup: Setup, count: int) -> None:
        """Start the processes; they get ready while the build goes on.

        Args:
            setup: what each is told.
            count: how many there are.
        """
        self._setup = setup
        self._readers = [self._start() for _ in range(count)]
        self._passed = Passage(_chars, _AHEAD_CHARS)
        self._supervisor: Thread | None = None

    def read(self, jobs: Iterable[Job]) -> Iterator[Outcome | Finished]:
        """Yield what became of each file or its members, and then that it is finished.

        In the order given. Called once.
        """
        self._supervisor = Thread(
            target=self._supervise, args=(iter(jobs),), name="readers", daemon=True
        )
        self._supervisor.start()
        return self._passed.take()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._passed.close()
        for reader in self._readers:
            reader.process.kill()
        if self._supervisor:
            self._supervisor.join()
        for reader in self._readers:
            reader.stop()

    def _start(self) -> _Reader:
        ours, theirs = Pipe()
        with theirs:
            process = subprocess.Popen(  # noqa: S603 -- this very program
                isolated_command("indexer.readers.process", str(theirs.fileno())),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                # There is a reader for each core.
                env={**os.environ, "TOKENIZERS_PARALLELISM": "false"},
            )
        ours.send_bytes(encode_setup(self._setup))
        return _Reader(process, ours)

    def _supervise(self, jobs: Iterator[Job]) -> None:
        try:
            for outcome in self._in_order(jobs):
                if not self._passed.put(outcome):
                    return
            self._passed.finish()
        except BaseException as error:  # noqa: BLE001 -- raised again where it is waited for
            self._passed.finish(error)

    def _in_order(self, jobs: Iterator[Job]) -> Iterator[Outcome | Finished]:
        tasks: deque[_Task] = deque()
        while not self._passed.closed:
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
                self._hear(first)

    def _hand_out(self, jobs: Iterator[Job], tasks: "deque[_Task]") -> None:
        """Give the next files to the readers that have little to do."""
        for given in range(_GIVEN):
            for reader in tuple(self._readers):
                if len(reader.tasks) > given or len(tasks) >= _AHEAD_PER_READER * len(
                    self._readers
                ):
                    continue
                if (job := next(jobs, None)) is None:
                    return
                task = _Task(job)
                tasks.append(task)
                self._give(reader, task)

    def _give(self, reader: _Reader, task: _Task) -> None:
        """Have a file read after those that a reader has been given."""
        message = encode_job(task.job)
        try:
            reader.connection.send_bytes(message)
        except OSError:  # it has ended
            if not reader.tasks:  # while it had nothing to do
                reader = self._replace(reader, stuck=False)
                reader.connection.send_bytes(message)
            # Else that is found when it is listened to, and what it was given goes to another.
        reader.tasks.append(task)

    def _hear(self, first: _Task) -> None:
        """Wait until a reader says something, or ends; those far ahead of the first may wait."""
        busy = {
            reader.connection: reader
            for reader in self._readers
            if reader.tasks and (reader.tasks[0] is first or reader.tasks[0].chars < _AHEAD_CHARS)
        }
        heard = wait(list(busy), STUCK_SECONDS)
        if self._passed.closed:
            return
        for connection in heard or list(busy):
            reader = busy[cast(Connection, connection)]
            try:
                message = reader.connection.recv_bytes() if heard else b""
            except (EOFError, OSError):
                message = b""
            if message:
                _take(reader, message)
            else:
                self._replace(reader, stuck=not heard)

    def _replace(self, reader: _Reader, *, stuck: bool) -> _Reader:
        """Start another process in place of one that has ended, or is to.

        What its file did to it is told. If that was a member of a container, the new process goes
        on behind it.

        Raises:
            RetrievalError: it ended before it did anything: so would the next.
        """
        status = reader.stop()
        if not reader.ready:
            raise RetrievalError(f"a reader process could not start (exit status {status})")
        new = self._start()
        self._readers[self._readers.index(reader)] = new
        if reader.tasks:
            self._tell_end(reader.tasks[0], status, stuck=stuck)
        for task in reader.tasks:
            if not task.done:
                self._give(new, task)
        return new

    def _tell_end(self, task: _Task, status: int, *, stuck: bool) -> None:
        """Tell that a file, or a member of it, ended its reader."""
        source, member = task.job.source, task.begun
        reason, detail = self._cause(task.job, status, stuck=stuck)
        task.add(Skipped(member or source.uri, source.root, reason, detail))
        if member:
            task.job = replace(task.job, after=task.told)
        else:
            task.done = True

    def _cause(self, job: Job, status: int, *, stuck: bool) -> tuple[SkipReason, str]:
        if stuck:
            return SkipReason.TIMED_OUT, f"no answer in {STUCK_SECONDS:.0f} s"
        if status == -signal.SIGPROF:
            seconds = self._setup.seconds_for(job.source.size)
            return SkipReason.TIMED_OUT, f"more than {seconds:.3g} s of processor time"
        if status < 0:
            return SkipReason.CRASHED, f"ended by {signal.Signals(-status).name}"
        return SkipReason.CRASHED, f"exit status {status}"


def _take(reader: _Reader, message: bytes) -> None:
    """Take in what a reader said."""
    if not reader.ready:
        reader.ready = True
    elif reader.tasks:
        task, news = reader.tasks[0], decode_news(message)
        if isinstance(news, Begun):
            task.begun = news.uri
        elif isinstance(news, Done):
            task.done = True
            reader.tasks.popleft()
        else:
            task.add(news)


def _chars(outcome: Outcome | Finished) -> int:
    return len(outcome.document.text) if isinstance(outcome, Parsed) else 0
