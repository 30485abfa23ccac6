"""Open files and indexes that one generation of an index takes over from the one before.

Each part has a key made of everything that its content depends on: the names and checksums that the
database records, and which files on the disk these are now. A generation takes over a part of the
older one under the same key instead of opening it again. Parts never change. They hold their files
themselves, and close them when the last generation that has them is gone.
"""

import os
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

Part = TypeVar("Part")


class FileStamp(NamedTuple):
    """Which file it is, in which state."""

    device: int
    inode: int
    size: int
    modified: int
    """ns; any program that writes to a file can set it."""
    changed: int
    """ns; only the system sets it, with every change of content, name or owner."""

    @classmethod
    def of(cls, path: Path) -> "FileStamp":
        """Look at a file.

        Raises:
            FileNotFoundError: no such file.
        """
        status = os.stat(path)  # noqa: PTH116 -- its errors have the file's name
        return cls(
            status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        )


class Opened:
    """Open parts of one generation; belongs to the thread that opens it."""

    def __init__(self, before: "Opened | None" = None) -> None:
        """Start with none.

        Args:
            before: those of an older generation; not kept.
        """
        self._parts: dict[Hashable, object] = {}
        self._before = before._parts if before else {}

    def take(self, key: Hashable, make: Callable[[], Part]) -> Part:
        """Return the part with a key: the older generation's, or else a new one.

        Args:
            key: all that the part depends on; the first element names its kind.
            make: opens it; what it raises is raised.
        """
        part = self._before[key] if key in self._before else make()
        self._parts[key] = part
        return cast(Part, part)

    def forget_older(self) -> None:
        """Let go of the older generation: everything is open."""
        self._before = {}
