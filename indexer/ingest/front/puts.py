"""One put from its message to its answer: checked, counted, put into order, handed over."""

from contextlib import ExitStack

from indexer.ingest.front.forwarding import forward
from indexer.ingest.front.handed_over import HandedOver
from indexer.ingest.front.limits.media_types import AllowedTypes
from indexer.ingest.front.limits.pending import Pending
from indexer.ingest.front.limits.quotas import Quotas, Reservation
from indexer.ingest.front.limits.uris import check_uri
from indexer.ingest.front.metrics import IngestMetrics
from indexer.ingest.front.supervisor import Writer
from indexer.ingest.front.turns import Turns
from retrieval.domain.resource_names import parse_collection
from retrieval.errors import InvalidArgument, RetrievalError
from retrieval.indexer_v1 import ingest_service_pb2 as pb
from retrieval.service.access.callers import Caller
from retrieval.service.collections.open_collections import Collections
from retrieval.service.collections.refresher import Refresher


class Puts:
    """Puts documents of all requests; belongs to the event loop."""

    def __init__(
        self,
        writer: Writer,
        collections: Collections,
        refresher: Refresher,
        *,
        quotas: Quotas,
        metrics: IngestMetrics,
        handed_over: HandedOver,
        turns: Turns,
        max_document_bytes: int,
        allowed: AllowedTypes,
    ) -> None:
        """Share these between all requests.

        Args:
            writer: does the work.
            collections: say which there are, and who may see them.
            refresher: shows what was committed.
            quotas: count what tokens put.
            metrics: count what is put.
            handed_over: finishes what was begun.
            turns: of all operations on a URI.
            max_document_bytes: limits the content of a document.
            allowed: the media types that are taken.
        """
        self._writer = writer
        self._collections = collections
        self._refresher = refresher
        self._quotas = quotas
        self._metrics = metrics
        self._turns = turns
        self._most = max_document_bytes
        self._allowed = allowed
        self._handed_over = handed_over

    async def put(
        self, caller: Caller, request: pb.PutDocumentRequest, pending: Pending, *, patient: bool
    ) -> pb.PutDocumentResponse:
        """Put a document. Puts of one URI take effect in the order of the calls.

        Args:
            caller: who puts it.
            request: the document.
            pending: counts it until it is written.
            patient: whether to wait for room there.

        Returns:
            the answer, once the document is committed, and visible if that was asked for.

        Raises:
            RetrievalError: see the contract.
        """
        # Until the turn is taken nothing may be awaited: it would change the order.
        collection = parse_collection(request.collection, field="collection")
        self._collections.check(collection, caller)
        try:
            size = self._check(request)
            message_size = request.ByteSize()
            with ExitStack() as undo:
                reservation = self._quotas.reserve(caller, size)
                undo.callback(reservation.give_up)
                turn = self._turns.take((collection, request.uri))
                undo.callback(turn.end)
                if patient:
                    await pending.wait(message_size)
                else:
                    pending.enter(message_size)
                undo.callback(pending.leave, message_size)
                await turn.comes()
                work = self._hand_over(collection, caller, request, reservation, undo.pop_all())
            response = await self._handed_over.finish(work)
        except RetrievalError:
            self._metrics.failed(collection)
            raise
        if request.wait_for_visibility:
            await self._refresher.shown(collection, response.generation)
        return response

    def _check(self, request: pb.PutDocumentRequest) -> int:
        """Refuse a document that the server doesn't take; return the bytes of its content."""
        check_uri(request.uri)
        size = content_bytes(request)
        if size > self._most:
            raise InvalidArgument(
                f"the document has {size} bytes; this server takes at most {self._most}",
                field=request.WhichOneof("content") or "content",
            )
        self._allowed.check(request)
        return size

    async def _hand_over(
        self,
        collection: str,
        caller: Caller,
        request: pb.PutDocumentRequest,
        reservation: Reservation,
        undo: ExitStack,
    ) -> pb.PutDocumentResponse:
        """Have the writer process put a document, and count what became of it."""
        with undo:
            response = await forward(self._writer.stub.PutDocument, request, caller)
            reservation.settle(len(response.documents))
            self._metrics.put(collection, response, reservation.size)
            self._refresher.committed(collection, response.generation)
            return response


def content_bytes(request: pb.PutDocumentRequest) -> int:
    """Return the bytes of a document's content, without its names and metadata.

    Raises:
        InvalidArgument: it has none.
    """
    kind = request.WhichOneof("content")
    if kind is None:
        raise InvalidArgument("the document has no content: give data, text or passages")
    if kind == "data":
        return len(request.data)
    if kind == "text":
        return len(request.text) if request.text.isascii() else len(request.text.encode())
    return request.passages.ByteSize()
