"""A gRPC server whose ``IngestService`` writes into a dictionary, and fails as a test wants.

It does what the contract says about order, conditions and repetition. The tests of
``indexer.ingest`` run the client against the real service.
"""

import hashlib
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from retrieval.indexer_v1 import ingest_service_pb2 as pb
from retrieval.indexer_v1 import ingest_service_pb2_grpc as pb_grpc
from retrieval.v1 import collection_pb2

Refusal = tuple[grpc.StatusCode, str]
"""A status and a reason."""


class DictionaryService(pb_grpc.IngestServiceServicer):
    """Documents by URI."""

    def __init__(self) -> None:
        self.documents: dict[str, pb.PutDocumentRequest] = {}
        self.log: list[tuple[str, str]] = []
        """(URI, text) of every put that took effect, in order."""
        self.requests: list[Any] = []
        """All unary requests."""
        self.generation = 0
        self.streams = 0
        self.fail_unary: deque[Refusal] = deque()
        """How the next unary calls end."""
        self.fail_puts: dict[str, deque[Refusal]] = {}
        """By URI: how the next puts of a stream end."""
        self.cut_after: deque[int] = deque()
        """For the next streams: the number of puts after which each is cut."""
        self.cut_before_answer = True
        """Whether the put at which a stream is cut takes effect without an answer."""
        self.refuse_streams: grpc.StatusCode | None = None
        self.refuse_streams_after_cut: grpc.StatusCode | None = None
        self.hold = threading.Event()
        """Answers of streams wait for it."""
        self.hold.set()
        self._lock = threading.Lock()

    def PutDocument(
        self, request: pb.PutDocumentRequest, context: grpc.ServicerContext
    ) -> pb.PutDocumentResponse:
        self._unary(request, context)
        refusal, response = self._put(request)
        if refusal is not None:
            _abort(context, *refusal)
        return response

    def PutDocuments(
        self, request_iterator: Iterable[pb.PutDocumentsRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.PutDocumentsResponse]:
        self.streams += 1
        if self.refuse_streams is not None:
            context.abort(self.refuse_streams, "not you")
        cut = self.cut_after.popleft() if self.cut_after else None
        answered = 0
        waiting: deque[pb.PutDocumentsRequest] = deque()
        for message in request_iterator:
            waiting.append(message)
            if not self.hold.is_set():
                continue
            while waiting:
                one = waiting.popleft()
                if cut is not None and answered >= cut:
                    if self.cut_before_answer:
                        self._put(one.document)
                    self.refuse_streams = self.refuse_streams_after_cut
                    context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
                yield self._answer(one)
                answered += 1
        while waiting:
            yield self._answer(waiting.popleft())

    def _answer(self, message: pb.PutDocumentsRequest) -> pb.PutDocumentsResponse:
        refusals = self.fail_puts.get(message.document.uri)
        refusal = refusals.popleft() if refusals else None
        if refusal is None:
            refusal, response = self._put(message.document)
        if refusal is not None:
            error = pb.PutError(
                code=refusal[0].value[0],
                message=f"no: {message.document.uri}",
                reason=refusal[1],
                metadata={"status": "x", "uri": message.document.uri},
            )
            return pb.PutDocumentsResponse(request_id=message.request_id, error=error)
        return pb.PutDocumentsResponse(request_id=message.request_id, response=response)

    def DeleteDocument(
        self, request: pb.DeleteDocumentRequest, context: grpc.ServicerContext
    ) -> pb.DeleteDocumentResponse:
        self._unary(request, context)
        if request.collection != "collections/default":
            _abort(context, grpc.StatusCode.NOT_FOUND, "NOT_FOUND", collection="x")
        if self.documents.pop(request.uri, None) is None:
            _abort(context, grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
        self.generation += 1
        return pb.DeleteDocumentResponse(uris=[request.uri], generation=self.generation)

    def DeleteDocuments(
        self, request: pb.DeleteDocumentsRequest, context: grpc.ServicerContext
    ) -> pb.DeleteDocumentsResponse:
        self._unary(request, context)
        uris = sorted(uri for uri in self.documents if uri.startswith(request.uri_prefix))
        for uri in () if request.dry_run else uris:
            del self.documents[uri]
        return pb.DeleteDocumentsResponse(
            document_count=len(uris), uris=uris[:1000], foreign_count=2, generation=7
        )

    def CreateCollection(
        self, request: pb.CreateCollectionRequest, context: grpc.ServicerContext
    ) -> pb.CreateCollectionResponse:
        self._unary(request, context)
        name = f"collections/{request.collection_id}"
        return pb.CreateCollectionResponse(collection=collection_pb2.Collection(name=name))

    def UpdateCollection(
        self, request: pb.UpdateCollectionRequest, context: grpc.ServicerContext
    ) -> pb.UpdateCollectionResponse:
        self._unary(request, context)
        collection = collection_pb2.Collection(name=request.collection)
        return pb.UpdateCollectionResponse(collection=collection)

    def DeleteCollection(
        self, request: pb.DeleteCollectionRequest, context: grpc.ServicerContext
    ) -> pb.DeleteCollectionResponse:
        self._unary(request, context)
        return pb.DeleteCollectionResponse()

    def _unary(self, request: Any, context: grpc.ServicerContext) -> None:
        self.requests.append(request)
        if self.fail_unary:
            _abort(context, *self.fail_unary.popleft())

    def _put(self, request: pb.PutDocumentRequest) -> tuple[Refusal | None, pb.PutDocumentResponse]:
        with self._lock:
            before = self.documents.get(request.uri)
            if before is not None and request.if_absent:
                return (grpc.StatusCode.ALREADY_EXISTS, "ALREADY_EXISTS"), pb.PutDocumentResponse()
            if request.if_sha256 and (before is None or _sha256(before) != request.if_sha256):
                return (grpc.StatusCode.ABORTED, "CONFLICT"), pb.PutDocumentResponse()
            change = pb.CHANGE_CREATED if before is None else pb.CHANGE_UPDATED
            if before is not None and _sha256(before) == _sha256(request):
                change = pb.CHANGE_UNCHANGED
            else:
                self.generation += 1
            self.documents[request.uri] = request
            self.log.append((request.uri, request.text))
            document = pb.PutDocument(
                name=f"{request.collection}/documents/1",
                uri=request.uri,
                change=change,
                title=request.title or request.uri,
                format="text",
                encoding="utf-8",
                passage_count=1,
                sha256=_sha256(request),
            )
            return None, pb.PutDocumentResponse(
                documents=[document], generation=self.generation, token_count=3
            )


def _sha256(request: pb.PutDocumentRequest) -> str:
    bare = pb.PutDocumentRequest()
    bare.CopyFrom(request)
    for field in ("modify_time", "if_absent", "if_sha256", "wait_for_visibility"):
        bare.ClearField(field)  # type: ignore[arg-type]
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest()


def _abort(
    context: grpc.ServicerContext, code: grpc.StatusCode, reason: str, **metadata: str
) -> None:
    if not reason:
        context.abort(code, "no")
    status = status_pb2.Status(code=code.value[0], message=f"no: {reason}")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, metadata=metadata))
    context.abort_with_status(rpc_status.to_status(status))


class DictionaryServer:
    """A server with the service on a port that stays the same over restarts."""

    def __init__(self, service: DictionaryService) -> None:
        self.service = service
        self.port = 0
        self.start()

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        options = [("grpc.max_receive_message_length", -1)]
        self._server = grpc.server(ThreadPoolExecutor(8), options=options)
        pb_grpc.add_IngestServiceServicer_to_server(self.service, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def stop(self) -> None:
        self.service.hold.set()
        self._server.stop(None).wait()


@contextmanager
def dictionary_server() -> Iterator[DictionaryServer]:
    """A running server, stopped at the end of the block."""
    server = DictionaryServer(DictionaryService())
    try:
        yield server
    finally:
        server.stop()
