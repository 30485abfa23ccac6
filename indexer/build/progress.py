"""How a build shows its progress: a live bar on a terminal, plain lines in a pipe."""

import sys
import time
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from retrieval.domain.wording import counted

PLAIN_EVERY_SECONDS = 10.0
"""Between two lines, where the stream is no terminal."""
LEFT_AFTER_SECONDS, LEFT_AFTER_SHARE = 5.0, 0.02
"""How long a build must have gone on, and how much of its bytes must be done, before it says how
much time is left: before that one slow start would be taken for the speed of all. What is said is
never more than 1 / LEFT_AFTER_SHARE times what has passed."""


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
        now = time.monotonic()
        # A file may have grown since it was found.
        share = min(1.0, self._size / max(self._size_total, 1))
        counts = self._counts(share, max(now - self._started, 1e-9))
        self._bar.update(self._task, advance=size, counts=counts)
        if not self._live and now - self._printed >= PLAIN_EVERY_SECONDS:
            self._printed = now
            self._stream.write(f"indexing {100 * share:.0f}% {counts}\n")
            self._stream.flush()

    def _counts(self, share: float, seconds: float) -> str:
        """What was done of the files in some seconds, and how many are left if that can be said."""
        counts = (
            f"{self._files}/{counted(self._files_total, 'file')}, "
            f"{counted(self._chunks, 'chunk')}, "
            f"{self._tokens / seconds:.0f} tokens/s"
        )
        if seconds < LEFT_AFTER_SECONDS or share < LEFT_AFTER_SHARE:
            return counts
        return f"{counts}, {_duration(seconds * (1 / share - 1))} left"


def _duration(seconds: float) -> str:
    if seconds < 100:  # noqa: PLR2004 -- short enough to be read as seconds
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
