"""The collections of a writer process: opened on first use, created, and deleted."""

import asyncio
import logging
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from indexer.build.settings import BuildOptions, chunk_settings
from indexer.ingest.writer.collection import Shared, WritableCollection
from indexer.ingest.writer.commits.operations import ChangeSettings
from retrieval.domain.languages import DEFAULT_LANGUAGE
from retrieval.domain.records import IndexInfo
from retrieval.domain.resource_names import check_own_name
from retrieval.errors import AlreadyExists, InvalidArgument, NotFound, RetrievalError, StorageError
from retrieval.store import Location, exists, open_writer, read_info
from retrieval.store.durable_files import sync

LOG = logging.getLogger("retrieval.ingest")

_UNFINISHED: Final = ".unfinished-"
"""Prefix of the folder of a collection that is being created or deleted."""
_LOOK_SECONDS: Final = 60.0
"""Between two looks for collections whose files somebody else has deleted."""
_WARM_COLLECTIONS: Final = 8
"""Number of collections to open before they are used: each takes some threads and open files."""
_WARM_SECONDS: Final = 5.0
"""How long a creation waits until its collection is open. It takes a second or two, which the first
put would take otherwise."""


@dataclass(frozen=True, slots=True)
class NewCollection:
    """What a new collection is to be."""

    name: str
    model: str
    """Empty for the server's default."""
    chunk_tokens: int | None
    chunk_overlap: int | None
    """None for the default of builds."""
    settings: ChangeSettings


