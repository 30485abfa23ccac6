"""Files of an index that stay readable while a build beside removes them."""

import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from retrieval.store.disk.files.library_path import OPEN_FILES


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
        """A path that the file can be read by until ``close``, also when its name is gone.

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
