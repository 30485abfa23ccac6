"""How a build shows its progress: a live bar on a terminal, plain lines in a pipe."""

import sys
import time
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

_PLAIN_EVERY_SECONDS = 10.0


class BuildProgress(Protocol):
    """What a build tells as it goes."""

    def start(self, files: int, size: int) -> None:
        """So many files, of so many bytes in all, are about to be read."""
        ...

    def note(self, message: str) -> None:
        """Something worth a line."""
        ...

    def advance(
        self, *, size: float = 0.0, files: int = 0, chunks: int = 0, tokens: int = 0
    ) -> None:
        """Bytes, files, chunks and tokens that are now done."""
        ...


class SilentProgress:
    """Shows nothing."""

    def start(self, files: int, size: int) -> None:
        """Nothing."""

    def note(self, message: str) -> None:
        """Nothing."""

    def advance(
        self, *, size: float = 0.0, files: int = 0, chunks: int = 0, tokens: int = 0
    ) -> None:
        """Nothing."""


class ConsoleProgress:
    """Shows progress on standard error; a context manager."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """Choose the form by whether ``stream`` (standard error by default) is a terminal."""
        self._stream = stream = stream or sys.stderr
        self._live = stream.isatty()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[counts]}"),
            TimeRemainingColumn(),
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
        """Set what there is to do; see ``BuildProgress``."""
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
        """Move the bar, or print a line every ten seconds."""
        self._size += size
        self._files += files
        self._chunks += chunks
        self._tokens += tokens
        self._bar.update(self._task, advance=size, counts=self._counts())
        now = time.monotonic()
        if not self._live and now - self._printed >= _PLAIN_EVERY_SECONDS:
            self._printed = now
            share = 100 * self._size / max(self._size_total, 1)
            left = (now - self._started) * (self._size_total / max(self._size, 1.0) - 1)
            self._stream.write(f"indexing {share:.0f}% {self._counts()}, {left:.0f} s left\n")
            self._stream.flush()

    def _counts(self) -> str:
        seconds = max(time.monotonic() - self._started, 1e-9)
        return (
            f"{self._files}/{self._files_total} files, {self._chunks} chunks, "
            f"{self._tokens / seconds:.0f} tokens/s"
        )
