"""IngestService in the writer process: messages to operations, and back."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import grpc
from grpc.aio import ServicerContext

from indexer.ingest.writer.collections import NewCollection, WritableCollections
from indexer.ingest.writer.commits.gather import Committed
from indexer.ingest.writer.commits.operations import (
    ChangeSettings,
    Conditions,
    Deleted,
    PutResult,
    PutRow,
)
from indexer.ingest.writer.uploads.upload import upload_of
from retrieval.domain.languages import LANGUAGES, NO_LANGUAGE
from retrieval.domain.resource_names import DocumentName, parse_collection
from retrieval.errors import InvalidArgument, RetrievalError
from retrieval.indexer_v1 import ingest_service_pb2 as pb
from retrieval.indexer_v1.ingest_service_pb2_grpc import IngestServiceServicer
from retrieval.service.grpc_api.messages import collection_message
from retrieval.service.grpc_api.status import abort, hides_message
from retrieval.service.observability.observer import REQUEST_ID
from retrieval.service.observability.request_log import one_line, request_id
from retrieval.store.filters.language import parse_filter

LOG = logging.getLogger("retrieval.ingest")

_CHANGES = {
    "created": pb.CHANGE_CREATED,
    "updated": pb.CHANGE_UPDATED,
    "unchanged": pb.CHANGE_UNCHANGED,
}
_INDEX_TYPES = ("auto", "flat", "ivf", "hnsw")

_Context = ServicerContext[Any, Any]
Request = TypeVar("Request")
Response = TypeVar("Response")
_P = ParamSpec("_P")


def _answered(
    method: "Callable[[WriterServicer, Request], Awaitable[Response]]",
) -> "Callable[[WriterServicer, Request, _Context], Awaitable[Response]]":
    """End a call with the status of the error that the method raises."""

    @wraps(method)
    async def call(self: "WriterServicer", request: Request, context: _Context) -> Response:
        for key, value in context.invocation_metadata() or ():
            if key == REQUEST_ID and isinstance(value, str):
                request_id.set(value)  # for log lines
        try:
            return await method(self, request)
        except RetrievalError as error:
            if type(error) is RetrievalError:
                LOG.exception("%s failed", method.__name__)
            elif hides_message(error):
                LOG.warning("%s failed: %s: %s", method.__name__, error.reason, error.message)
            await abort(context, error)
        except Exception as error:
            LOG.exception("%s failed", method.__name__)
            await abort(context, error)

    return call


class WriterServicer(IngestServiceServicer):
    """Answers what the server forwards; each answer comes after its commit."""

    def __init__(self, collections: WritableCollections, max_document_bytes: int) -> None:
        """Answer with these.

        Args:
            collections: the collections.
            max_document_bytes: limits the content of a document.
        """
        self._collections = collections
        self._max_document_bytes = max_document_bytes

    @_answered
    async def PutDocument(self, request: pb.PutDocumentRequest) -> pb.PutDocumentResponse:
        """See ``IngestService``."""
        name = parse_collection(request.collection, field="collection")
        upload = upload_of(request)
        if upload.size > self._max_document_bytes:
            raise InvalidArgument(
                f"the document has {upload.size} bytes; it may have {self._max_document_bytes}",
                field="content",
            )
        collection = await self._collections.get(name)
        conditions = Conditions(request.if_absent, request.if_sha256)
        return _put_response(name, await collection.put(upload, conditions))

    async def PutDocuments(
        self, _requests: AsyncIterator[pb.PutDocumentsRequest], context: _Context
    ) -> AsyncIterator[pb.PutDocumentsResponse]:
        """Refuse: the server puts the documents of a stream one by one."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "put documents one by one")
        yield pb.PutDocumentsResponse()

    @_answered
    async def DeleteDocument(self, request: pb.DeleteDocumentRequest) -> pb.DeleteDocumentResponse:
        """See ``IngestService``."""
        name = parse_collection(request.collection, field="collection")
        collection = await self._collections.get(name)
        done = await collection.delete(request.uri, Conditions(if_sha256=request.if_sha256))
        return pb.DeleteDocumentResponse(
            uris=_result(done, Deleted).uris, generation=done.generation
        )

    @_answered
    async def DeleteDocuments(
        self, request: pb.DeleteDocumentsRequest
    ) -> pb.DeleteDocumentsResponse:
        """See ``IngestService``."""
        name = parse_collection(request.collection, field="collection")
        condition = request.WhichOneof("condition")
        if condition is None or not getattr(request, condition):
            raise InvalidArgument("give uri_prefix or filter, not empty", field="condition")
        filter = parse_filter(request.filter) if condition == "filter" else None
        collection = await self._collections.get(name)
        done = await collection.delete_matching(request.uri_prefix, filter, dry_run=request.dry_run)
        deleted = _result(done, Deleted)
        return pb.DeleteDocumentsResponse(
            document_count=deleted.count,
            uris=deleted.uris,
            foreign_count=deleted.foreign,
            generation=done.generation,
        )

    @_answered
    async def CreateCollection(
        self, request: pb.CreateCollectionRequest
    ) -> pb.CreateCollectionResponse:
        """See ``IngestService``."""
        new = NewCollection(
            request.collection_id,
            request.model,
            request.chunk_tokens if request.HasField("chunk_tokens") else None,
            request.chunk_overlap if request.HasField("chunk_overlap") else None,
            _settings(request.settings),
        )
        info = await self._collections.create(new)
        return pb.CreateCollectionResponse(
            collection=collection_message(request.collection_id, info)
        )

    @_answered
    async def UpdateCollection(
        self, request: pb.UpdateCollectionRequest
    ) -> pb.UpdateCollectionResponse:
        """See ``IngestService``."""
        name = parse_collection(request.collection, field="collection")
        settings = _settings(request.settings)
        collection = await self._collections.get(name)
        info = await collection.change(settings)
        return pb.UpdateCollectionResponse(collection=collection_message(name, info))

    @_answered
    async def DeleteCollection(
        self, request: pb.DeleteCollectionRequest
    ) -> pb.DeleteCollectionResponse:
        """See ``IngestService``."""
        if not request.collection:
            raise InvalidArgument("collection is empty: name the one to delete", field="collection")
        await self._collections.delete(parse_collection(request.collection, field="collection"))
        return pb.DeleteCollectionResponse()


