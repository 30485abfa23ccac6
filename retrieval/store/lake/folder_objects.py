"""Small objects of an index, such as pointers, and how a folder keeps them."""

import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from retrieval.errors import NotFound, StorageError
from retrieval.store.disk.files.vector_file import sync

UNPUBLISHED: Final = ".tmp"
"""End of the names of files that are not whole yet."""


class Listed(NamedTuple):
    """An object in a listing."""

    name: str
    """Without the folder."""
    modified: float
    """Time of the last change in seconds since 1970."""
    size: int


class Objects(Protocol):
    """Objects by their names, which are relative to the place of an index.

    Each method raises StorageError if the place can't be used, and PermissionDenied if it refuses.
    """

    def where(self, name: str) -> str:
        """Return the path or address of an object, for messages."""
        ...

    def names(self, folder: str) -> list[str]:
        """Return the names of the objects in a folder, in no order.

        Raises:
            NotFound: there is no such folder.
        """
        ...

    def list(self, folder: str) -> list[Listed]:
        """Return the objects in a folder, in no order; none if there is no such folder."""
        ...

    def read(self, name: str) -> bytes:
        """Return the content of an object.

        Raises:
            NotFound: there is no such object.
        """
        ...

    def create(self, name: str, content: bytes) -> bool:
        """Write an object durably unless there is one of its name; return whether it was."""
        ...

    def delete(self, names: Sequence[str]) -> None:
        """Delete objects; those that are gone already are passed over."""
        ...


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
                    stat = (self._folder / folder / name).stat()
                    found.append(Listed(name, stat.st_mtime, stat.st_size))
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
