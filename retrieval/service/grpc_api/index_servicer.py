"""IndexService: the messages of collections, documents and passages, to the engine and back."""

from typing import Any, Literal

from google.protobuf.timestamp_pb2 import Timestamp
from grpc.aio import ServicerContext

from retrieval.domain.records import CharRange, LineRange, TextRange
from retrieval.domain.resource_names import (
    DocumentName,
    DocumentUri,
    parse_collection,
    parse_document,
    parse_passage,
)
from retrieval.errors import InvalidArgument
from retrieval.service.engine import Engine
from retrieval.service.grpc_api.interceptors import current_call
from retrieval.service.grpc_api.messages import (
    collection_message,
    document_message,
    fill_passage,
)
from retrieval.v1 import document_pb2
from retrieval.v1 import index_service_pb2 as pb
from retrieval.v1 import index_service_pb2_grpc as pb_grpc


class IndexServicer(pb_grpc.IndexServiceServicer):
    """Answers IndexService; see the ``.proto`` for what each method promises."""

    def __init__(self, engine: Engine) -> None:
        """Answer from an engine."""
        self._engine = engine

    async def GetCollection(
        self, request: pb.GetCollectionRequest, _context: ServicerContext[Any, Any]
    ) -> pb.GetCollectionResponse:
        """Answer one collection."""
        name = parse_collection(request.name, field="name")
        info = self._engine.catalog.get(current_call.get(), name)
        return pb.GetCollectionResponse(collection=collection_message(name, info))

    async def ListCollections(
        self, request: pb.ListCollectionsRequest, _context: ServicerContext[Any, Any]
    ) -> pb.ListCollectionsResponse:
        """Answer one page of collections, by name."""
        page = self._engine.catalog.page(current_call.get(), request.page_size, request.page_token)
        return pb.ListCollectionsResponse(
            collections=[collection_message(name, info) for name, info in page.collections],
            next_page_token=page.next_page_token,
        )

    async def GetDocument(
        self, request: pb.GetDocumentRequest, _context: ServicerContext[Any, Any]
    ) -> pb.GetDocumentResponse:
        """Answer one document, with its text in the full view, or with a part of it."""
        if bool(request.name) == bool(request.uri):
            raise InvalidArgument("give the document's name, or its uri", field="name")
        if request.view not in document_pb2.DocumentView.values():
            raise InvalidArgument(
                f"view is {request.view}, which this server does not know", field="view"
            )
        name: DocumentName | DocumentUri
        if request.name:
            name = parse_document(request.name, field="name")
        else:
            collection = parse_collection(request.collection, field="collection")
            name = DocumentUri(collection, request.uri)
        found = await self._engine.documents.get(current_call.get(), name, text=_to_text(request))
        response = pb.GetDocumentResponse(generation=found.generation)
        part = found.part
        response.document.CopyFrom(
            document_message(name.collection, found.row, part.text if part else "")
        )
        if part is not None:
            response.line_count = part.line_count
            response.text_range.char_start = part.char_start
            response.text_range.char_end = part.char_end
            response.text_range.line_start = part.line_start
            response.text_range.line_end = part.line_end
        return response

    async def ListDocuments(
        self, request: pb.ListDocumentsRequest, _context: ServicerContext[Any, Any]
    ) -> pb.ListDocumentsResponse:
        """Answer one page of documents, by URI."""
        name = parse_collection(request.parent, field="parent")
        page = await self._engine.documents.page(
            current_call.get(),
            name,
            request.page_size,
            request.page_token,
            filter=request.filter,
            count=request.count,
        )
        response = pb.ListDocumentsResponse(
            documents=[document_message(name, row) for row in page.documents],
            next_page_token=page.next_page_token,
            generation=page.generation,
            warnings=page.warnings,
        )
        if page.total is not None:
            response.total.document_count = page.total.documents
            response.total.passage_count = page.total.passages
            response.total.SetInParent()
        return response

    async def ListSkippedFiles(
        self, request: pb.ListSkippedFilesRequest, _context: ServicerContext[Any, Any]
    ) -> pb.ListSkippedFilesResponse:
        """Answer one page of files that are not indexed, by URI."""
        name = parse_collection(request.parent, field="parent")
        page = await self._engine.documents.skipped(
            current_call.get(), name, request.page_size, request.page_token
        )
        return pb.ListSkippedFilesResponse(
            files=[
                pb.SkippedFile(uri=one.uri, reason=one.reason, detail=one.detail)
                for one in page.files
            ],
            next_page_token=page.next_page_token,
            generation=page.generation,
            counts=page.counts,
        )

    async def ListFields(
        self, request: pb.ListFieldsRequest, _context: ServicerContext[Any, Any]
    ) -> pb.ListFieldsResponse:
        """Answer the fields that filters can compare."""
        name = parse_collection(request.parent, field="parent")
        fields, generation = await self._engine.documents.fields(current_call.get(), name)
        return pb.ListFieldsResponse(
            fields=[
                pb.Field(name=one.name, built_in=one.built_in, has_values=one.has_values)
                for one in fields
            ],
            generation=generation,
        )

    async def ListFieldValues(
        self, request: pb.ListFieldValuesRequest, _context: ServicerContext[Any, Any]
    ) -> pb.ListFieldValuesResponse:
        """Answer the most frequent values of a field."""
        name = parse_collection(request.parent, field="parent")
        values, generation = await self._engine.documents.field_values(
            current_call.get(), name, request.field, request.containing, request.page_size
        )
        return pb.ListFieldValuesResponse(
            values=[
                pb.FieldValue(text=one.text, document_count=one.document_count, filter=one.filter)
                for one in values
            ],
            generation=generation,
        )

    async def GetPassage(
        self, request: pb.GetPassageRequest, _context: ServicerContext[Any, Any]
    ) -> pb.GetPassageResponse:
        """Answer one passage and its neighbours."""
        name = parse_passage(request.name, field="name")
        found = await self._engine.documents.passage(
            current_call.get(), name, before=request.before, after=request.after
        )
        response = pb.GetPassageResponse(generation=found.generation)
        fill_passage(response.passage, name.collection, found.passage)
        for passages, place in ((found.before, response.before), (found.after, response.after)):
            for passage in passages:
                fill_passage(place.add(), name.collection, passage)
        return response

    async def ReloadCollection(
        self, request: pb.ReloadCollectionRequest, _context: ServicerContext[Any, Any]
    ) -> pb.ReloadCollectionResponse:
        """Answer from the newest generation from now on."""
        name = parse_collection(request.name, field="name")
        reloaded = await self._engine.catalog.reload(current_call.get(), name)
        return pb.ReloadCollectionResponse(
            collection=collection_message(name, reloaded.info),
            previous_generation=reloaded.previous_generation,
        )

    async def GetServerInfo(
        self, _request: pb.GetServerInfoRequest, _context: ServicerContext[Any, Any]
    ) -> pb.GetServerInfoResponse:
        """Answer the server's version and limits."""
        info = self._engine.server_info(current_call.get())
        start_time = Timestamp()
        start_time.FromDatetime(info.started_at)
        return pb.GetServerInfoResponse(
            server_info=pb.ServerInfo(
                version=info.version,
                start_time=start_time,
                limits=pb.ServerLimits(**info.limits),
                writable=info.writable,
            )
        )


def _to_text(request: pb.GetDocumentRequest) -> TextRange | Literal["whole"] | None:
    """Return what a request asks for of the document's text.

    Raises:
        InvalidArgument: a range that ends before it starts.
    """
    match request.WhichOneof("range"):
        case "chars":
            chars = request.chars
            return CharRange(chars.start, chars.end if chars.HasField("end") else None)
        case "lines":
            lines = request.lines
            return LineRange(lines.start or 1, lines.end if lines.HasField("end") else None)
        case _:
            return "whole" if request.view == document_pb2.DOCUMENT_VIEW_FULL else None
