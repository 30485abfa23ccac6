"""One put from its message to its answer: checked, counted, put into order, handed over."""

from contextlib import ExitStack

from indexer.ingest.front.forwarding import forward
from indexer.ingest.front.handed_over import HandedOver
from indexer.ingest.front.limits.media_types import AllowedTypes
from indexer.ingest.front.limits.pending import Pending
from indexer.ingest.front.limits.quotas import Quotas, Reservation
from indexer.ingest.front.limits.uris import check_uri
from indexer.ingest.front.metrics import IngestMetrics
from indexer.ingest.front.process.supervisor import Writer
from indexer.ingest.front.received import ReceivedPut
from indexer.ingest.front.turns import Turns
from indexer.ingest.writer.settings import MAX_REQUEST_OVERHEAD
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
        self, caller: Caller, put: ReceivedPut, pending: Pending, *, patient: bool
    ) -> pb.PutDocumentResponse:
        """Put a document. Puts of one URI take effect in the order of the calls.

        Args:
            caller: who puts it.
            put: the document.
            pending: counts it until it is written.
            patient: whether to wait for room there.

        Returns:
            the answer, once the document is committed, and visible if that was asked for.

        Raises:
            RetrievalError: see the contract.
        """
        # Until the turn is taken nothing may be awaited: it would change the order.
        request = put.request
        collection = parse_collection(request.collection, field="collection")
        self._collections.check(collection, caller)
        try:
            self._check(put)
            message_size = len(put.raw)
            with ExitStack() as undo:
                reservation = self._quotas.reserve(caller, put.content_bytes)
                undo.callback(reservation.give_up)
                turn = self._turns.take((collection, request.uri))
                undo.callback(turn.end)
                if patient:
                    await pending.wait(message_size)
                else:
                    pending.enter(message_size)
                undo.callback(pending.leave, message_size)
                await turn.comes()
                work = self._hand_over(collection, caller, put.raw, reservation, undo.pop_all())
            response = await self._handed_over.finish(work)
        except RetrievalError:
            self._metrics.failed(collection)
            raise
        if request.wait_for_visibility:
            await self._refresher.shown(collection, response.generation)
        return response

    def _check(self, put: ReceivedPut) -> None:
        """Refuse a document that the server doesn't take."""
        check_uri(put.request.uri)
        kind = put.request.WhichOneof("content")
        if kind is None:
            raise InvalidArgument(
                "the document has no content: give data, text or passages", field="content"
            )
        if put.content_bytes > self._most:
            raise InvalidArgument(
                f"the document has {put.content_bytes} bytes; this server takes at most "
                f"{self._most}",
                field=kind,
            )
        beside = len(put.raw) - put.content_bytes
        if beside > MAX_REQUEST_OVERHEAD:
            raise InvalidArgument(
                f"the document has {beside} bytes beside its content; it may have "
                f"{MAX_REQUEST_OVERHEAD} of names and metadata"
            )
        self._allowed.check(put.request)

    async def _hand_over(
        self,
        collection: str,
        caller: Caller,
        raw: bytes,
        reservation: Reservation,
        undo: ExitStack,
    ) -> pb.PutDocumentResponse:
        """Have the writer process put a document, and count what became of it."""
        with undo:
            response = await forward(self._writer.put_document, raw, caller)
            reservation.settle(len(response.documents))
            self._metrics.put(collection, response, reservation.size)
            self._refresher.committed(collection, response.generation)
            return response
