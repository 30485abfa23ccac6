"""Folder for the socket of a writer process, which does not stay if the server is killed.

A server that is killed removes nothing. The next one of the same user does: each holds a lock in
its folder for as long as it lives, so a folder whose lock is free is nobody's.
"""

import fcntl
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Final, Self

_PREFIX: Final = "retrieval-writer-"
_LOCK: Final = "server.lock"
_SOCKET: Final = "writer.sock"
_MAX_SOCKET_BYTES: Final = 100
"""Systems allow 104 to 108 bytes for the path of a Unix socket."""
_SHORT: Final = Path("/tmp")  # noqa: S108  (the folder in it is made for this user alone)


class SocketFolder:
    """A folder that only this user can enter; each method blocks."""

    def __init__(self, path: Path, lock: int) -> None:
        """Use ``make``."""
        self._path = path
        self._lock = lock

    @classmethod
    def make(cls) -> Self:
        """Make a folder with a path short enough for a socket.

        Raises:
            OSError: the system can't make it.
        """
        path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        if len(os.fsencode(path / _SOCKET)) > _MAX_SOCKET_BYTES:
            path.rmdir()
            path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_SHORT))
        # The lock gets its name once it is held: no other server finds it free in between.
        unnamed = path / f"{_LOCK}.new"
        lock = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        unnamed.rename(path / _LOCK)
        return cls(path, lock)

    @property
    def socket(self) -> Path:
        """Path of the socket."""
        return self._path / _SOCKET

    def remove(self) -> None:
        """Remove the folder with all that is in it."""
        shutil.rmtree(self._path, ignore_errors=True)
        os.close(self._lock)


def remove_leftovers() -> None:
    """Remove the folders of this user's servers that are no more; blocks."""
    for place in {Path(tempfile.gettempdir()), _SHORT}:
        for path in place.glob(f"{_PREFIX}*"):
            if _is_left(path):
                shutil.rmtree(path, ignore_errors=True)


def _is_left(path: Path) -> bool:
    """Return whether a folder is this user's, and its server is provably no more."""
    try:
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            return False
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:  # no lock yet, or the folder is being removed
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(lock)
