"""Deleting documents: one by its URI, or all that match a condition."""

from indexer.ingest.front.forwarding import forward
from indexer.ingest.front.handed_over import HandedOver
from indexer.ingest.front.limits.uris import check_prefix, check_uri
from indexer.ingest.front.metrics import IngestMetrics
from indexer.ingest.front.process.supervisor import Writer
from indexer.ingest.front.turns import Turns
from retrieval.domain.resource_names import parse_collection
from retrieval.errors import InvalidArgument
from retrieval.indexer_v1 import ingest_service_pb2 as pb
from retrieval.service.access.callers import Caller
from retrieval.service.collections.open_collections import Collections
from retrieval.service.collections.refresher import Refresher


class Deletions:
    """Deletes documents for all requests; belongs to the event loop."""

    def __init__(
        self,
        writer: Writer,
        collections: Collections,
        refresher: Refresher,
        *,
        metrics: IngestMetrics,
        turns: Turns,
        handed_over: HandedOver,
    ) -> None:
        """Share these between all requests.

        Args:
            writer: does the work.
            collections: say which there are, and who may see them.
            refresher: shows what was committed.
            metrics: count what is deleted.
            turns: of all operations on a URI.
            handed_over: finishes what was begun.
        """
        self._writer = writer
        self._collections = collections
        self._refresher = refresher
        self._metrics = metrics
        self._turns = turns
        self._handed_over = handed_over

    async def delete(
        self, caller: Caller, request: pb.DeleteDocumentRequest
    ) -> pb.DeleteDocumentResponse:
        """Delete a document.

        Raises:
            RetrievalError: see the contract.
        """
        collection = parse_collection(request.collection, field="collection")
        self._collections.check(collection, caller)
        check_uri(request.uri)

        async def work() -> pb.DeleteDocumentResponse:
            async with self._turns.taking((collection, request.uri)):
                return await forward(self._writer.stub.DeleteDocument, request, caller)

        response = await self._handed_over.finish(work())
        self._metrics.deleted(collection, len(response.uris))
        await self._show(collection, response.generation, wait=request.wait_for_visibility)
        return response

    async def delete_all(
        self, caller: Caller, request: pb.DeleteDocumentsRequest
    ) -> pb.DeleteDocumentsResponse:
        """Delete all documents that match, or say which would be deleted.

        Raises:
            RetrievalError: see the contract.
        """
        collection = parse_collection(request.collection, field="collection")
        self._collections.check(collection, caller)
        condition = request.WhichOneof("condition")
        if condition is None:
            raise InvalidArgument("give uri_prefix or filter", field="condition")
        if condition == "uri_prefix":
            check_prefix(request.uri_prefix)
        elif not request.filter.strip():
            raise InvalidArgument(
                "filter is empty, and would select every document", field="filter"
            )
        work = forward(self._writer.stub.DeleteDocuments, request, caller)
        response = await self._handed_over.finish(work)
        if not request.dry_run:
            self._metrics.deleted(collection, response.document_count)
            await self._show(collection, response.generation, wait=request.wait_for_visibility)
        return response

    async def _show(self, collection: str, generation: int, *, wait: bool) -> None:
        """Let searches see a deletion, and wait for that if it is asked for."""
        if wait:
            await self._refresher.shown(collection, generation)
        else:
            self._refresher.committed(collection, generation)
