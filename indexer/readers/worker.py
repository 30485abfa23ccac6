"""One reader process, what it is reading, and why it ended if it did.

On a hostile file a parser may loop, exhaust memory, or crash in a C library. Here that happens in a
process with limits: the file is skipped with the reason, and another process takes over.
"""

import os
import signal
import subprocess
import time
from collections import deque
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, Pipe, wait
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
from retrieval.domain.records import Skipped
from retrieval.errors import ReaderCannotStart

MAX_READERS: Final = 8
"""Maximum number of reader processes: each loads a tokenizer, and may use 2 GiB on a bad file."""
STUCK_SECONDS: Final = 600.0
"""Time without a message after which readers are killed. The limit on processor time stops loops
much earlier, so a silent reader most likely waits for a disk that doesn't answer."""


def reader_count(files: int) -> int:
    """Return how many processes to read a number of files with."""
    return min(os.cpu_count() or 1, MAX_READERS, files)


@dataclass(slots=True, eq=False)
class Task:
    """A file that is being read, or whose outcomes wait to be passed on."""

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
        self.chars += chars_of(outcome)
        self.begun = ""
        if isinstance(outcome, Skipped) and outcome.uri == self.job.source.uri:
            self.complete = False

    def skip_current(self, reason: SkipReason, detail: str) -> None:
        """Skip the file, or the member of a container, whose reader ended.

        If that was a member, another reader can go on with the next one; otherwise the file is
        done.
        """
        source, member = self.job.source, self.begun
        self.add(Skipped(member or source.uri, source.root, reason, detail))
        if member:
            self.job = replace(self.job, after=self.received)
        else:
            self.done = True


@dataclass(slots=True, eq=False)
class Worker:
    """A process and the files assigned to it."""

    process: "subprocess.Popen[bytes]"
    connection: Connection
    complaints: Complaints
    setup: Setup
    """The settings that it has now."""
    tasks: deque[Task] = field(default_factory=deque)
    """The process reads the first."""
    ready: bool = False

    @classmethod
    def start(cls, setup: Setup) -> Self:
        """Start a process, without waiting until it is ready."""
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
        ours.send_bytes(encode_setup(setup))
        return cls(process, ours, complaints, setup)

    def assign(self, task: Task, setup: Setup | None = None) -> None:
        """Send a file to read, after those that the process has.

        Args:
            task: the file.
            setup: settings for this file and all that follow; None for those that it has.

        Raises:
            OSError: the process has ended. The task is not assigned.
        """
        if setup is not None and setup != self.setup:
            self.connection.send_bytes(encode_setup(setup))
            self.setup = setup
        self.connection.send_bytes(encode_job(task.job))
        self.tasks.append(task)

    def wait(self, seconds: float) -> bool:
        """Wait for a message or the end of the process; return whether there is one."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            complaints = [] if self.complaints.ended else [self.complaints.fileno()]
            ready = wait([self.connection, *complaints], left)
            self.complaints.take_in()
            if self.connection in ready:
                return True
        return False

    def receive(self) -> bool:
        """Receive one message, and wait for it; return whether the process goes on."""
        try:
            data = self.connection.recv_bytes()
        except (EOFError, OSError):
            return False
        if not self.ready:
            self.ready = True  # what the first message says
        elif self.tasks:
            self._handle(data)
        return True

    def _handle(self, data: bytes) -> None:
        task, message = self.tasks[0], decode_message(data)
        if isinstance(message, Begun):
            task.begun = message.uri
        elif isinstance(message, Done):
            task.done = True
            self.tasks.popleft()
        elif not isinstance(message, Working):
            task.add(message)

    def stop(self) -> int:
        """Kill the process, and return its exit status, which is negative for a signal."""
        self.connection.close()
        self.process.kill()
        status = self.process.wait()
        self.complaints.take_in()
        self.complaints.close()
        return status

    def bury(self, *, stuck: bool) -> None:
        """Stop a process that has ended or is stuck; skip what it was reading.

        Raises:
            ReaderCannotStart: the process ended before it was ready.
        """
        status = self.stop()
        if not self.ready:
            said = f": {last}" if (last := self.complaints.last()) else ""
            raise ReaderCannotStart(
                f"a reader process could not start (exit status {status}){said}"
            )
        if self.tasks:
            reason, detail = self._why_ended(status, stuck=stuck)
            if reason is SkipReason.CRASHED and (said := self.complaints.last()):
                detail = f"{detail}: {said}"[:MAX_DETAIL_CHARS]
            self.tasks[0].skip_current(reason, detail)

    def _why_ended(self, status: int, *, stuck: bool) -> tuple[SkipReason, str]:
        if stuck:
            return SkipReason.TIMED_OUT, f"no answer in {STUCK_SECONDS:.0f} s"
        if status == -signal.SIGPROF:
            seconds = self.setup.seconds_for(self.tasks[0].job.source.size)
            return SkipReason.TIMED_OUT, f"more than {seconds:.3g} s of processor time"
        if status < 0:
            return SkipReason.CRASHED, f"ended by {signal.Signals(-status).name}"
        return SkipReason.CRASHED, f"exit status {status}"


def chars_of(outcome: object) -> int:
    """Return the length of the document of an outcome; 0 if there is none."""
    return len(outcome.document.text) if isinstance(outcome, Parsed) else 0
