"""Open files and indexes that one generation of an index reuses from the previous one.

Each part has a key made of everything that its content depends on: the names and checksums that the
database records, and the present stamps of those files. A new generation reuses the older one's
part with the same key instead of opening it again. Parts never change. Each part holds its files
open until the last generation that uses it is gone.
"""

import os
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

Part = TypeVar("Part")


class FileStamp(NamedTuple):
    """Identity and state of a file."""

    device: int
    inode: int
    size: int
    modified: int
    """Time of modification in ns; any program that may write the file can set it."""
    changed: int
    """Time of change in ns; only the system sets it, on every change of content, name or owner."""

    @classmethod
    def of(cls, path: Path) -> "FileStamp":
        """Return the stamp of a file.

        Raises:
            FileNotFoundError: there is no file.
        """
        status = os.stat(path)  # noqa: PTH116 -- its errors have the file's name
        return cls(
            status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        )


class Opened:
    """Open parts of one generation; used only by the thread that opens the generation."""

    def __init__(self, before: "Opened | None" = None) -> None:
        """Start without parts.

        Args:
            before: parts of an older generation, to reuse. The object itself is not kept.
        """
        self._parts: dict[Hashable, object] = {}
        self._before = before._parts if before else {}

    def take(self, key: Hashable, make: Callable[[], Part]) -> Part:
        """Return the older generation's part with a key, or open a new one.

        Args:
            key: everything that the part depends on; the first element names its kind.
            make: function that opens the part. Its errors are passed on.
        """
        part = self._before[key] if key in self._before else make()
        self._parts[key] = part
        return cast(Part, part)

    def forget_older(self) -> None:
        """Release the older generation, once all parts are open."""
        self._before = {}
