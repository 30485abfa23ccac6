"""Files of a build read on a cluster: sent in batches, their outcomes passed on in order.

Files travel as bytes, so nodes need not see the folders of documents. A file that holds others, or
that is large, is read on this machine instead: its documents are passed on while it is read.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Thread
from types import TracebackType
from typing import Any, Final, Self

from indexer.build.cluster.pool import Pool
from indexer.parse.formats import ReadAs, holds_files
from indexer.readers.messages import Job, Outcome, Setup
from indexer.readers.pool import AHEAD_CHARS, BoundedQueue, Finished, Readers, reader_count
from indexer.readers.read_file import with_bytes
from retrieval.domain.records import Skipped, SourceFile

MAX_SENT_BYTES: Final = 16 << 20
"""Larger files are read on this machine."""
_BATCH_BYTES: Final = 1 << 20
_BATCH_FILES: Final = 32
"""Bounds of what is sent at once: a call takes a millisecond, so small files go together."""
_AHEAD_BYTES: Final = 64 << 20
"""Number of bytes that may be on their way to workers: bounds memory here and in Ray's store."""


@dataclass(slots=True)
class _Batch:
    """Files that are sent together."""

    files: list[SourceFile]
    here: dict[str, Outcome]
    """Outcomes by URI of the files that were not sent, because they can't be read."""
    size: int
    outcomes: "Future[list[list[Outcome]]] | None"
    """Outcomes of the others, in order; None if there are none."""


class ReadAhead:
    """Reads files ahead of the build; a context manager."""

    def __init__(self, pool: Pool, setup: Setup) -> None:
        """Read nothing yet.

        Args:
            pool: the workers.
            setup: settings of the processes that read.
        """
        self._pool = pool
        self._setup = setup
        self._results = BoundedQueue(AHEAD_CHARS)
        self._ahead: deque[_Batch | SourceFile] = deque()
        """Batches on their way, and files to read here, in order."""
        self._thread: Thread | None = None
        self._local = ExitStack()

    def read(
        self, files: Sequence[SourceFile], job_of: Callable[[SourceFile], Job]
    ) -> Iterator[Outcome | Finished]:
        """Read files; see ``indexer.build.site.Workers``. Call this once."""
        read_as = self._setup.reading.read_as
        here = [file for file in files if _is_read_here(file, read_as)]
        readers = self._local.enter_context(Readers(self._setup, reader_count(len(here))))
        local = readers.read(map(job_of, here))
        self._thread = Thread(
            target=self._run, args=(files, job_of, local), name="read ahead", daemon=True
        )
        self._thread.start()
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
        for unit in tuple(self._ahead):
            if isinstance(unit, _Batch) and unit.outcomes is not None:
                unit.outcomes.cancel()
        self._local.close()
        if self._thread is not None:
            self._thread.join()

    def _run(
        self,
        files: Sequence[SourceFile],
        job_of: Callable[[SourceFile], Job],
        local: Iterator[Outcome | Finished],
    ) -> None:
        try:
            for outcome in self._in_order(files, job_of, local):
                if not self._results.put(outcome):
                    break
            self._results.finish()
        except CancelledError:
            self._results.finish()
        except BaseException as error:  # noqa: BLE001 -- take() raises it
            self._results.finish(error)

    def _in_order(
        self,
        files: Sequence[SourceFile],
        job_of: Callable[[SourceFile], Job],
        local: Iterator[Outcome | Finished],
    ) -> Iterator[Outcome | Finished]:
        units = _units(files, self._setup.reading.read_as)
        while not self._results.closed:
            self._send_ahead(units, job_of)
            if not self._ahead:
                return
            first = self._ahead[0]
            if isinstance(first, SourceFile):
                yield from _until_finished(local)
            else:
                yield from _outcomes(first)
            self._ahead.popleft()

    def _send_ahead(
        self, units: Iterator[list[SourceFile] | SourceFile], job_of: Callable[[SourceFile], Job]
    ) -> None:
        """Send batches until enough are on their way."""
        while not self._results.closed:
            sent = [unit for unit in self._ahead if isinstance(unit, _Batch)]
            if len(self._ahead) > self._pool.ahead or sum(one.size for one in sent) > _AHEAD_BYTES:
                return
            if (unit := next(units, None)) is None:
                return
            self._ahead.append(
                unit if isinstance(unit, SourceFile) else self._send(unit, map(job_of, unit))
            )

    def _send(self, files: list[SourceFile], jobs: Iterator[Job]) -> _Batch:
        sent: list[Job] = []
        here: dict[str, Outcome] = {}
        for job in map(with_bytes, jobs):
            if isinstance(job, Skipped):
                here[job.uri] = job
            else:
                sent.append(job)
        size = sum(len(job.data or b"") + len(job.fields) for job in sent)
        outcomes = self._pool.submit("read", self._setup, sent) if sent else None
        return _Batch(files, here, size, outcomes)


def _is_read_here(file: SourceFile, read_as: ReadAs) -> bool:
    """Whether a file is read on this machine."""
    return file.size > MAX_SENT_BYTES or holds_files(file.uri, read_as)


def _units(files: Sequence[SourceFile], read_as: ReadAs) -> Iterator[list[SourceFile] | SourceFile]:
    """Yield files to read here one by one, and the others in batches, all in order."""
    batch: list[SourceFile] = []
    size = 0
    for file in files:
        here = _is_read_here(file, read_as)
        full = len(batch) == _BATCH_FILES or size + file.size > _BATCH_BYTES
        if batch and (here or full):
            yield batch
            batch, size = [], 0
        if here:
            yield file
        else:
            batch.append(file)
            size += file.size
    if batch:
        yield batch


def _until_finished(outcomes: Iterator[Outcome | Finished]) -> Iterator[Outcome | Finished]:
    """Yield the outcomes of one file, and its end."""
    for outcome in outcomes:
        yield outcome
        if isinstance(outcome, Finished):
            return


def _outcomes(batch: _Batch) -> Iterator[Outcome | Finished]:
    """Yield the outcomes of a batch's files in order, each with its end."""
    sent: Iterator[list[Any]] = iter(batch.outcomes.result() if batch.outcomes else ())
    for file in batch.files:
        outcomes = [batch.here[file.uri]] if file.uri in batch.here else next(sent)
        yield from outcomes
        skipped = any(isinstance(one, Skipped) and one.uri == file.uri for one in outcomes)
        yield Finished(file, not skipped)
