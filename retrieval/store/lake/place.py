"""The place of a lake: where its tables, pointers and words are, and how they are reached."""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from retrieval.store.lake.folder_objects import FolderObjects, Objects
from retrieval.store.location import Location

COMMITS: Final = "commits"
"""Name of the folder of pointers."""
TABLES: Final = "tables"
"""Name of the folder of tables."""
WORDS: Final = "words"
"""Name of the folder of lexical files."""


@dataclass(frozen=True)
class Place:
    """The place of one index. Equal places have equal addresses."""

    address: str
    """The location as a user types it."""
    local: Path | None
    """The folder on a disk of this machine; None on an object store."""

    @classmethod
    def of(cls, location: Location) -> "Place":
        """Return the place of a location."""
        return cls.in_folder(Path(location.path))

    @classmethod
    def in_folder(cls, folder: Path) -> "Place":
        """Return a place on a disk of this machine."""
        return cls(f"lance://{folder}", folder)

    @property
    def folder(self) -> Path:
        """The folder of a place on a disk of this machine."""
        if self.local is None:
            raise ValueError(f"{self.address} is not a folder")
        return self.local

    @property
    def storage_options(self) -> Mapping[str, str] | None:
        """Options with which Lance opens the tables."""
        return None

    def table_uri(self, name: str) -> str:
        """Return the address of a table, for Lance."""
        return str(self.folder / TABLES / f"{name}.lance")

    @cached_property
    def objects(self) -> Objects:
        """The objects beside the tables, by their names under the place."""
        return FolderObjects(self.folder)

    @property
    def words(self) -> Path:
        """The folder on this machine in which the files of the lexical index are opened."""
        return self.folder / WORDS

    @property
    def size(self) -> int:
        """Total size of all files, in bytes; a build may be changing them."""
        total = 0
        for folder, _, names in os.walk(self.folder):
            for name in names:
                with suppress(FileNotFoundError):  # listed, then removed
                    total += os.lstat(f"{folder}/{name}").st_size
        return total

    def __str__(self) -> str:
        """Return the place as messages name it."""
        return str(self.local) if self.local is not None else self.address
