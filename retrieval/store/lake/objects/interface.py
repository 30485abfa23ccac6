"""What pointers and files of words need of the place that keeps them."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Listed(NamedTuple):
    """An object in a listing."""

    name: str
    """Without the folder."""
    modified: float
    """Time of the last change in seconds since 1970."""
    size: int


class Objects(Protocol):
    """Objects by their names, which are relative to the place of an index.

    Each method raises StorageError if the place can't be used or refuses.
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
