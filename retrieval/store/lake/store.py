"""The store on Lance tables, opened by ``lance://`` and a path."""

from collections.abc import Iterator

from retrieval.domain.records import IndexInfo
from retrieval.errors import NotAnIndex
from retrieval.store.disk.lexical.analysis import VERSION
from retrieval.store.lake.place import Place
from retrieval.store.lake.reading.reader import LakeReader, LakeVersion
from retrieval.store.lake.tables.generation import Generation
from retrieval.store.lake.tables.pointer import is_lake, read_newest
from retrieval.store.lake.verify import verify
from retrieval.store.lake.writing.writer import LakeWriter, check_free
from retrieval.store.location import Location
from retrieval.store.records import IndexStatus, LexicalState, Problem


class LakeStore:
    """Opens indexes on Lance tables; see ``retrieval.store.api.Store``."""

    def exists(self, location: Location) -> bool:
        """See ``Store``."""
        return is_lake(Place.of(location))

    def check_free(self, location: Location) -> None:
        """See ``Store``."""
        check_free(Place.of(location))

    def read_info(self, location: Location) -> IndexInfo:
        """See ``Store``."""
        return read_newest(Place.of(location)).info

    def read_status(self, location: Location) -> IndexStatus:
        """See ``Store``."""
        place = Place.of(location)
        pointer = read_newest(place)
        state: LexicalState = "missing" if pointer.counts.chunks else "searchable"
        if pointer.words is not None:
            state = "searchable" if pointer.words.analysis == VERSION else "outdated"
        segments = Generation(place, pointer).segments()
        return IndexStatus(pointer.info, segments, dict(pointer.roots), state, place.size)

    def read_version(self, location: Location) -> LakeVersion:
        """See ``Store``."""
        place = Place.of(location)
        pointer = read_newest(place)
        if not pointer.generation:
            raise NotAnIndex(
                f"{place.address} holds an index with nothing committed yet; build it first"
            )
        return LakeVersion(place.address, pointer.identity)

    def open_reader(self, location: Location, before: object = None) -> LakeReader:
        """See ``Store``; a reader of another store shares nothing with the new one."""
        same = before if isinstance(before, LakeReader) else None
        return LakeReader.open(Place.of(location), before=same)

    def open_writer(self, location: Location, *, create: bool, shared: bool) -> LakeWriter:
        """See ``Store``."""
        return LakeWriter.open(Place.of(location), create=create, shared=shared)

    def verify(self, location: Location) -> Iterator[Problem]:
        """See ``Store``."""
        return verify(Place.of(location))
