"""The blocking client: one method for each remote procedure, with typed results."""

import copy
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack

from grpc_health.v1.health_pb2_grpc import HealthStub

from retrieval.client.connection import Connection, Tls
from retrieval.client.filters import FilterLike
from retrieval.client.requests import (
    QueryLike,
    Range,
    batch_search_request,
    count_requests,
    document_request,
    documents_request,
    embed_requests,
    field_values_request,
    fields_request,
    health_request,
    passage_request,
    rerank_request,
    resource_name,
    search_request,
    skipped_request,
    stream_search_request,
)
from retrieval.client.results import (
    CollectionInfo,
    DocumentInfo,
    Embeddings,
    PassageContext,
    PassageStream,
    RerankResults,
    SearchResults,
    ServedModels,
    ServerInfo,
    SkippedFile,
    check_obeyed,
    counts_from,
    field_values_from,
    fields_from,
    is_serving,
    mode_name,
    passage_from,
)
from retrieval.client.writing.blocking import WritingMethods
from retrieval.domain.records import DocumentCounts, FieldInfo, FieldValue, TextKind
from retrieval.domain.resource_names import DEFAULT_COLLECTION
from retrieval.domain.search_options import SearchOptions
from retrieval.indexer_v1.ingest_service_pb2_grpc import IngestServiceStub
from retrieval.v1 import embedding_service_pb2 as embedding_pb
from retrieval.v1 import index_service_pb2 as index_pb
from retrieval.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from retrieval.v1.index_service_pb2_grpc import IndexServiceStub
from retrieval.v1.rerank_service_pb2_grpc import RerankServiceStub
from retrieval.v1.search_service_pb2_grpc import SearchServiceStub

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DEFAULT_TARGET = "127.0.0.1:50051"
DEFAULT_TIMEOUT = 30.0
"""Seconds; a search takes milliseconds, but a long text can take seconds to embed on a CPU."""

ITEMS_PER_PAGE = 500
"""Size of the pages in which lists are read: few round trips, and messages of about 200 kB."""

DEFAULT_VALUES = 50
"""Values of a field, as on the wire: more than a person chooses from."""


