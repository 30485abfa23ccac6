"""What the libraries of a reader write to standard error by themselves.

Rust prints each panic there, and a C library why it aborts. That is about a document, not about the
program, so it stays off the terminal; if the reader ends, it is the reason why. What Python writes
(warnings, tracebacks, logs) still goes to the terminal.
"""

import os
import sys
from io import FileIO
from typing import Final

_MARK: Final = b"\0"
"""Written by the reader between documents."""
_KEPT_BYTES: Final = 4096
_PIPE_BYTES: Final = 1 << 20
"""No pipe holds more unless it is made larger; on Linux it is 64 KiB."""


class Complaints:
    """The end of the build, for one reader; not thread-safe."""

    def __init__(self) -> None:
        """Open a pipe, whose other end is for the reader."""
        ours, self._theirs = os.pipe()
        os.set_blocking(ours, False)
        self._ours = FileIO(ours)
        self._text = b""
        self.ended = False
        """Whether no more can come."""

    def fileno(self) -> int:
        """Return the file descriptor to wait at."""
        return self._ours.fileno()

    def descriptor(self) -> int:
        """Return the file descriptor that the reader inherits."""
        return self._theirs

    def started(self) -> None:
        """Close this process's copy of the reader's end."""
        os.close(self._theirs)

    def take_in(self) -> None:
        """Read what is there, which is all if the reader has ended."""
        if self.ended or (data := self._ours.read(_PIPE_BYTES)) is None:
            return
        self._text = (self._text + data).rpartition(_MARK)[2][-_KEPT_BYTES:]
        self.ended = not data

    def last(self) -> str:
        """Return the last line about the document at hand that says something; may be empty."""
        lines = self._text.decode("utf-8", "replace").split("\n")
        said = [line.strip() for line in lines if line.strip() and not line.startswith("note: ")]
        return said[-1] if said else ""

    def close(self) -> None:
        """Close the pipe, if it is open."""
        self.ended = True
        self._ours.close()


def divert(descriptor: int) -> None:
    """In a reader: send what libraries write to standard error to the build, through a pipe.

    Args:
        descriptor: file descriptor of the pipe.
    """
    if sys.stderr is not None:
        sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
    os.dup2(descriptor, 2)
    os.close(descriptor)


def next_document() -> None:
    """In a reader: say that what follows is about another document."""
    os.write(2, _MARK)
