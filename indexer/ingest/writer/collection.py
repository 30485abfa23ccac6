"""One collection: what is put is read, committed, and answered."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from indexer.ingest.writer.commits.committer import Committer
from indexer.ingest.writer.commits.gather import Committed
from indexer.ingest.writer.commits.index_thread import IndexThread
from indexer.ingest.writer.commits.maintenance import Maintenance
from indexer.ingest.writer.commits.operations import (
    MAX_LISTED,
    ChangeSettings,
    Conditions,
    Deleted,
    DeleteDocument,
    DeleteDocuments,
    Late,
    Operation,
    PutDocuments,
    PutUnchanged,
)
from indexer.ingest.writer.embedding import Embedding, Vector
from indexer.ingest.writer.models import Models
from indexer.ingest.writer.room import Held, Room
from indexer.ingest.writer.uploads.reading import UploadReader
from indexer.ingest.writer.uploads.upload import Upload
from indexer.readers.on_demand import OnDemandReaders
from indexer.staging import Prepared
from retrieval.domain.records import IndexInfo
from retrieval.errors import ModelMismatch
from retrieval.service.observability.request_log import request_id
from retrieval.store import Location, Lookups, Writer, read_info
from retrieval.store.filters.language import Filter


@dataclass(frozen=True, slots=True)
class Shared:
    """What all collections of a process share."""

    models: Models
    embedding: Embedding
    readers: OnDemandReaders
    room: Room
    commit_seconds: float


class WritableCollection:
    """A collection that documents are put into; for one event loop."""

    def __init__(self, place: Location, info: IndexInfo, shared: Shared) -> None:
        """Use ``open``, which blocks."""
        self._encoder = encoder = shared.models.for_index(info.model)
        self._embedding = shared.embedding
        self._chunking = info.chunking
        self.place = place
        self.is_replaced = False
        """Whether an index of another model or other settings is there now."""
        self._room = shared.room
        self._reader = UploadReader(shared.readers, encoder, info.chunking)
        self._lookups = IndexThread(place, "lookups", self._check_same)
        self._maintenance = Maintenance(place)
        self._committer = Committer(
            place,
            partial(shared.embedding.embed, encoder),
            shared.commit_seconds,
            opened=self._check_same,
            committed=self._maintenance.committed,
        )

    @classmethod
    def open(cls, place: Location, shared: Shared) -> "WritableCollection":
        """Open an index, and load its model.

        Raises:
            NotAnIndex, IndexVersionError, IndexDamaged, StorageError: the index can't be opened.
            ModelNotFound, ModelMismatch, CheckpointError: its model can't be loaded.
        """
        return cls(place, read_info(place), shared)

    async def warm(self) -> None:
        """Start a reader process and run the model once."""
        await self._reader.warm()
        await asyncio.wrap_future(self._embedding.embed(self._encoder, {"warm": 1}))

    async def put(self, upload: Upload, conditions: Conditions) -> Committed:
        """Put a document; return once it is committed.

        Raises:
            UserError: a condition does not hold, or the document can't be put.
            StorageError, IndexLocked, IndexDamaged: the index can't be written.
        """
        mtime_ns = upload.mtime_ns if upload.has_time else None
        same = PutUnchanged(upload.uri, upload.sha256, mtime_ns, conditions)
        async with self._room.hold(upload.size, request_id.get()) as held:
            with self._committer.coming():
                known = await self._look_up(same.find)
                if known.result is None:
                    committed = await self._read_and_put(upload, conditions, held)
                elif isinstance(known.result, Late):
                    committed = self._committer.put(same)
                else:
                    return known
            done = await asyncio.wrap_future(committed)
            if done.result is not None:
                return done
            with self._committer.coming():  # the document was replaced before its time was changed
                committed = await self._read_and_put(upload, conditions, held)
            return await asyncio.wrap_future(committed)

    async def _read_and_put(
        self, upload: Upload, conditions: Conditions, held: Held
    ) -> Future[Committed]:
        """Read and embed a document; return what becomes of its commit."""
        read = await self._reader.read(upload)
        held.grow(read.chars)
        operation = PutDocuments(
            upload.uri,
            upload.sha256,
            read.documents,
            read.skipped,
            read.holds_files,
            upload.mtime_ns if upload.has_time else None,
            conditions,
        )
        return self._committer.put(operation, await self._embed(read.documents))

    async def delete(self, uri: str, conditions: Conditions) -> Committed:
        """Delete what was put at a URI.

        Raises:
            NotFound: there is no such document.
            UserError, StorageError, IndexLocked, IndexDamaged: as for ``put``.
        """
        return await self._commit(DeleteDocument(uri, conditions))

    async def delete_matching(
        self, prefix: str, filter: Filter | None, *, dry_run: bool
    ) -> Committed:
        """Delete what was put and matches a condition, or count it.

        Raises:
            StorageError, IndexLocked, IndexDamaged: as for ``put``.
        """
        operation = DeleteDocuments(prefix, filter)
        if not dry_run:
            return await self._commit(operation)

        def find(lookups: Lookups) -> Deleted:
            uris, foreign = operation.find(lookups)
            return Deleted(uris[:MAX_LISTED], len(uris), foreign)

        return await self._look_up(find)

    async def change(self, settings: ChangeSettings) -> IndexInfo:
        """Change settings; return what the collection is then."""
        await self._commit(settings)
        return await asyncio.to_thread(read_info, self.place)

    async def close(self) -> None:
        """Commit what waits to be committed, and close the index's files."""
        await asyncio.to_thread(self._close)

    def _check_same(self, writer: Writer) -> None:
        """Refuse an index that has taken the place of the one that was opened.

        Raises:
            ModelMismatch: its model or chunk settings are others.
        """
        info = writer.info
        made_with = (info.model.fingerprint, info.chunking) if info else None
        if made_with != (self._encoder.identity.fingerprint, self._chunking):
            self.is_replaced = True
            raise ModelMismatch(
                f"another index has taken the place of {self.place}; try again",
            )

    def _close(self) -> None:
        self._committer.close()
        self._maintenance.close()
        self._lookups.close()

    async def _embed(self, documents: Sequence[Prepared]) -> Mapping[str, Vector]:
        """Embed the texts of documents that have no vector in the index."""
        keys = {
            key: text for one in documents for key, text in zip(one.keys, one.texts, strict=True)
        }
        found = await asyncio.wrap_future(
            self._lookups.call(lambda lookups: lookups.find_vectors(keys))
        )
        tokens = {
            text: chunk.token_count
            for one in documents
            for key, text, chunk in zip(one.keys, one.texts, one.chunks, strict=True)
            if key not in found
        }
        embedded = self._embedding.embed(self._encoder, tokens, request_id.get())
        return await asyncio.wrap_future(embedded)

    async def _look_up(self, find: Callable[[Lookups], object]) -> Committed:
        return await asyncio.wrap_future(self._lookups.call(partial(_found, find)))

    async def _commit(self, operation: Operation) -> Committed:
        return await asyncio.wrap_future(self._committer.put(operation))


def _found(find: Callable[[Lookups], object], lookups: Lookups) -> Committed:
    """Return what is found in one generation, and its number."""
    while True:
        before = lookups.newest_generation()
        result = find(lookups)
        if lookups.newest_generation() == before:
            return Committed(result, before)
