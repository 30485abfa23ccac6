"""Paths of open files, for libraries that only take UTF-8 and for files removed while open."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

OPEN_FILES = Path("/proc/self/fd")
"""Folder where Linux lists a process's open files by descriptor. A path in it opens the file
whatever its name is, even after the name was removed."""


@contextmanager
def library_path(path: Path) -> Iterator[str]:
    """Yield a name by which a native library can open a file or folder.

    Args:
        path: path to open; it may hold bytes that are not UTF-8, which Python keeps as surrogates.

    Yields:
        the path itself if it is valid UTF-8, else another name of the same file that is valid
        until the block ends.

    Raises:
        OSError: the file can't be opened.
    """
    name = str(path)
    try:
        name.encode()
    except UnicodeEncodeError:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield str(OPEN_FILES / str(descriptor))
        finally:
            os.close(descriptor)
    else:
        yield name


class OpenFiles:
    """Open files of one folder, by name; a context manager."""

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        """Open files.

        Args:
            folder: the index.
            names: names of files in the folder. A file that can't be opened is left out; reading
                its ``path`` then raises the error.
        """
        self._folder = folder
        self._open: dict[str, int] = {}
        self.missing: set[str] = set()
        """Names of the files that do not exist."""
        for name in names:
            try:
                self._open[name] = os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                self.missing.add(name)
            except OSError:
                continue

    def path(self, name: str) -> Path:
        """Return a path that reads the file until ``close``, even if its name was removed.

        On systems without ``/proc`` this is the path of its name.
        """
        by_number = OPEN_FILES / str(self._open.get(name, "none"))
        return by_number if by_number.exists() else self._folder / name

    def close(self) -> None:
        """Close all files."""
        while self._open:
            os.close(self._open.popitem()[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
