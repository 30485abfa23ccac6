"""The place of a lake: where its tables, pointers and words are, and how they are reached."""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from retrieval.store.lake.objects.bucket import BucketObjects
from retrieval.store.lake.objects.folder import FolderObjects
from retrieval.store.lake.objects.interface import Objects
from retrieval.store.location import Location
from retrieval.store.objects import (
    CLOUD_SCHEMES,
    CONNECT_SECONDS,
    REQUEST_SECONDS,
    RETRIES,
    RETRY_SECONDS,
)

COMMITS: Final = "commits"
"""Name of the folder of pointers."""
TABLES: Final = "tables"
"""Name of the folder of tables."""
WORDS: Final = "words"
"""Name of the folder of lexical files."""

_STORAGE_OPTIONS: Final = {
    "connect_timeout": f"{CONNECT_SECONDS}s",
    "timeout": f"{REQUEST_SECONDS}s",
    "client_max_retries": str(RETRIES),
    "client_retry_timeout": str(RETRY_SECONDS),
}
"""Lance reads credentials and the endpoint from the same environment variables as obstore."""


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
        if location.scheme in CLOUD_SCHEMES:
            return cls(f"{location.scheme}://{location.path.rstrip('/')}", None)
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
        return None if self.local is not None else _STORAGE_OPTIONS

    def table_uri(self, name: str) -> str:
        """Return the address of a table, for Lance."""
        if self.local is not None:
            return str(self.local / TABLES / f"{name}.lance")
        return f"{_for_lance(self.address)}/{TABLES}/{name}.lance"

    @cached_property
    def objects(self) -> Objects:
        """The objects beside the tables, by their names under the place."""
        return self.bucket if self.local is None else FolderObjects(self.local)

    @cached_property
    def bucket(self) -> BucketObjects:
        """The objects of a place on an object store.

        Raises:
            InvalidArgument: the address is malformed or holds credentials, or obstore is missing.
        """
        return BucketObjects(self.address)

    @property
    def size(self) -> int:
        """Total size of all files, in bytes; a build may be changing them."""
        if self.local is None:
            return sum(one.size for one in self.objects.list(""))
        total = 0
        for folder, _, names in os.walk(self.local):
            for name in names:
                with suppress(FileNotFoundError):  # listed, then removed
                    total += os.lstat(f"{folder}/{name}").st_size
        return total

    def __str__(self) -> str:
        """Return the place as messages name it."""
        return str(self.local) if self.local is not None else self.address


def _for_lance(address: str) -> str:
    """Return an address with the scheme by which Lance knows the same store."""
    scheme, _, path = address.partition("://")
    if scheme == "abfs":
        scheme = "abfss" if "@" in path else "az"
    return f"{'s3' if scheme == 's3a' else scheme}://{path}"
