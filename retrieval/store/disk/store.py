"""The store on disk: an index is a folder with a SQLite database and the files that it names."""

from collections.abc import Iterator

from retrieval.domain.records import IndexInfo
from retrieval.store.disk.info import DiskVersion, read_info, read_status, read_version
from retrieval.store.disk.reading.reader import DiskReader
from retrieval.store.disk.tables.database import is_index
from retrieval.store.disk.verify import verify
from retrieval.store.disk.writing.writer import DiskWriter, check_free
from retrieval.store.location import Location
from retrieval.store.records import IndexStatus, Problem


class DiskStore:
    """Opens indexes in folders; see ``retrieval.store.api.Store``."""

    def exists(self, location: Location) -> bool:
        """See ``Store``."""
        return is_index(location.folder)

    def check_free(self, location: Location) -> None:
        """See ``Store``."""
        check_free(location.folder)

    def read_info(self, location: Location) -> IndexInfo:
        """See ``Store``."""
        return read_info(location.folder)

    def read_status(self, location: Location) -> IndexStatus:
        """See ``Store``."""
        return read_status(location.folder)

    def read_version(self, location: Location) -> DiskVersion:
        """See ``Store``."""
        return read_version(location.folder)

    def open_reader(self, location: Location, before: object = None) -> DiskReader:
        """See ``Store``; a reader of another store shares nothing with the new one."""
        same = before if isinstance(before, DiskReader) else None
        return DiskReader.open(location.folder, before=same)

    def open_writer(self, location: Location, *, create: bool, shared: bool) -> DiskWriter:
        """See ``Store``."""
        return DiskWriter.open(location.folder, create=create, shared=shared)

    def verify(self, location: Location) -> Iterator[Problem]:
        """See ``Store``."""
        return verify(location.folder)
