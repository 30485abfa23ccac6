"""Files of a folder that keep the small objects of an index."""

import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG
from typing import Final

from retrieval.errors import NotFound, StorageError
from retrieval.store.durable_files import sync
from retrieval.store.lake.objects.interface import Listed

UNPUBLISHED: Final = ".tmp"
"""End of the names of files that are not whole yet."""


class FolderObjects:
    """Files of a folder; see ``Objects``."""

    def __init__(self, folder: Path) -> None:
        """Keep objects in a folder."""
        self._folder = folder

    def where(self, name: str) -> str:
        """See ``Objects``."""
        return str(self._folder / name)

    def names(self, folder: str) -> list[str]:
        """See ``Objects``."""
        try:
            return os.listdir(self._folder / folder)  # noqa: PTH208 -- names are enough
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFound(f"{self._folder} has no folder {folder}") from error
        except OSError as error:
            raise StorageError(f"can't look into {self._folder}: {error.strerror}") from error

    def list(self, folder: str) -> list[Listed]:
        """See ``Objects``."""
        found = []
        with suppress(NotFound):
            for name in self.names(folder):
                with suppress(FileNotFoundError):  # listed, then removed
                    status = (self._folder / folder / name).lstat()
                    if S_ISREG(status.st_mode):
                        found.append(Listed(name, status.st_mtime, status.st_size))
        return found

    def read(self, name: str) -> bytes:
        """See ``Objects``."""
        path = self._folder / name
        try:
            return path.read_bytes()
        except FileNotFoundError as error:
            raise NotFound(f"{path} is missing") from error
        except OSError as error:
            raise StorageError(f"can't read {path}: {error.strerror}") from error

    def create(self, name: str, content: bytes) -> bool:
        """See ``Objects``."""
        final = self._folder / name
        made = final.with_name(f"{secrets.token_hex(8)}{UNPUBLISHED}")
        try:
            with made.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            try:
                final.hardlink_to(made)
                sync(final.parent)
            finally:
                made.unlink()
        except FileExistsError:
            return False
        except OSError as error:
            with suppress(OSError):
                made.unlink(missing_ok=True)
            raise StorageError(
                f"can't write {final}: {error.strerror}; what was committed before is untouched"
            ) from error
        return True

    def delete(self, names: Sequence[str]) -> None:
        """See ``Objects``."""
        for name in names:
            path = self._folder / name
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise StorageError(f"can't delete {path}: {error.strerror}") from error
