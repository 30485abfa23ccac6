"""Progress of a build: a live bar on a terminal, plain lines in a pipe."""

import sys
import time
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from retrieval.domain.wording import counted

PLAIN_EVERY_SECONDS = 10.0
"""Time between two lines if the stream is not a terminal: a log of an hour stays short."""
LEFT_AFTER_SECONDS, LEFT_AFTER_SHARE = 5.0, 0.02
"""Time that a build must have run, and share of its bytes that must be done, before it estimates
the time left. Before that, a slow first file would count as the speed of all. The estimate is at
most 1 / LEFT_AFTER_SHARE times the time that has passed."""


class BuildProgress(Protocol):
    """Receiver of a build's progress."""

    def start(self, files: int, size: int) -> None:
        """Set how many files, of how many bytes in total, are about to be read."""
        ...

    def note(self, message: str) -> None:
        """Show a line."""
        ...

    def advance(
        self, *, size: float = 0.0, files: int = 0, chunks: int = 0, tokens: int = 0
    ) -> None:
        """Add bytes, files, chunks and tokens that are done."""
        ...


class SilentProgress:
    """Progress that shows nothing."""

    def start(self, files: int, size: int) -> None:
        """Do nothing."""

    def note(self, message: str) -> None:
        """Do nothing."""

    def advance(
        self, *, size: float = 0.0, files: int = 0, chunks: int = 0, tokens: int = 0
    ) -> None:
        """Do nothing."""


class ConsoleProgress:
    """Progress on standard error; a context manager."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """Write to a stream, by default standard error; show a bar if it is a terminal."""
        self._stream = stream = stream or sys.stderr
        self._live = stream.isatty()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[counts]}"),
            console=Console(file=stream),
            transient=True,
            disable=not self._live,
        )
        self._task = self._bar.add_task("indexing", total=None, counts="")
        self._started = self._printed = time.monotonic()
        self._files_total = self._size_total = 0
        self._files = self._chunks = self._tokens = 0
        self._size = 0.0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def start(self, files: int, size: int) -> None:
        """Set the total; see ``BuildProgress``."""
        self._files_total, self._size_total = files, size
        self._started = self._printed = time.monotonic()
        self._bar.update(self._task, total=max(size, 1))

    def note(self, message: str) -> None:
        """Print a line above the bar."""
        if self._live:
            self._bar.console.print(message, markup=False, highlight=False)
        else:
            self._stream.write(message + "\n")

    def advance(
        self, *, size: float = 0.0, files: int = 0, chunks: int = 0, tokens: int = 0
    ) -> None:
        """Move the bar, or print a line every ``PLAIN_EVERY_SECONDS``."""
        self._size += size
        self._files += files
        self._chunks += chunks
        self._tokens += tokens
        now = time.monotonic()
        # Files may have grown since they were found.
        share = min(1.0, self._size / max(self._size_total, 1))
        counts = self._counts(share, max(now - self._started, 1e-9))
        self._bar.update(self._task, advance=size, counts=counts)
        if not self._live and now - self._printed >= PLAIN_EVERY_SECONDS:
            self._printed = now
            self._stream.write(f"indexing {100 * share:.0f}% {counts}\n")
            self._stream.flush()

    def _counts(self, share: float, seconds: float) -> str:
        """Return the counts after a number of seconds, with the time left if it can be told."""
        counts = (
            f"{self._files}/{counted(self._files_total, 'file')}, "
            f"{counted(self._chunks, 'chunk')}, "
            f"{self._tokens / seconds:.0f} tokens/s"
        )
        if seconds < LEFT_AFTER_SECONDS or share < LEFT_AFTER_SHARE:
            return counts
        return f"{counts}, {duration_as_text(seconds * (1 / share - 1))} left"


def duration_as_text(seconds: float) -> str:
    """Return a duration as people read it: ``45 s``, ``3 min``, ``2 h 5 min``."""
    if seconds < 100:  # noqa: PLR2004 -- up to here, seconds read well
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
