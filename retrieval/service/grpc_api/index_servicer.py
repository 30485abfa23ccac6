"""IndexService: what is in the collections, and the server itself."""

from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from grpc.aio import ServicerContext

import retrieval
from retrieval.domain.passages import Passage
from retrieval.domain.records import DocumentRow
from retrieval.domain.resource_names import (
    PassageName,
    parse_collection,
    parse_document,
    parse_passage,
)
from retrieval.domain.search_options import OPTIONS
from retrieval.errors import InvalidArgument
from retrieval.search import MAX_K, MAX_QUERY_CHARS
from retrieval.service.collections.collections import Collections, OpenCollection
from retrieval.service.config import Limits
from retrieval.service.grpc_api.page_tokens import PageScope, page_size
from retrieval.service.grpc_api.search_servicer import MAX_STREAM_LIMIT
from retrieval.service.grpc_api.to_messages import (
    collection_message,
    document_message,
    fill_passage,
)
from retrieval.service.scheduling.search_threads import SearchThreads
from retrieval.v1 import document_pb2
from retrieval.v1 import index_service_pb2 as pb
from retrieval.v1 import index_service_pb2_grpc as pb_grpc

DEFAULT_PAGE_SIZE = 50
"""Collections or documents on a page."""

_MAXIMA = {
    option.server_limit: int(option.most)
    for option in OPTIONS.values()
    if option.server_limit and option.most is not None
}
"""Field of ``ServerLimits`` → the largest value of the options that it is about."""


class IndexServicer(pb_grpc.IndexServiceServicer):
    """Answers IndexService; see the ``.proto`` for what each method promises."""

    def __init__(self, collections: Collections, workers: SearchThreads, limits: Limits) -> None:
        """Keep what all requests share; the server counts as started now."""
        self._collections = collections
        self._workers = workers
        self._limits = limits
        self._started = datetime.now(UTC)

    async def GetCollection(
        self, request: pb.GetCollectionRequest, _context: ServicerContext[Any, Any]
    ) -> pb.GetCollectionResponse:
        """Answer one collection."""
        name = parse_collection(request.name, field="name")
        with self._collections.use(name) as collection:
            return pb.GetCollectionResponse(collection=collection_message(name, collection.info))

    async def ListCollections(
        self, request: pb.ListCollectionsRequest, _context: ServicerContext[Any, Any]
    ) -> pb.ListCollectionsResponse:
        """Answer one page of collections, by name."""
        size = page_size(request.page_size, default=DEFAULT_PAGE_SIZE, maximum=MAX_K)
        scope = PageScope(b"ListCollections", identity=None)
        after = scope.key(request.page_token)
        names = [name for name in self._collections.visible if name > after]
        response = pb.ListCollectionsResponse()
        for name in names[:size]:
            with self._collections.use(name) as collection:
                response.collections.append(collection_message(name, collection.info))
        if len(names) > size:
            response.next_page_token = scope.token_after(names[size - 1])
        return response

    async def GetDocument(
        self, request: pb.GetDocumentRequest, _context: ServicerContext[Any, Any]
    ) -> pb.GetDocumentResponse:
        """Answer one document, with its text in the full view."""
        name = parse_document(request.name, field="name")
        if request.view not in document_pb2.DocumentView.values():
            raise InvalidArgument(
                f"view is {request.view}, which this server does not know", field="view"
            )
        with_text = request.view == document_pb2.DOCUMENT_VIEW_FULL
        with self._collections.use(name.collection) as collection:
            row, text = await self._workers.run(
                collection, _read_document, collection, name.document_id, with_text
            )
        return pb.GetDocumentResponse(document=document_message(name.collection, row, text))

    async def ListDocuments(
        self, request: pb.ListDocumentsRequest, _context: ServicerContext[Any, Any]
    ) -> pb.ListDocumentsResponse:
        """Answer one page of documents, by uri."""
        name = parse_collection(request.parent, field="parent")
        size = page_size(request.page_size, default=DEFAULT_PAGE_SIZE, maximum=MAX_K)
        with self._collections.use(name) as collection:
            scope = PageScope(f"ListDocuments {name}".encode(), collection.info.identity)
            after = scope.key(request.page_token)
            # One more than the page shows whether there is another page.
            rows = await self._workers.run(collection, collection.reader.documents, size + 1, after)
        page = rows[:size]
        return pb.ListDocumentsResponse(
            documents=[document_message(name, row) for row in page],
            next_page_token=scope.token_after(page[-1].uri) if len(rows) > size else "",
            generation=collection.info.generation,
        )

    async def GetPassage(
        self, request: pb.GetPassageRequest, _context: ServicerContext[Any, Any]
    ) -> pb.GetPassageResponse:
        """Answer one passage and its neighbours."""
        name = parse_passage(request.name, field="name")
        for field, count in (("before", request.before), ("after", request.after)):
            if not 0 <= count <= self._limits.neighbours:
                raise InvalidArgument(
                    f"{field} is {count}; it must be from 0 to {self._limits.neighbours}",
                    field=field,
                )
        with self._collections.use(name.collection) as collection:
            passages = await self._workers.run(
                collection, _read_passages, collection, name, request.before, request.after
            )
            response = pb.GetPassageResponse(generation=collection.info.generation)
        for passage in passages:
            if passage.ordinal == name.ordinal:
                message = response.passage
            else:
                beside = response.before if passage.ordinal < name.ordinal else response.after
                message = beside.add()
            fill_passage(message, name.collection, passage)
        return response

    async def ReloadCollection(
        self, request: pb.ReloadCollectionRequest, _context: ServicerContext[Any, Any]
    ) -> pb.ReloadCollectionResponse:
        """Answer from the newest generation from now on."""
        name = parse_collection(request.name, field="name")
        self._collections.check(name)
        previous = self._collections.generation(name)
        await self._collections.reload(name)
        with self._collections.use(name) as collection:
            return pb.ReloadCollectionResponse(
                collection=collection_message(name, collection.info), previous_generation=previous
            )

    async def GetServerInfo(
        self, _request: pb.GetServerInfoRequest, _context: ServicerContext[Any, Any]
    ) -> pb.GetServerInfoResponse:
        """Answer the server's version and limits."""
        start_time = Timestamp()
        start_time.FromDatetime(self._started)
        limits = pb.ServerLimits(
            max_stream_limit=MAX_STREAM_LIMIT,
            max_query_chars=MAX_QUERY_CHARS,
            max_batch_size=self._limits.batch_size,
            max_text_chars=self._limits.text_chars,
            max_neighbours=self._limits.neighbours,
            max_message_bytes=self._limits.message_bytes,
            max_batch_passages=self._limits.batch_passages,
            **_MAXIMA,
        )
        info = pb.ServerInfo(version=retrieval.__version__, start_time=start_time, limits=limits)
        return pb.GetServerInfoResponse(server_info=info)


def _read_document(
    collection: OpenCollection, document_id: int, with_text: bool
) -> tuple[DocumentRow, str]:
    """A document, and its text where wanted, else an empty one; NotFound where there is none."""
    row = collection.reader.document(document_id)
    return row, collection.reader.document_text(document_id) if with_text else ""


def _read_passages(
    collection: OpenCollection, name: PassageName, before: int, after: int
) -> list[Passage]:
    """A passage among its neighbours, in the document's order; NotFound where there is none."""
    reader = collection.reader
    around = reader.neighbours(name.document_id, name.ordinal, before=before, after=after)
    around.append(reader.passage(name.document_id, name.ordinal))
    return sorted(around, key=lambda passage: passage.ordinal)
