"""Metrics of what clients put and delete, beside those of the server."""

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from retrieval.indexer_v1 import ingest_service_pb2 as pb

FAILED: Final = "failed"
_OUTCOMES: Final = {
    pb.CHANGE_CREATED: "created",
    pb.CHANGE_UPDATED: "updated",
    pb.CHANGE_UNCHANGED: "unchanged",
}


class IngestMetrics:
    """Counts documents and bytes; names and labels are documented in ``docs/serving.md``."""

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        pending_documents: Callable[[], float],
        pending_bytes: Callable[[], float],
        writer_starts: Callable[[], float],
        writer_hangs: Callable[[], float],
    ) -> None:
        """Start at zero.

        Args:
            registry: shows them with the server's own.
            pending_documents: returns the documents that wait to be written.
            pending_bytes: returns their bytes.
            writer_starts: returns how often the writer process was started.
            writer_hangs: returns how often it was killed because it gave no answer.
        """
        self._put = Counter(
            "retrieval_put_documents",
            "Documents that clients put, by what became of them.",
            ["collection", "outcome"],
            registry=registry,
        )
        self._bytes = Counter(
            "retrieval_put_bytes",
            "Bytes of documents that clients put and that are committed.",
            ["collection"],
            registry=registry,
        )
        self._deleted = Counter(
            "retrieval_deleted_documents",
            "Documents that clients deleted.",
            ["collection"],
            registry=registry,
        )
        for name, help_, function in (
            ("pending_documents", "Documents that wait to be written.", pending_documents),
            ("pending_bytes", "Bytes of documents that wait to be written.", pending_bytes),
            ("writer_starts", "How often the writing process was started.", writer_starts),
            ("writer_hangs", "How often the writing process hung and was killed.", writer_hangs),
        ):
            Gauge(f"retrieval_{name}", help_, registry=registry).set_function(function)

    def put(self, collection: str, response: pb.PutDocumentResponse, size: int) -> None:
        """Count a put that is committed."""
        for document in response.documents:
            self._put.labels(collection, _OUTCOMES.get(document.change, "unchanged")).inc()
        self._bytes.labels(collection).inc(size)

    def failed(self, collection: str) -> None:
        """Count a put that was refused or has failed."""
        self._put.labels(collection, FAILED).inc()

    def deleted(self, collection: str, documents: int) -> None:
        """Count documents that were deleted."""
        self._deleted.labels(collection).inc(documents)
