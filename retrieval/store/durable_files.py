"""Files that survive a power cut, and the errors of a disk that refuses to keep them."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from retrieval.errors import DiskFull, StorageError

ANYONE_READS: Final = 0o666
"""Permissions of a new file before the process's umask."""
OWNER_ONLY: Final = 0o600
"""Permissions of a new file that only its owner may read."""

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextmanager
def replacing(path: Path, fresh: Path, *, mode: int = ANYONE_READS) -> Iterator[IO[bytes]]:
    """Write a file anew and put it in the place of another in one step, also in a power cut.

    Args:
        path: the file; it is as it was if the block or the disk fails.
        fresh: where the new file is written, in the same folder; what is there is overwritten.
        mode: permissions of the new file.

    Yields:
        the new file, open for writing.

    Raises:
        OSError: it can't be written; see ``storage_error``.
    """
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            flush(file)
        fresh.replace(path)
        sync(path.parent)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def flush(file: IO[bytes]) -> None:
    """Flush an open file to the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Flush a file, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_disk_full(error: BaseException | None) -> bool:
    """Whether the system refused because the disk, or this user's share of it, is full."""
    return isinstance(error, OSError) and error.errno in _FULL


def storage_error(message: str, error: Exception) -> StorageError:
    """Return the error to raise when the system refuses to write.

    Args:
        message: what can't be written, and why.
        error: what the system said.
    """
    return DiskFull(message) if is_disk_full(error) else StorageError(message)