def _result(done: Committed, kind: type[Response]) -> Response:
    """Return the result of an operation as what it is."""
    if not isinstance(done.result, kind):
        raise TypeError(f"an operation returned {type(done.result)}")
    return done.result


def _put_response(collection: str, done: Committed) -> pb.PutDocumentResponse:
    result = _result(done, PutResult)
    return pb.PutDocumentResponse(
        documents=[_put_message(collection, row) for row in result.documents],
        skipped=[
            pb.SkippedPart(uri=_valid(skip.uri), reason=skip.reason, detail=one_line(skip.detail))
            for skip in result.skipped
        ],
        generation=done.generation,
        token_count=done.tokens,
    )


def _valid(text: str) -> str:
    """Return a text without lone surrogates, which names in archives may have."""
    return text.encode("utf-8", "replace").decode()


def _put_message(collection: str, row: PutRow) -> pb.PutDocument:
    return pb.PutDocument(
        name=str(DocumentName(collection, row.document_id)),
        uri=row.uri,
        change=_CHANGES[row.change],
        title=row.title,
        format=row.format,
        encoding=row.encoding,
        passage_count=row.passages,
        truncated_count=row.truncated,
        unread=row.unread,
        sha256=row.sha256,
    )


def _settings(message: pb.CollectionSettings) -> ChangeSettings:
    """Return the settings of a message.

    Raises:
        InvalidArgument: a value is out of range.
    """
    language = message.language
    if language and language not in (*LANGUAGES, NO_LANGUAGE):
        raise InvalidArgument(
            f"language is {language[:40]!r}; it must be one of "
            f"{', '.join((*LANGUAGES, NO_LANGUAGE))}",
            field="settings.language",
        )
    if message.index_type and message.index_type not in _INDEX_TYPES:
        raise InvalidArgument(
            f"index_type is {message.index_type[:40]!r}; it must be one of "
            f"{', '.join(_INDEX_TYPES)}",
            field="settings.index_type",
        )
    if not 0 <= message.target_recall <= 1:  # refuses NaN too
        raise InvalidArgument(
            f"target_recall is {message.target_recall}; it must be above 0 and at most 1",
            field="settings.target_recall",
        )
    return ChangeSettings(language, message.index_type, message.target_recall)
