"""What is measured: an index right here, or a collection of a server."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from retrieval.domain.resource_names import parse_document
from retrieval.eval.measure import Found, Search
from retrieval.eval.sets.matching import IndexedDocument

if TYPE_CHECKING:
    from retrieval.client import RetrievalClient
    from retrieval.store import IndexReader

_DOCUMENTS_AT_ONCE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Searched:
    """What is measured."""

    where: str
    """What it is called in a report."""
    model: str
    """Name of its model."""
    document_count: int
    documents: Iterator[IndexedDocument]
    """All of its documents; can be read once."""
    search: Search


@contextmanager
def search_index(
    index: Path, *, device: str, reranker: str | None, options: Mapping[str, Any]
) -> Iterator[Searched]:
    """Open an index to measure it.

    Args:
        index: its folder.
        device: see ``open_local``.
        reranker: see ``open_local``; not loaded if no query is reranked.
        options: of a ranking, as ``Query`` has them.

    Raises:
        NotAnIndex, IndexDamaged, IndexVersionError: the index can't be read.
        ModelNotFound, CheckpointError: the reranker can't be used.
    """
    from retrieval.local import open_local
    from retrieval.search import Query
    from retrieval.store import search_on_one_core

    search_on_one_core()  # as a server does, so that times compare
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
        yield Searched(
            f"index {index.resolve()}",
            info.model.name,
            info.documents,
            _documents_here(local.reader),
            search,
        )


@contextmanager
def search_server(
    client: "RetrievalClient", target: str, collection: str, options: Mapping[str, Any]
) -> Iterator[Searched]:
    """Ask a server for a collection to measure it.

    Args:
        client: connected to the server, for as long as the collection is measured.
        target: the server's address.
        collection: its own name.
        options: of a ranking, as ``RetrievalClient.search`` has them.

    Raises:
        ServiceError: the server refuses to tell what the collection is.
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
    yield Searched(
        f"collection {collection} of {target}",
        info.model.name,
        info.document_count,
        _documents_there(client, collection),
        search,
    )


def _documents_here(reader: "IndexReader") -> Iterator[IndexedDocument]:
    after = ""
    while rows := reader.documents(_DOCUMENTS_AT_ONCE, after):
        for row in rows:
            yield IndexedDocument(row.id, row.uri, row.title, row.metadata)
        after = rows[-1].uri


def _documents_there(client: "RetrievalClient", collection: str) -> Iterator[IndexedDocument]:
    for document in client.documents(collection):
        identifier = parse_document(document.name, field="name").document_id
        yield IndexedDocument(identifier, document.uri, document.title, document.metadata)
