"""Watches the folder of collections: one that is built into it appears, a deleted one vanishes."""

import asyncio
import logging
from collections import defaultdict
from pathlib import Path
from typing import Final

from retrieval.errors import RetrievalError, StorageError
from retrieval.service.collections.complaints import Complaints
from retrieval.service.collections.open_collections import Collections
from retrieval.service.collections.watcher import MAX_LOOKS
from retrieval.service.config import collections_in
from retrieval.store import Location, Version, read_version

LOG = logging.getLogger(__name__)

_LOOKS: Final = 2
"""Looks in a row that must agree before a collection is added or removed: a build into a new folder
is under way, and an index that is exchanged is missing for a moment."""


class DataFolder:
    """Looks at the folder at intervals; belongs to the event loop."""

    def __init__(self, folder: Path, collections: Collections, seconds: float) -> None:
        """Look at nothing yet.

        Args:
            folder: each folder in it that holds an index is a collection of that folder's name.
            collections: are added and removed.
            seconds: between two looks.
        """
        self._folder = folder
        self._collections = collections
        self._seconds = seconds
        self._place: tuple[int, int] | None = None
        """Device and inode of the folder when it was first seen."""
        self._versions: dict[str, Version] = {}
        """Generations that the last look found in collections that are not served."""
        self._looks: defaultdict[str, int] = defaultdict(int)
        """Looks in a row that found a collection to be new, or to be gone."""
        self._complaints = Complaints(LOG)
        """By collection; those about the folder itself have no name."""

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(self._seconds)
            try:
                await self._look()
            except RetrievalError as error:
                self._complaints.add("", f"{self._folder} can't be looked at: {error.message}")
            else:
                self._complaints.settle("")

    async def _look(self) -> None:
        served = {
            name: location
            for name in self._collections.names
            if (location := self._collections.location(name)) is not None
        }
        found = await asyncio.to_thread(self._list)
        own = {name for name, location in served.items() if location == self._location(name)}
        new, gone = found.keys() - served.keys(), own - found.keys()
        for name in self._looks.keys() - new - gone:
            self._forget(name)
        for name in sorted(gone):
            self._looks[name] += 1
            # A client may have created it meanwhile; its place is another object then.
            if self._looks[name] >= _LOOKS and self._collections.location(name) is served[name]:
                self._forget(name)
                LOG.warning("%s: its index was deleted, and is served no longer", name)
                await self._collections.remove(name)
        for name in sorted(new):
            await self._look_at_new(name, found[name])

    async def _look_at_new(self, name: str, location: Location) -> None:
        """Serve a collection if two looks found the same generation, or many found one."""
        if self._collections.is_changing(name):
            return
        self._looks[name] += 1
        try:
            version = await asyncio.to_thread(read_version, location)
            settled = self._versions.get(name) == version
            self._versions[name] = version
            if settled or self._looks[name] >= MAX_LOOKS:
                await self._collections.add(name, location)
                self._forget(name)
        except RetrievalError as error:
            if self._looks[name] >= MAX_LOOKS:  # at first, a build may have committed nothing yet
                self._complaints.add(name, f"collection {name} can't be opened: {error.message}")

    def _list(self) -> dict[str, Location]:
        """Return the collections that are there; blocks.

        Raises:
            StorageError: the folder can't be read, or another file system is in its place, as after
                it was unmounted. Nothing is known about its collections then.
        """
        try:
            status = self._folder.stat()
        except OSError as error:
            raise StorageError(f"can't read {self._folder}: {error.strerror}") from error
        place = status.st_dev, status.st_ino
        self._place = self._place or place
        if place != self._place:
            raise StorageError("another folder has taken its place")
        return collections_in(self._folder)

    def _location(self, name: str) -> Location:
        return Location("", str(self._folder / name))

    def _forget(self, name: str) -> None:
        self._looks.pop(name, None)
        self._versions.pop(name, None)
        self._complaints.settle(name)
