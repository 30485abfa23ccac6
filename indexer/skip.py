"""Why a file is not indexed: the reasons, the exception that carries one, and what raises it."""

import errno
import gzip
import lzma
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Final

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdError
else:
    from backports.zstd import ZstdError


class SkipReason(StrEnum):
    """Reasons to skip a file, by which skipped files are counted; people read the value."""

    UNSUPPORTED = "unsupported format"
    HIDDEN = "hidden"
    EXCLUDED = "excluded"
    IGNORED = "ignored"
    GENERATED = "generated"
    MISSING = "missing"
    EMPTY = "empty"
    TOO_LARGE = "too large"
    UNREADABLE = "unreadable"
    BROKEN_LINK = "broken symlink"
    LINK_LOOP = "link loop"
    DUPLICATE_LINK = "duplicate link"
    OUTSIDE_ROOT = "outside root"
    NOT_REGULAR = "not a regular file"
    DUPLICATE_NAME = "duplicate name"
    BINARY = "binary"
    NO_TEXT = "no text"
    SCANNED = "scanned, no text"
    ENCRYPTED = "encrypted"
    DAMAGED = "damaged"
    OVER_LIMIT = "over a limit"
    TIMED_OUT = "took too long"
    CRASHED = "crashed its parser"
    BAD_SIDECAR = "bad sidecar"
    LONE_SIDECAR = "sidecar of nothing"


class SkipDocument(Exception):
    """Raised when a file can't be indexed."""

    def __init__(self, reason: SkipReason, detail: str = "") -> None:
        """Set why the file is skipped.

        Args:
            reason: what the file is counted under.
            detail: what exactly is wrong with this file; may be empty.
        """
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason
        self.detail = detail


MAX_DETAIL_CHARS: Final = 200
"""Longer messages of libraries are cut: some quote the file."""

_STREAM_DAMAGE: Final[tuple[type[Exception], ...]] = (
    EOFError,
    zlib.error,
    lzma.LZMAError,
    gzip.BadGzipFile,
    ZstdError,
)
"""Exceptions of a damaged compressed stream, besides an ``OSError`` without a number."""


@contextmanager
def read_errors_as_skips(damage: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn the errors of reading a file or a compressed stream into ``SkipDocument``.

    Args:
        damage: further exceptions that mean damage.

    Raises:
        SkipDocument: the file can't be read, or the stream is damaged.
    """
    try:
        yield
    except (*_STREAM_DAMAGE, *damage) as error:
        raise SkipDocument(SkipReason.DAMAGED, str(error)) from error
    except OSError as error:
        # bz2 raises an OSError without a number if the data is no bzip2. A damaged archive makes
        # its reader seek to a negative offset, which is EINVAL.
        if error.errno in (None, errno.EINVAL):
            raise SkipDocument(SkipReason.DAMAGED, str(error)) from error
        raise SkipDocument(SkipReason.UNREADABLE, error.strerror or str(error)) from error


@contextmanager
def parser_errors_as_damage() -> Iterator[None]:
    """Turn whatever a parser's library raises into ``SkipDocument``: the file is damaged.

    Raises:
        SkipDocument: the library raised an exception.
        MemoryError, RecursionError: pass through, for they don't mean damage.
    """
    try:
        yield
    except (SkipDocument, MemoryError, RecursionError):
        raise
    except Exception as error:
        message = " ".join(f"{type(error).__name__}: {error}"[: 10 * MAX_DETAIL_CHARS].split())
        raise SkipDocument(SkipReason.DAMAGED, message[:MAX_DETAIL_CHARS]) from error
