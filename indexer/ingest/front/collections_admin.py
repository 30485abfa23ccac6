"""Creating, changing and deleting collections, on the disk and in the server."""

import logging
from pathlib import Path

from indexer.ingest.front.forwarding import forward
from indexer.ingest.front.process.supervisor import Writer
from indexer.ingest.front.turns import Turns
from retrieval.domain.resource_names import check_own_name, parse_collection
from retrieval.errors import (
    AlreadyExists,
    FixedCollections,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    RetrievalError,
)
from retrieval.indexer_v1 import ingest_service_pb2 as pb
from retrieval.service.access.callers import Caller
from retrieval.service.collections.open_collections import Collections
from retrieval.service.collections.refresher import Refresher
from retrieval.service.grpc_api.messages import collection_message
from retrieval.store import Location

LOG = logging.getLogger(__name__)


class CollectionsAdmin:
    """Changes the set of collections, one change of a name at a time; belongs to the event loop."""

    def __init__(
        self,
        writer: Writer,
        collections: Collections,
        refresher: Refresher,
        *,
        turns: Turns,
        data: Path | None,
    ) -> None:
        """Share these between all requests.

        Args:
            writer: changes what is on the disk.
            collections: the ones that are served.
            refresher: shows changed settings.
            turns: of changes.
            data: folder of collections; None if none can be created or deleted.
        """
        self._writer = writer
        self._collections = collections
        self._refresher = refresher
        self._turns = turns
        self._data = data

    async def create(
        self, caller: Caller, request: pb.CreateCollectionRequest
    ) -> pb.CreateCollectionResponse:
        """Create a collection, and serve it.

        Raises:
            RetrievalError: see the contract.
        """
        data = self._data
        if data is None:
            raise FixedCollections(
                "this server can't create collections: start it with --data DIR, or build an "
                "index and name it with --index"
            )
        name = request.collection_id
        check_own_name(name, field="collection_id")
        if not caller.sees(name):
            raise PermissionDenied(f"this token is not for collection {name!r}", collection=name)
        async with self._turns.taking((name,)):
            with self._collections.changing(name):
                await self._create(name, data, caller, request)
        with self._collections.use(name, caller) as collection:
            return pb.CreateCollectionResponse(collection=collection_message(name, collection.info))

    async def _create(
        self, name: str, data: Path, caller: Caller, request: pb.CreateCollectionRequest
    ) -> None:
        """Create a collection in a folder of collections, and serve it."""
        if self._collections.location(name) is not None:
            raise AlreadyExists(f"there is a collection {name!r} already", collection=name)
        await forward(self._writer.stub.CreateCollection, request, caller)
        try:
            await self._collections.add(name, Location("", str(data / name)))
        except RetrievalError:
            LOG.warning("collection %s is deleted again: it can't be served", name)
            deletion = pb.DeleteCollectionRequest(collection=f"collections/{name}")
            await forward(self._writer.stub.DeleteCollection, deletion, caller)
            raise

    async def update(
        self, caller: Caller, request: pb.UpdateCollectionRequest
    ) -> pb.UpdateCollectionResponse:
        """Change settings of a collection.

        Raises:
            RetrievalError: see the contract.
        """
        name = parse_collection(request.collection, field="collection")
        self._collections.check(name, caller)
        async with self._turns.taking((name,)):
            response = await forward(self._writer.stub.UpdateCollection, request, caller)
        self._refresher.committed(name, response.collection.generation)
        return response

    async def delete(
        self,
        caller: Caller,
        request: pb.DeleteCollectionRequest,
    ) -> pb.DeleteCollectionResponse:
        """Serve a collection no longer, and delete it.

        Raises:
            RetrievalError: see the contract.
        """
        if not request.collection:
            raise InvalidArgument(
                "collection is empty: name the collection to delete", field="collection"
            )
        name = parse_collection(request.collection, field="collection")
        self._collections.check(name, caller)
        async with self._turns.taking((name,)):
            location = self._collections.location(name)
            if location is None:
                raise NotFound(f"no collection {name!r}", collection=name)
            if self._data is None or location != Location("", str(self._data / name)):
                raise FixedCollections(
                    f"collection {name!r} was named with --index: only collections in the folder "
                    "of --data can be deleted",
                    collection=name,
                )
            stub = self._writer.stub  # raises before anything has changed
            with self._collections.changing(name):
                await self._collections.remove(name)
                try:
                    return await forward(stub.DeleteCollection, request, caller)
                except RetrievalError:
                    await self._add_again(name, location)
                    raise

    async def _add_again(self, name: str, location: Location) -> None:
        """Serve a collection that could not be deleted."""
        try:
            await self._collections.add(name, location)
        except RetrievalError as error:
            LOG.warning("collection %s is not served: %s", name, error.message)
