"""The systems whose search is measured: an index in this process, or a collection on a server."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from retrieval.domain.resource_names import parse_document
from retrieval.eval.measure import Found, Search
from retrieval.eval.sets.matching import IndexedDocument

if TYPE_CHECKING:
    from retrieval.client import RetrievalClient
    from retrieval.store import LocationLike, Reader

_DOCUMENTS_AT_ONCE: Final = 1_000
"""Documents read from an index at a time: about a megabyte of names and metadata."""


@dataclass(frozen=True, slots=True)
class System:
    """A search that can be measured, and the documents that it searches."""

    where: str
    """Name of the system in a report."""
    model: str
    """Name of its model."""
    document_count: int
    documents: Iterator[IndexedDocument]
    """All of its documents; the iterator can be read once."""
    search: Search


@contextmanager
def search_index(
    index: "LocationLike", *, device: str, reranker: str | None, options: Mapping[str, Any]
) -> Iterator[System]:
    """Open an index to measure its search.

    Args:
        index: the index's folder.
        device: see ``open_local``.
        reranker: see ``open_local``; it is loaded only if queries are reranked.
        options: ranking options, as keywords of ``Query``.

    Raises:
        NotAnIndex, IndexDamaged, IndexVersionError: the index can't be read.
        ModelNotFound, CheckpointError: the reranker can't be used.
    """
    from retrieval.local import open_local
    from retrieval.search import Query
    from retrieval.store import Location, search_on_one_core

    search_on_one_core()  # as a server does, so that the times are comparable
    needed = reranker if options.get("rerank_top") else None
    with open_local(index, device=device, reranker=needed) as local:

        def search(text: str, k: int, *, by_document: bool) -> Found:
            query = Query(text=text, k=k, group_by_document=by_document, **options)
            result = local.search(query)
            return Found(
                result.passages,
                result.mode,
                result.generation,
                result.query_truncated,
                result.rerank_truncated,
            )

        info = local.reader.info
        yield System(
            f"index {Location.parse(index).absolute()}",
            info.model.name,
            info.documents,
            _documents_here(local.reader),
            search,
        )


@contextmanager
def search_server(
    client: "RetrievalClient", target: str, collection: str, options: Mapping[str, Any]
) -> Iterator[System]:
    """Ask a server about a collection to measure its search.

    Args:
        client: stays connected to the server while the collection is measured.
        target: the server's address.
        collection: the collection's own name.
        options: ranking options, as keywords of ``RetrievalClient.search``.

    Raises:
        ServiceError: the server refuses to describe the collection.
    """

    def search(text: str, k: int, *, by_document: bool) -> Found:
        results = client.search(
            text, k=k, group_by_document=by_document, collection=collection, **options
        )
        return Found(
            results.passages,
            results.mode,
            results.generation,
            results.query_truncated,
            results.rerank_truncated_count,
        )

    info = client.collection(collection)
    yield System(
        f"collection {collection} of {target}",
        info.model.name,
        info.document_count,
        _documents_there(client, collection),
        search,
    )


def _documents_here(reader: "Reader") -> Iterator[IndexedDocument]:
    after = ""
    while rows := reader.documents(_DOCUMENTS_AT_ONCE, after):
        for row in rows:
            yield IndexedDocument(row.id, row.uri, row.title, row.metadata)
        after = rows[-1].uri


def _documents_there(client: "RetrievalClient", collection: str) -> Iterator[IndexedDocument]:
    for document in client.documents(collection):
        identifier = parse_document(document.name, field="name").document_id
        yield IndexedDocument(identifier, document.uri, document.title, document.metadata)