class RetrievalClient(WritingMethods):
    """A connection to a server; a context manager, safe to share between threads.

    All methods raise ``InvalidArgument`` for an unknown option or a value that can't be sent,
    ``ServiceUnavailable`` if no server answers, ``ServiceError`` if it answers with an error, and
    ``ClientClosed`` after ``close``.
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        tls: Tls | None = None,
        token: str = "",
    ) -> None:
        """Prepare to connect; the first request connects.

        Args:
            target: the server's address, ``HOST:PORT``.
            timeout: limits one request, retries included, in seconds.
            tls: how to encrypt the connection: ``Tls()`` if the system trusts the server's
                certificate, None for no encryption.
            token: access token; empty for none.

        Raises:
            InvalidArgument: a target that is not ``HOST:PORT``, a timeout that is not above 0, a
                token without TLS to another machine, or certificates that can't be used.
        """
        self._connection = Connection(target, timeout=timeout, tls=tls, token=token)
        self._search = SearchServiceStub(self._connection.channel)
        self._embedding = EmbeddingServiceStub(self._connection.channel)
        self._rerank = RerankServiceStub(self._connection.channel)
        self._index = IndexServiceStub(self._connection.channel)
        self._ingest = IngestServiceStub(self._connection.channel)
        self._health = HealthStub(self._connection.channel)

    def __enter__(self) -> Self:
        self._connection.check_open()
        return self

    def with_options(
        self,
        *,
        timeout: float | None = None,
        token: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Self:
        """Return a client with other options that shares this one's connection.

        For a single call: ``client.with_options(timeout=2).search("bread")``. Closing one of the
        clients closes the connection of both.

        Args:
            timeout: limits one request, retries included, in seconds; None as before. Puts have a
                timeout of their own.
            token: access token, empty for none; None as before.
            metadata: sent with every request, such as ``x-request-id``, which is in the server's
                log, or ``traceparent``; None as before.

        Raises:
            InvalidArgument: as the constructor, or metadata that can't be sent.
        """
        other = copy.copy(self)
        other._connection = self._connection.with_options(
            timeout=timeout, token=token, metadata=metadata
        )
        return other

    def __repr__(self) -> str:
        """Return the address, and whether the connection is encrypted and still open."""
        return f"RetrievalClient({self._connection!r})"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; requests in flight fail."""
        self._connection.close()

    def search(
        self,
        query: QueryLike,
        *,
        k: int = 10,
        page_token: str = "",
        **options: Unpack[SearchOptions],
    ) -> SearchResults:
        """Find the passages that fit a query best.

        Args:
            query: a text; a passage, to find similar ones; or a vector [dim].
            k: maximum number of passages.
            page_token: ``next_page_token`` of the last results, for the next page.
            options: ``collection``, ``mode``, ``filter`` and more: see ``SearchOptions``.

        Returns:
            the passages, best first.
        """
        request = search_request(query, k=k, page_token=page_token, **options)
        return SearchResults.from_message(self._connection.call(self._search.Search, request))

    def search_batch(
        self, queries: Iterable[QueryLike], *, k: int = 10, **options: Unpack[SearchOptions]
    ) -> list[SearchResults]:
        """Answer several searches in one request, which is faster than one by one.

        Args:
            queries: each as in ``search``; the server limits their number.
            k: maximum number of passages for each.
            options: as in ``search``.

        Returns:
            results in the queries' order.
        """
        request = batch_search_request(queries, k=k, **options)
        response = self._connection.call(self._search.BatchSearch, request)
        return [SearchResults.from_message(message) for message in response.responses]

    def stream_search(
        self, query: QueryLike, *, limit: int | None = None, **options: Unpack[SearchOptions]
    ) -> PassageStream:
        """Find many passages, which arrive while they are read.

        Args:
            query: as in ``search``.
            limit: maximum number of passages, or of documents with ``group_by_document``; None for
                as many as the server streams.
            options: as in ``search``.

        Returns:
            an iterator over the passages, best first. The timeout limits the whole stream.
        """
        request = stream_search_request(query, limit=limit, **options)
        messages = self._connection.stream(self._search.StreamSearch, request)
        header = next(messages).header
        return PassageStream(
            passages=(passage_from(message.passage) for message in messages),
            generation=header.generation,
            model_fingerprint=header.model_fingerprint,
            query_token_count=header.query_token_count,
            query_truncated=header.query_truncated,
            mode=mode_name(header.mode),
            warnings=tuple(header.warnings),
            rerank_truncated_count=header.rerank_truncated_count,
        )

    def embed(
        self,
        texts: str | Iterable[str],
        kind: TextKind,
        *,
        collection: str | None = None,
        model: str | None = None,
        dimensions: int | None = None,
    ) -> "NDArray[np.float32]":
        """Embed texts with a model; ``embed_detailed`` also tells what was cut off.

        Args:
            texts: one text; or n texts, at least one, also from a generator. Many texts are sent in
                several requests.
            kind: ``"query"`` or ``"passage"``.
            collection: own name of the collection whose model to use. With neither a collection nor
                a model it is that of ``default`` or, without such a collection, the first model
                that the server was started with.
            model: name of a model, in place of a collection; ``models`` lists them.
            dimensions: length of the vectors, if the model was trained for shorter ones; None for
                whole vectors.

        Returns:
            float32 [dim] for one text, [n, dim] for n; L2-normalised. Without numpy, an
            ``array("f")`` for one text and a list of n for n.

        Raises:
            InvalidArgument: an argument can't be sent.
            ServiceError: with ``service_reason`` ``UNKNOWN_MODEL`` if the server has no such model,
                or ``INVALID_ARGUMENT`` if the model has no vectors of that length.
        """
        listed = [texts] if isinstance(texts, str) else texts
        vectors = self.embed_detailed(
            listed, kind, collection=collection, model=model, dimensions=dimensions
        ).vectors
        if isinstance(texts, str):
            one: NDArray[np.float32] = vectors[0]
            return one
        return vectors

    def embed_detailed(
        self,
        texts: Iterable[str],
        kind: TextKind,
        *,
        collection: str | None = None,
        model: str | None = None,
        dimensions: int | None = None,
    ) -> Embeddings:
        """Embed texts as ``embed`` does, and return token counts and what was cut off.

        Pass a single text in a list.
        """
        requests = embed_requests(
            texts, kind, collection=collection, model=model, dimensions=dimensions
        )
        call, method = self._connection.call, self._embedding.BatchEmbed
        return Embeddings.from_messages(
            [check_obeyed(each, call(method, each)) for each in requests]
        )

    def count_tokens(
        self, texts: Iterable[str], *, collection: str | None = None, model: str | None = None
    ) -> list[int]:
        """Count tokens as a model does, without special tokens.

        Args:
            texts: n texts, at least one.
            collection: own name of the collection whose model to use, as for ``embed``.
            model: name of a model, in place of a collection.

        Returns:
            n counts.
        """
        counts: list[int] = []
        call, method = self._connection.call, self._embedding.CountTokens
        for request in count_requests(texts, collection=collection, model=model):
            counts += check_obeyed(request, call(method, request)).token_counts
        return counts

    def models(self) -> ServedModels:
        """Return the models of the server that embed, and its reranker."""
        request = embedding_pb.ListModelsRequest()
        return ServedModels.from_message(self._connection.call(self._embedding.ListModels, request))

    def rerank(
        self, query: str, texts: Iterable[str], *, top_n: int | None = None
    ) -> RerankResults:
        """Order texts of your own by how well they answer a query, with the server's reranker.

        Args:
            query: a text.
            texts: n texts, at least one, and at most ``ServerLimits.max_batch_size``.
            top_n: maximum number of results; None for all.

        Returns:
            the best texts, best first.

        Raises:
            InvalidArgument: an argument can't be sent.
            ServiceError: with ``service_reason`` ``NO_RERANKER`` if the server has none.
        """
        request = rerank_request(query, texts, top_n=top_n)
        return RerankResults.from_message(self._connection.call(self._rerank.Rerank, request))

    def collection(self, collection: str = DEFAULT_COLLECTION) -> CollectionInfo:
        """Return what a collection is and holds, by its own name."""
        request = index_pb.GetCollectionRequest(name=resource_name(collection))
        response = self._connection.call(self._index.GetCollection, request)
        return CollectionInfo.from_message(response.collection)

    def collections(self) -> Iterator[CollectionInfo]:
        """Yield all collections of the server, by name."""
        request = index_pb.ListCollectionsRequest(page_size=ITEMS_PER_PAGE)
        while True:
            response = self._connection.call(self._index.ListCollections, request)
            yield from map(CollectionInfo.from_message, response.collections)
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token

    def documents(
        self, collection: str = DEFAULT_COLLECTION, *, filter: FilterLike = ""
    ) -> Iterator[DocumentInfo]:
        """Yield all documents of a collection, by URI, without their texts.

        If the collection changes meanwhile, documents that stay are yielded once each.

        Args:
            collection: its own name.
            filter: yield only documents that pass it; empty for all.
        """
        request = documents_request(collection, page_size=ITEMS_PER_PAGE, filter=filter)
        while True:
            response = self._connection.call(self._index.ListDocuments, request)
            yield from map(DocumentInfo.from_message, response.documents)
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token

    def skipped_files(self, collection: str = DEFAULT_COLLECTION) -> Iterator[SkippedFile]:
        """Yield the files that are not indexed, by URI, with the reasons."""
        request = skipped_request(collection, page_size=ITEMS_PER_PAGE)
        while True:
            response = self._connection.call(self._index.ListSkippedFiles, request)
            yield from map(SkippedFile.from_message, response.files)
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token

    def fields(self, collection: str = DEFAULT_COLLECTION) -> list[FieldInfo]:
        """Return the fields that a filter can compare."""
        return fields_from(
            self._connection.call(self._index.ListFields, fields_request(collection))
        )

    def field_values(
        self,
        field: str,
        containing: str = "",
        *,
        limit: int = DEFAULT_VALUES,
        collection: str = DEFAULT_COLLECTION,
    ) -> list[FieldValue]:
        """Return values that documents have in a field, the most frequent first.

        Args:
            field: as a filter names it.
            containing: a part of the values, in any case; empty for all.
            limit: maximum number of values.
            collection: its own name.
        """
        request = field_values_request(
            field, containing=containing, limit=limit, collection=collection
        )
        return field_values_from(self._connection.call(self._index.ListFieldValues, request))

    def count_documents(
        self, collection: str = DEFAULT_COLLECTION, *, filter: FilterLike = ""
    ) -> DocumentCounts:
        """Count the documents of a collection that pass a filter, and their passages.

        Args:
            collection: its own name.
            filter: empty for all documents.
        """
        request = documents_request(collection, page_size=1, filter=filter, counted=True)
        return counts_from(self._connection.call(self._index.ListDocuments, request))

    def document(
        self,
        name: str = "",
        *,
        with_text: bool = False,
        uri: str = "",
        collection: str = DEFAULT_COLLECTION,
        chars: Range | None = None,
        lines: Range | None = None,
    ) -> DocumentInfo:
        """Return one document, by its name or by its URI.

        A part of the text has at most ``ServerLimits.max_range_chars`` characters; ``char_end``
        says where it ends, which is where the next part begins.

        Args:
            name: its resource name, ``collections/…/documents/…``.
            with_text: whether to include its whole text.
            uri: its URI, in place of the name.
            collection: own name of the collection that the URI is in.
            chars: include only this part of its text: positions of the first character, from 0, and
                after the last one; None for the end of the text.
            lines: include only these lines of its text: the first, from 1, and the last; None for
                the end of the text.
        """
        request = document_request(
            name, uri=uri, collection=collection, with_text=with_text, chars=chars, lines=lines
        )
        response = self._connection.call(self._index.GetDocument, request)
        return DocumentInfo.from_answer(response, with_text=with_text)

    def passage(self, name: str, *, before: int = 0, after: int = 0) -> PassageContext:
        """Return one passage with its neighbours in the document.

        Args:
            name: its resource name, ``collections/…/documents/…/passages/…``.
            before: number of passages before it.
            after: number of passages after it.
        """
        request = passage_request(name, before=before, after=after)
        return PassageContext.from_message(self._connection.call(self._index.GetPassage, request))

    def reload(self, collection: str = DEFAULT_COLLECTION) -> CollectionInfo:
        """Make the server open the newest generation of a collection, and return what it holds."""
        request = index_pb.ReloadCollectionRequest(name=resource_name(collection))
        response = self._connection.call(self._index.ReloadCollection, request)
        return CollectionInfo.from_message(response.collection)

    def server_info(self) -> ServerInfo:
        """Return the server's version and limits."""
        response = self._connection.call(self._index.GetServerInfo, index_pb.GetServerInfoRequest())
        return ServerInfo.from_message(response.server_info)

    def health(self, collection: str | None = None) -> bool:
        """Return whether the server, or one of its collections, is ready to answer.

        Args:
            collection: its own name; None for the whole server.

        Raises:
            ServiceUnavailable: no server answers.
            ServiceError: with status ``NOT_FOUND`` if there is no such collection.
        """
        request = health_request(collection)
        return is_serving(self._connection.call(self._health.Check, request))
