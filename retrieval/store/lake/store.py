"""The store on Lance tables, opened by ``lance://`` and a path."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from retrieval.domain.records import IndexInfo
from retrieval.errors import NotAnIndex
from retrieval.store.disk.lexical.analysis import VERSION
from retrieval.store.lake.reading.reader import LakeReader, LakeVersion
from retrieval.store.lake.tables.generation import Generation
from retrieval.store.lake.tables.pointer import address, is_lake, read_newest
from retrieval.store.lake.verify import verify
from retrieval.store.lake.writing.writer import LakeWriter, check_free
from retrieval.store.location import Location
from retrieval.store.records import IndexStatus, LexicalState, Problem


class LakeStore:
    """Opens indexes on Lance tables; see ``retrieval.store.api.Store``."""

    def exists(self, location: Location) -> bool:
        """See ``Store``."""
        return is_lake(_place(location))

    def check_free(self, location: Location) -> None:
        """See ``Store``."""
        check_free(_place(location))

    def read_info(self, location: Location) -> IndexInfo:
        """See ``Store``."""
        return read_newest(_place(location)).info

    def read_status(self, location: Location) -> IndexStatus:
        """See ``Store``."""
        place = _place(location)
        pointer = read_newest(place)
        state: LexicalState = "missing" if pointer.counts.chunks else "searchable"
        if pointer.words is not None:
            state = "searchable" if pointer.words.analysis == VERSION else "outdated"
        segments = Generation(place, pointer).segments()
        return IndexStatus(pointer.info, segments, dict(pointer.roots), state, _size(place))

    def read_version(self, location: Location) -> LakeVersion:
        """See ``Store``."""
        place = _place(location)
        pointer = read_newest(place)
        if not pointer.generation:
            raise NotAnIndex(
                f"{address(place)} holds an index with nothing committed yet; build it first"
            )
        return LakeVersion(str(place), pointer.identity)

    def open_reader(self, location: Location, before: object = None) -> LakeReader:
        """See ``Store``; a reader of another store shares nothing with the new one."""
        same = before if isinstance(before, LakeReader) else None
        return LakeReader.open(_place(location), before=same)

    def open_writer(self, location: Location, *, create: bool, shared: bool) -> LakeWriter:
        """See ``Store``."""
        return LakeWriter.open(_place(location), create=create, shared=shared)

    def verify(self, location: Location) -> Iterator[Problem]:
        """See ``Store``."""
        return verify(_place(location))


def _place(location: Location) -> Path:
    """Return the folder of an index."""
    return Path(location.path)


def _size(place: Path) -> int:
    """Return the total size of an index's files, in bytes; a build may be changing them."""
    total = 0
    for folder, _, names in os.walk(place):
        for name in names:
            with suppress(FileNotFoundError):  # listed, then removed
                total += os.lstat(f"{folder}/{name}").st_size
    return total
