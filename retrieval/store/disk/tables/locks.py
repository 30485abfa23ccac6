"""Advisory locks on files of an index; the kernel releases them when their process ends.

Three locks divide the work among processes:

- The *commit lock* is held for one commit, or while an index is opened for writing. Whoever wants
  it waits, so builds and services can write to one index at the same time. Versions before 0.2 held
  it for the life of the writer, and still exclude others that way.
- The *build lock* admits one build, compaction or removal at a time, for its whole life.
- The *maintenance lock* admits one process that merges files outside commits.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

from retrieval.errors import IndexLocked, StorageError

COMMIT_LOCK: Final = "writer.lock"
BUILD_LOCK: Final = "build.lock"
MAINTENANCE_LOCK: Final = "maintenance.lock"
LOCK_NAMES: Final = frozenset({COMMIT_LOCK, BUILD_LOCK, MAINTENANCE_LOCK})

COMMIT_WAIT_SECONDS: Final = 30.0
"""How long a commit waits for another one, as long as SQLite waits for a connection's lock. A
commit takes about 20 ms, and that of a build's full window about a second."""
BUILD_WAIT_SECONDS: Final = 0.2
"""How long a build waits for another one: ``is_building`` holds the lock for some microseconds."""
MAINTENANCE_WAIT_SECONDS: Final = 0.2
"""The same for maintenance and ``claimed_segments``."""
_POLL_SECONDS: Final = 0.002
"""Time between two attempts to take a lock: a tenth of a small commit."""


@contextmanager
def commit_lock(folder: Path, seconds: float | None = None) -> Iterator[None]:
    """Hold an index's commit lock.

    Waiting processes queue for the lock of the folder itself, so one that commits again and again
    can't keep the others out.

    Args:
        folder: the index.
        seconds: how long to wait; None for ``COMMIT_WAIT_SECONDS``.

    Raises:
        IndexLocked: another process held the lock all the time; the message names that process.
        StorageError: the lock file can't be made.
    """
    seconds = COMMIT_WAIT_SECONDS if seconds is None else seconds
    deadline = time.monotonic() + seconds
    with ExitStack() as stack:
        with ExitStack() as queue:
            try:
                first = _open(folder, os.O_RDONLY | os.O_DIRECTORY)
                queue.callback(os.close, first)
                is_first = _take(first, deadline)
            except OSError:  # a network disk without locks for folders
                is_first = True
            lock = _opened(folder / COMMIT_LOCK)
            stack.callback(os.close, lock)
            if not is_first or not _take(lock, deadline):
                holder = _holder(lock)
                raise IndexLocked(
                    f"{folder} is being written by process {holder}, which did not finish within "
                    f"{seconds:.0f} s; try again when it is done",
                    holder=holder,
                )
        _sign(lock)
        try:
            yield
        finally:
            with suppress(OSError):
                os.ftruncate(lock, 0)


@contextmanager
def build_lock(folder: Path) -> Iterator[None]:
    """Hold an index's build lock.

    Raises:
        IndexLocked: another process holds the lock; the message names that process.
        StorageError: the lock file can't be made.
    """
    lock = _opened(folder / BUILD_LOCK)
    try:
        if not _take(lock, time.monotonic() + BUILD_WAIT_SECONDS):
            holder = _holder(lock)
            raise IndexLocked(
                f"{folder} is being written by process {holder}; wait until it is done",
                holder=holder,
            )
        _sign(lock)
        yield
    finally:
        os.close(lock)


def is_building(folder: Path) -> bool:
    """Whether a process holds the build lock of an index.

    Raises:
        StorageError: the lock file can't be made.
    """
    lock = _opened(folder / BUILD_LOCK)
    try:
        return not _take(lock, 0.0)
    finally:
        os.close(lock)


@contextmanager
def maintenance_lock(
    folder: Path, seconds: float = MAINTENANCE_WAIT_SECONDS
) -> Iterator[Callable[[int], None] | None]:
    """Hold an index's maintenance lock unless another process does.

    Args:
        folder: the index.
        seconds: how long to wait for the other process.

    Yields:
        a function that claims the segments up to an id, see ``claimed_segments``; None if the lock
        is not held.

    Raises:
        StorageError: the lock file can't be made.
    """
    lock = _opened(folder / MAINTENANCE_LOCK)
    try:
        if _take(lock, time.monotonic() + seconds):
            _note(lock, 0)
            yield partial(_note, lock)
        else:
            yield None
    finally:
        os.close(lock)


def claimed_segments(folder: Path) -> int:
    """Return the id up to which segments are being merged or indexed outside commits; 0 for none.

    A commit that replaces one of these undoes that work. It is in order to do so: this is a hint.

    Raises:
        StorageError: the lock file can't be made.
    """
    lock = _opened(folder / MAINTENANCE_LOCK)
    try:
        if _take(lock, 0.0):
            return 0
        noted = os.pread(lock, 32, 0).strip()
        return int(noted) if noted.isdigit() else 0
    finally:
        os.close(lock)


def _opened(path: Path) -> int:
    try:
        return _open(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise StorageError(f"can't write {path}: {error.strerror}") from error


def _open(path: Path, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o644)


def _take(lock: int, deadline: float) -> bool:
    """Take a lock, and wait for it until a time of ``time.monotonic``; return whether it is held.

    Raises:
        OSError: the disk has no locks.
    """
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        else:
            return True


def _sign(lock: int) -> None:
    """Write this process's id into a lock file, for the message to others."""
    _note(lock, os.getpid())


def _note(lock: int, number: int) -> None:
    with suppress(OSError):  # a full disk
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{number}\n".encode(), 0)


def _holder(lock: int) -> str:
    return os.pread(lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
