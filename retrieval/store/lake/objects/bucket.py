"""How an object store keeps the small objects of an index, and its files of words."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from retrieval.errors import NotFound
from retrieval.store.lake.objects.interface import Listed
from retrieval.store.objects import Bucket


class BucketObjects:
    """Objects under an address; see ``Objects``. An object store has no folders, only names."""

    def __init__(self, url: str) -> None:
        """Connect to nothing yet; see ``Bucket``."""
        self.bucket = Bucket(url)

    def where(self, name: str) -> str:
        """See ``Objects``."""
        return f"{self.bucket.url}/{name}"

    def names(self, folder: str) -> list[str]:
        """See ``Objects``."""
        found = [one.name for one in self.bucket.list(folder)]
        if not found:
            raise NotFound(f"{self.bucket.url} has nothing under {folder}/")
        return found

    def list(self, folder: str) -> list[Listed]:
        """See ``Objects``."""
        return [
            Listed(one.name, one.modified.timestamp(), one.size) for one in self.bucket.list(folder)
        ]

    def read(self, name: str) -> bytes:
        """See ``Objects``."""
        return self.bucket.read(name)

    def create(self, name: str, content: bytes) -> bool:
        """See ``Objects``."""
        return self.bucket.create(name, content)

    def delete(self, names: Sequence[str]) -> None:
        """See ``Objects``."""
        self.bucket.delete(names)

    def stream(self, name: str) -> Iterator[memoryview]:
        """Yield the content of an object in pieces; see ``Bucket.stream``."""
        return self.bucket.stream(name)

    def first(self) -> str | None:
        """Return the name of any object; None if there is none."""
        return self.bucket.first()

    def write(self, name: str, content: bytes | Path) -> None:
        """Write an object, or replace it; see ``Bucket.write``."""
        self.bucket.write(name, content)