class WritableCollections:
    """Opens collections on first use; for one event loop."""

    def __init__(self, named: Mapping[str, Location], data: Path | None, shared: Shared) -> None:
        """Open nothing yet.

        Args:
            named: collection → location of its index.
            data: folder of further collections, each in a folder of its name; None if there is
                none.
            shared: what they share.
        """
        self._named = named
        self._data = data
        self._shared = shared
        self._open: dict[str, WritableCollection] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._warming = set[asyncio.Task[None]]()

    async def get(self, name: str) -> WritableCollection:
        """Return a collection, and open it first if necessary.

        Raises:
            NotFound: there is no such collection.
            RetrievalError: its index or model can't be opened; see ``WritableCollection.open``.
        """
        place = self._place(name)
        collection = self._open.get(name)
        if collection is None or collection.is_replaced:
            async with self._lock(name):
                collection = self._open.get(name)
                if collection is not None and collection.is_replaced:
                    del self._open[name]
                    await collection.close()
                    collection = None
                if collection is None:
                    collection = await asyncio.to_thread(
                        WritableCollection.open, place, self._shared
                    )
                    self._open[name] = collection
        return collection

    async def warm(self) -> None:
        """Open collections before they are needed, so that the first put need not wait for it."""
        own = sorted(self._data.iterdir()) if self._data and self._data.is_dir() else []
        names = [*self._named, *(path.name for path in own if exists(path))]
        for name in names[:_WARM_COLLECTIONS]:
            await self._warm(name)
        if not names:
            await self._warm_model()

    async def _warm_model(self) -> None:
        """Load the model that the first collection will have, unless its client names another."""
        try:
            await asyncio.to_thread(self._shared.models.named, "")
        except RetrievalError as error:
            LOG.info("no model is loaded before the first collection: %s", error.message)

    async def _warm(self, name: str) -> None:
        try:
            collection = await self.get(name)
            await collection.warm()
        except RetrievalError as error:
            LOG.warning("collection %s can't be written: %s", name, error.message)

    async def close_deleted(self) -> None:
        """Close collections that somebody else has deleted, so that the disk frees their files."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            for name, collection in tuple(self._open.items()):
                try:
                    if await asyncio.to_thread(exists, collection.place):
                        continue
                except RetrievalError as error:  # of the store: it is asked again
                    LOG.debug("can't look whether %s was deleted: %s", name, error.message)
                    continue
                async with self._lock(name):
                    if self._open.get(name) is collection:
                        del self._open[name]
                        await collection.close()

    async def create(self, new: NewCollection) -> IndexInfo:
        """Create an empty collection, and open it for its first put.

        Raises:
            AlreadyExists: there is such a collection.
            InvalidArgument: the name, the model or a setting is out of range.
            StorageError: its folder can't be made.
        """
        check_own_name(new.name, field="collection_id")
        folder = self._own_folder(new.name)
        async with self._lock(new.name):
            info = await asyncio.to_thread(self._create, new, folder)
        if len(self._open) + len(self._warming) < _WARM_COLLECTIONS:
            warming = asyncio.create_task(self._warm(new.name))
            self._warming.add(warming)
            warming.add_done_callback(self._warming.discard)
            await asyncio.wait([warming], timeout=_WARM_SECONDS)
        return info

    async def delete(self, name: str) -> None:
        """Delete a collection with its files.

        Raises:
            NotFound: there is no such collection.
            StorageError: its files can't be deleted.
        """
        folder = self._own_folder(name)
        async with self._lock(name):
            if not exists(folder):
                raise _no_collection(name)
            collection = self._open.pop(name, None)
            if collection is not None:
                await collection.close()
            await asyncio.to_thread(_remove, folder)

    async def close(self) -> None:
        """Commit what waits, and close all collections."""
        for warming in self._warming:
            warming.cancel()
        await asyncio.gather(*(one.close() for one in self._open.values()))

    def remove_unfinished(self) -> None:
        """Delete what an interrupted creation or deletion left behind."""
        if self._data is not None and self._data.is_dir():
            for path in self._data.glob(f"{_UNFINISHED}*"):
                shutil.rmtree(path, ignore_errors=True)

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    def _place(self, name: str) -> Location:
        if name in self._named:
            return self._named[name]
        if self._data is None or not exists(self._data / name):
            raise _no_collection(name)
        return Location.parse(self._data / name)

    def _own_folder(self, name: str) -> Path:
        """Return the folder of a collection that may be created or deleted."""
        if self._data is None or name in self._named:
            raise InvalidArgument(
                f"collection {name!r} can't be created or deleted here: the server takes only "
                "collections in the folder of --data for that",
                field="collection",
            )
        return self._data / name

    def _create(self, new: NewCollection, folder: Path) -> IndexInfo:
        if exists(folder):
            raise AlreadyExists(f"collection {new.name!r} exists", collection=new.name)
        encoder = self._shared.models.named(new.model)
        options = BuildOptions(
            [], folder, chunk_tokens=new.chunk_tokens, chunk_overlap=new.chunk_overlap
        )
        chunking = chunk_settings(options, None, encoder)
        unfinished = folder.with_name(f"{_UNFINISHED}{secrets.token_hex(8)}")
        try:
            with open_writer(unfinished, shared=True) as writer:
                language = new.settings.language or DEFAULT_LANGUAGE
                writer.set_model(encoder.identity, chunking, language)
                with writer.commit() as commit:
                    new.settings.apply(commit, always=True)
            _move(unfinished, folder)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        return read_info(folder)


def _no_collection(name: str) -> NotFound:
    return NotFound(f"no collection {name!r}", collection=name)


def _move(source: Path, target: Path) -> None:
    """Rename a folder, and make that survive a power cut.

    Raises:
        AlreadyExists: the target is a folder with files.
        StorageError: the disk refuses.
    """
    try:
        source.rename(target)
        sync(target.parent)
    except OSError as error:
        if target.is_dir():
            raise AlreadyExists(f"{target} exists and is not empty") from error
        raise StorageError(f"can't make {target}: {error.strerror}") from error


def _remove(folder: Path) -> None:
    """Delete a folder; after a power cut it is whole or gone."""
    unfinished = folder.with_name(f"{_UNFINISHED}{secrets.token_hex(8)}")
    _move(folder, unfinished)
    try:
        shutil.rmtree(unfinished)
    except OSError as error:
        raise StorageError(f"can't delete all of {unfinished}: {error.strerror}") from error
