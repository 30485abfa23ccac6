"""Paths by which files can be read: by libraries that take UTF-8 alone, and after their removal."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

OPEN_FILES = Path("/proc/self/fd")
"""Where Linux shows a process its open files: a file can be opened by its number there, whatever
its name is, and even if it has none any more."""


@contextmanager
def library_path(path: Path) -> Iterator[str]:
    """Yield a name by which a library in another language can open a file or folder.

    Args:
        path: may hold bytes that are not UTF-8, which Python keeps as surrogates.

    Yields:
        the path itself if it is valid UTF-8; else another name of the same file, which holds
        for as long as the block runs.

    Raises:
        OSError: there is no file.
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
            names: of files in it. One that can't be opened is left out: reading ``path`` says why.
        """
        self._folder = folder
        self._open: dict[str, int] = {}
        self.missing: set[str] = set()
        """Those that are not there."""
        for name in names:
            try:
                self._open[name] = os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                self.missing.add(name)
            except OSError:
                continue

    def path(self, name: str) -> Path:
        """Return a path that reads the file until ``close``, even when its name is gone.

        Systems without ``/proc`` only have the name.
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
