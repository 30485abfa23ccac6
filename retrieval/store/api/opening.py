"""Functions that open an index by its location, in the store that keeps it.

The store on disk (``store.disk``) reads and writes folders. Any other location has a scheme that
names its store, which is imported on first use. A store is a class that satisfies ``Store``; mypy
checks that in ``_STORES``.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Protocol

from retrieval.domain.records import IndexInfo
from retrieval.errors import InvalidArgument
from retrieval.store.api.reader import Reader, Version
from retrieval.store.api.writer import Writer
from retrieval.store.location import Location, LocationLike
from retrieval.store.objects import CLOUD_SCHEMES
from retrieval.store.records import IndexStatus, Problem


class Store(Protocol):
    """A place that keeps indexes."""

    def exists(self, location: Location) -> bool:
        """See ``exists``."""
        ...

    def check_free(self, location: Location) -> None:
        """See ``check_free``."""
        ...

    def read_info(self, location: Location) -> IndexInfo:
        """See ``read_info``."""
        ...

    def read_status(self, location: Location) -> IndexStatus:
        """See ``read_status``."""
        ...

    def read_version(self, location: Location) -> Version:
        """See ``read_version``."""
        ...

    def open_reader(self, location: Location, before: Reader | None) -> Reader:
        """See ``open_reader``."""
        ...

    def open_writer(self, location: Location, *, create: bool, shared: bool) -> Writer:
        """See ``open_writer``."""
        ...

    def verify(self, location: Location) -> Iterator[Problem]:
        """See ``verify``."""
        ...


def _disk() -> Store:
    from retrieval.store.disk.store import DiskStore  # loads FAISS and tantivy

    return DiskStore()


def _lake() -> Store:
    try:
        from retrieval.store.lake.store import LakeStore  # loads Lance and Arrow
    except ModuleNotFoundError as error:
        if error.name not in ("lance", "pyarrow"):
            raise
        raise InvalidArgument(
            "an index at lance://… or on an object store needs the package pylance: install "
            "gte-retrieval[lake]",
            field="index",
        ) from error
    return LakeStore()


_STORES: Final[Mapping[str, Callable[[], Store]]] = {
    "": _disk,
    "lance": _lake,
    **dict.fromkeys(sorted(CLOUD_SCHEMES), _lake),
}
"""Stores by scheme; each is imported when the first location with its scheme is opened."""


def store_of(location: Location) -> Store:
    """Return the store that keeps an index.

    Raises:
        InvalidArgument: there is no store for the location's scheme.
    """
    _check_spelling(location)
    make = _STORES.get(location.scheme)
    if make is None:
        known = ", ".join(f"{scheme}://" for scheme in _STORES if scheme)
        raise InvalidArgument(
            f"{location}: this version has no store for {location.scheme}://; an index is a folder"
            + (f", or an address that begins with one of {known}" if known else ""),
            field="index",
        )
    return make()


def _check_spelling(location: Location) -> None:
    """Refuse an address without a place, and what was to be an address but names a folder.

    Raises:
        InvalidArgument: ``lance://``, ``S3://bucket/x``, ``lance:/x`` and the like.
    """
    if location.scheme:
        if not location.path:
            raise InvalidArgument(f"{location} names no place: write it behind ://", field="index")
        return
    scheme, colon, path = location.path.partition(":/")
    if colon and scheme and scheme.lower() in _STORES:
        meant = Location(scheme.lower(), path.removeprefix("/"))
        raise InvalidArgument(
            f"{location.path} is neither an address nor a sensible folder: write {meant}, or the "
            "whole path of a folder of that name",
            field="index",
        )


def exists(location: LocationLike) -> bool:
    """Whether there is an index, even an unusable one.

    Raises:
        StorageError: the store can't be read.
    """
    at = Location.parse(location)
    return store_of(at).exists(at)


def check_free(location: LocationLike) -> None:
    """Refuse a location that has no index and where none can be created; change nothing.

    Raises:
        NotAnIndex: the location holds something else.
        StorageError: the store can't be read.
    """
    at = Location.parse(location)
    store_of(at).check_free(at)


def read_info(location: LocationLike) -> IndexInfo:
    """Read an index's description and counts.

    Raises:
        NotAnIndex: there is no index, or nothing was committed yet.
        IndexVersionError: the index was written by a newer version.
        IndexDamaged: the index is malformed.
        StorageError: the store can't be read.
    """
    at = Location.parse(location)
    return store_of(at).read_info(at)


def read_status(location: LocationLike) -> IndexStatus:
    """Read everything that an index records about itself, in one snapshot.

    Raises:
        NotAnIndex, IndexVersionError, IndexDamaged, StorageError: see ``read_info``.
    """
    at = Location.parse(location)
    return store_of(at).read_status(at)


def read_version(location: LocationLike) -> Version:
    """Read which generation of which index is there now; cheap enough to call every second.

    Raises:
        NotAnIndex, IndexVersionError, IndexDamaged, StorageError: see ``read_info``.
    """
    at = Location.parse(location)
    return store_of(at).read_version(at)


def open_reader(location: LocationLike, *, before: Reader | None = None) -> Reader:
    """Open the last committed generation of an index; a build may run at the same time.

    Args:
        location: the index.
        before: reader of another generation, open or closed. Parts that both generations have are
            shared instead of read again.

    Raises:
        NotAnIndex, IndexVersionError, IndexDamaged, StorageError: see ``read_info``.
    """
    at = Location.parse(location)
    return store_of(at).open_reader(at, before)


def open_writer(location: LocationLike, *, create: bool = True, shared: bool = False) -> Writer:
    """Open an index for writing, and remove what an interrupted run left behind.

    Args:
        location: the index.
        create: whether to create the index if it does not exist.
        shared: whether others may write between this writer's commits: any number of shared writers
            and one that is not, such as a build.

    Raises:
        NotAnIndex: the location holds something else, or no index although ``create`` is false.
        IndexLocked: another process builds the index (only if ``shared`` is false), or does not
            finish its commit.
        IndexVersionError, IndexDamaged, StorageError: see ``read_info``.
    """
    at = Location.parse(location)
    return store_of(at).open_writer(at, create=create, shared=shared)


def verify(location: LocationLike) -> Iterator[Problem]:
    """Check every byte of an index's last commit; a build may run at the same time.

    Yields:
        each problem found.

    Raises:
        NotAnIndex, IndexVersionError, StorageError: the index can't be opened at all.
    """
    at = Location.parse(location)
    return store_of(at).verify(at)


def remove_documents(location: LocationLike, uris: Sequence[str]) -> tuple[list[str], list[str]]:
    """Remove documents from an index in one commit.

    Args:
        location: the index.
        uris: URIs of documents, or of folders that contain documents.

    Returns:
        the URIs of the removed documents, and the given URIs that matched no document.

    Raises:
        NotAnIndex: there is no index.
        IndexLocked: another process is writing it.
    """
    removed: list[str] = []
    missing: list[str] = []
    with open_writer(location, create=False) as writer:
        with writer.commit() as commit:
            for uri in uris:
                found = commit.remove_under(uri.rstrip("/"))
                removed += found
                missing += [] if found else [uri]
        writer.maintain()
    return removed, missing


def search_on_one_core() -> None:
    """Make searches of the calling thread use a single core.

    When many threads search at once, spreading each search over several cores makes them wait for
    each other.
    """
    from retrieval.store.disk.files.vector_file import search_on_one_core as on_one_core

    on_one_core()
