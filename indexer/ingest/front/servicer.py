"""IngestService in the server's process: finds out who asks, and answers."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Final

import grpc
from grpc.aio import ServicerContext

from indexer.ingest.front.collections_admin import CollectionsAdmin
from indexer.ingest.front.deletions import Deletions
from indexer.ingest.front.handed_over import HandedOver
from indexer.ingest.front.limits.pending import Pending
from indexer.ingest.front.puts import Puts
from indexer.ingest.front.received import ReceivedItem, ReceivedPut
from indexer.ingest.front.stream import PutStream
from retrieval.indexer_v1 import ingest_service_pb2 as pb
from retrieval.service.access.callers import Caller
from retrieval.service.grpc_api.interceptors import current_call
from retrieval.service.limits.under_way import Transfers
from retrieval.service.observability.observer import request_fields

SERVICE: Final = pb.DESCRIPTOR.services_by_name["IngestService"].full_name

_Context = ServicerContext[Any, Any]


class IngestServicer:
    """Answers IngestService; see the ``.proto`` for what each method promises."""

    def __init__(
        self,
        puts: Puts,
        deletions: Deletions,
        admin: CollectionsAdmin,
        handed_over: HandedOver,
        *,
        transfers: Transfers,
        pending: Pending,
        pending_streams: Pending,
    ) -> None:
        """Answer with these.

        Args:
            puts: puts documents.
            deletions: delete documents.
            admin: changes collections.
            handed_over: finishes changes of collections.
            transfers: counts the messages of streams.
            pending: counts single puts.
            pending_streams: counts the puts of streams.
        """
        self._puts = puts
        self._deletions = deletions
        self._admin = admin
        self._handed_over = handed_over
        self._transfers = transfers
        self._pending = pending
        self._pending_streams = pending_streams
        self.drained = asyncio.Event()
        """Set when streams are to be read no further."""

    async def PutDocument(self, request: ReceivedPut, _context: _Context) -> pb.PutDocumentResponse:
        """Answer once the document is committed."""
        response = await self._puts.put(_caller(), request, self._pending, patient=False)
        request_fields.get().update(
            documents=len(response.documents), content_bytes=request.content_bytes
        )
        return response

    async def PutDocuments(
        self, requests: AsyncIterator[ReceivedItem], _context: _Context
    ) -> AsyncGenerator[pb.PutDocumentsResponse]:
        """Answer each document once it is committed."""
        stream = PutStream(
            _caller(), self._puts, self._pending_streams, self._transfers, self.drained
        )
        fields = request_fields.get()
        try:
            async with aclosing(stream.answers(requests)) as answers:
                async for answer in answers:
                    yield answer
        finally:
            fields.update(
                documents=stream.documents, failed=stream.failed, content_bytes=stream.bytes
            )

    async def DeleteDocument(
        self, request: pb.DeleteDocumentRequest, _context: _Context
    ) -> pb.DeleteDocumentResponse:
        """Answer once the document is gone."""
        response = await self._deletions.delete(_caller(), request)
        request_fields.get().update(documents=len(response.uris))
        return response

    async def DeleteDocuments(
        self, request: pb.DeleteDocumentsRequest, _context: _Context
    ) -> pb.DeleteDocumentsResponse:
        """Answer once all documents that match are gone, or what a deletion would do."""
        response = await self._deletions.delete_all(_caller(), request)
        request_fields.get().update(documents=response.document_count)
        return response

    async def CreateCollection(
        self, request: pb.CreateCollectionRequest, _context: _Context
    ) -> pb.CreateCollectionResponse:
        """Answer once the collection is served."""
        return await self._handed_over.finish(self._admin.create(_caller(), request))

    async def UpdateCollection(
        self, request: pb.UpdateCollectionRequest, _context: _Context
    ) -> pb.UpdateCollectionResponse:
        """Answer once the settings are committed."""
        return await self._handed_over.finish(self._admin.update(_caller(), request))

    async def DeleteCollection(
        self, request: pb.DeleteCollectionRequest, _context: _Context
    ) -> pb.DeleteCollectionResponse:
        """Answer once the collection is gone."""
        return await self._handed_over.finish(self._admin.delete(_caller(), request))


def handlers(servicer: IngestServicer) -> "grpc.GenericRpcHandler[Any, Any]":
    """Return the methods of IngestService, of which the puts are not parsed whole."""
    unary = grpc.unary_unary_rpc_method_handler
    methods: dict[str, Any] = {
        "PutDocument": unary(
            servicer.PutDocument, ReceivedPut.parse, pb.PutDocumentResponse.SerializeToString
        ),
        "PutDocuments": grpc.stream_stream_rpc_method_handler(
            servicer.PutDocuments, ReceivedItem.parse, pb.PutDocumentsResponse.SerializeToString
        ),
    }
    for name in (
        "DeleteDocument",
        "DeleteDocuments",
        "CreateCollection",
        "UpdateCollection",
        "DeleteCollection",
    ):
        request, response = getattr(pb, f"{name}Request"), getattr(pb, f"{name}Response")
        methods[name] = unary(
            getattr(servicer, name), request.FromString, response.SerializeToString
        )
    return grpc.method_handlers_generic_handler(SERVICE, methods)


def _caller() -> Caller:
    return current_call.get().caller
