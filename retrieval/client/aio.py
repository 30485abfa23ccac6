"""The asyncio client: the methods of the blocking client, to be awaited."""

import asyncio
import copy
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

import grpc

from retrieval.client.client import DEFAULT_TARGET, DEFAULT_TIMEOUT, DEFAULT_VALUES, ITEMS_PER_PAGE
from retrieval.client.connection import Endpoint, StreamAttempts, Tls, closed_under_way
from retrieval.client.filters import FilterLike
from retrieval.client.loops import Loops, Stubs
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
from retrieval.client.writing.aio import AsyncWritingMethods
from retrieval.domain.passages import Passage
from retrieval.domain.records import DocumentCounts, FieldInfo, FieldValue, TextKind
from retrieval.domain.resource_names import DEFAULT_COLLECTION
from retrieval.domain.search_options import SearchOptions
from retrieval.v1 import embedding_service_pb2 as embedding_pb
from retrieval.v1 import index_service_pb2 as index_pb

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")


@dataclass(frozen=True, slots=True)
class AsyncPassageStream:
    """Passages as they arrive, best first; can be read once, with ``async for``."""

    passages: AsyncIterator[Passage]
    generation: int
    model_fingerprint: str
    query_token_count: int
    query_truncated: bool
    mode: str
    warnings: tuple[str, ...] = ()
    """See ``SearchResults.warnings``."""
    rerank_truncated_count: int = 0
    """See ``SearchResults.rerank_truncated_count``."""

    def __aiter__(self) -> AsyncIterator[Passage]:
        """Return the passages; reading them raises ``ServiceError`` if the server fails later."""
        return self.passages


class AsyncRetrievalClient(AsyncWritingMethods):
    """A connection to a server; an async context manager.

    Methods, arguments, results and errors are those of ``RetrievalClient``. Cancelling a task that
    waits cancels its request. A client can be made anywhere, and used in several event loops, also
    of several threads: each loop has a connection of its own.
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        tls: Tls | None = None,
        token: str = "",
    ) -> None:
        """Prepare to connect; see ``RetrievalClient``."""
        self._endpoint = Endpoint(target, timeout=timeout, tls=tls, token=token)
        self._loops = Loops(self._endpoint)

    async def __aenter__(self) -> Self:
        self._endpoint.check_open()
        return self

    def with_options(
        self,
        *,
        timeout: float | None = None,
        token: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Self:
        """Return a client with other options that shares this one's connection."""
        other = copy.copy(self)
        other._endpoint = self._endpoint.with_options(
            timeout=timeout, token=token, metadata=metadata
        )
        return other

    def __repr__(self) -> str:
        """Return the address, and whether the connection is encrypted and still open."""
        return f"AsyncRetrievalClient({self._endpoint!r})"

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection, in all event loops; requests in flight fail."""
        await self._loops.close()

    async def search(
        self,
        query: QueryLike,
        *,
        k: int = 10,
        page_token: str = "",
        **options: Unpack[SearchOptions],
    ) -> SearchResults:
        """Find the passages that fit a query best."""
        request = search_request(query, k=k, page_token=page_token, **options)
        return SearchResults.from_message(await self._call(self._stubs.search.Search, request))

    async def search_batch(
        self, queries: Iterable[QueryLike], *, k: int = 10, **options: Unpack[SearchOptions]
    ) -> list[SearchResults]:
        """Answer several searches in one request."""
        request = batch_search_request(queries, k=k, **options)
        response = await self._call(self._stubs.search.BatchSearch, request)
        return [SearchResults.from_message(message) for message in response.responses]

    async def stream_search(
        self, query: QueryLike, *, limit: int | None = None, **options: Unpack[SearchOptions]
    ) -> AsyncPassageStream:
        """Find many passages, which arrive while they are read."""
        request = stream_search_request(query, limit=limit, **options)
        messages = self._stream(self._stubs.search.StreamSearch, request)
        header = (await anext(messages)).header

        async def passages() -> AsyncIterator[Passage]:
            async with aclosing(messages):
                async for message in messages:
                    yield passage_from(message.passage)

        return AsyncPassageStream(
            passages=passages(),
            generation=header.generation,
            model_fingerprint=header.model_fingerprint,
            query_token_count=header.query_token_count,
            query_truncated=header.query_truncated,
            mode=mode_name(header.mode),
            warnings=tuple(header.warnings),
            rerank_truncated_count=header.rerank_truncated_count,
        )

    async def embed(
        self,
        texts: str | Iterable[str],
        kind: TextKind,
        *,
        collection: str | None = None,
        model: str | None = None,
        dimensions: int | None = None,
    ) -> "NDArray[np.float32]":
        """Embed texts with a model: float32 [n, dim], or [dim] for one text."""
        listed = [texts] if isinstance(texts, str) else texts
        made = await self.embed_detailed(
            listed, kind, collection=collection, model=model, dimensions=dimensions
        )
        if isinstance(texts, str):
            one: NDArray[np.float32] = made.vectors[0]
            return one
        return made.vectors

    async def embed_detailed(
        self,
        texts: Iterable[str],
        kind: TextKind,
        *,
        collection: str | None = None,
        model: str | None = None,
        dimensions: int | None = None,
    ) -> Embeddings:
        """Embed texts as ``embed`` does, and return token counts and what was cut off."""
        requests = embed_requests(
            texts, kind, collection=collection, model=model, dimensions=dimensions
        )
        method = self._stubs.embedding.BatchEmbed
        return Embeddings.from_messages(
            [check_obeyed(each, await self._call(method, each)) for each in requests]
        )

    async def count_tokens(
        self, texts: Iterable[str], *, collection: str | None = None, model: str | None = None
    ) -> list[int]:
        """Count tokens as a model does, without special tokens."""
        counts: list[int] = []
        method = self._stubs.embedding.CountTokens
        for request in count_requests(texts, collection=collection, model=model):
            counts += check_obeyed(request, await self._call(method, request)).token_counts
        return counts

    async def models(self) -> ServedModels:
        """Return the models of the server that embed, and its reranker."""
        request = embedding_pb.ListModelsRequest()
        return ServedModels.from_message(
            await self._call(self._stubs.embedding.ListModels, request)
        )

    async def rerank(
        self, query: str, texts: Iterable[str], *, top_n: int | None = None
    ) -> RerankResults:
        """Order texts of your own by how well they answer a query, with the server's reranker."""
        request = rerank_request(query, texts, top_n=top_n)
        return RerankResults.from_message(await self._call(self._stubs.rerank.Rerank, request))

    async def collection(self, collection: str = DEFAULT_COLLECTION) -> CollectionInfo:
        """Return what a collection is and holds, by its own name."""
        request = index_pb.GetCollectionRequest(name=resource_name(collection))
        response = await self._call(self._stubs.index.GetCollection, request)
        return CollectionInfo.from_message(response.collection)

    async def collections(self) -> AsyncIterator[CollectionInfo]:
        """Yield all collections of the server, by name."""
        request = index_pb.ListCollectionsRequest(page_size=ITEMS_PER_PAGE)
        async for response in self._pages(self._stubs.index.ListCollections, request):
            for message in response.collections:
                yield CollectionInfo.from_message(message)

    async def skipped_files(
        self, collection: str = DEFAULT_COLLECTION
    ) -> AsyncIterator[SkippedFile]:
        """Yield the files that are not indexed, by URI, with the reasons."""
        request = skipped_request(collection, page_size=ITEMS_PER_PAGE)
        async for response in self._pages(self._stubs.index.ListSkippedFiles, request):
            for message in response.files:
                yield SkippedFile.from_message(message)

    async def fields(self, collection: str = DEFAULT_COLLECTION) -> list[FieldInfo]:
        """Return the fields that a filter can compare."""
        request = fields_request(collection)
        return fields_from(await self._call(self._stubs.index.ListFields, request))

    async def field_values(
        self,
        field: str,
        containing: str = "",
        *,
        limit: int = DEFAULT_VALUES,
        collection: str = DEFAULT_COLLECTION,
    ) -> list[FieldValue]:
        """Return values of a field, the most frequent first; see ``RetrievalClient``."""
        request = field_values_request(
            field, containing=containing, limit=limit, collection=collection
        )
        return field_values_from(await self._call(self._stubs.index.ListFieldValues, request))

    async def documents(
        self, collection: str = DEFAULT_COLLECTION, *, filter: FilterLike = ""
    ) -> AsyncIterator[DocumentInfo]:
        """Yield the documents of a collection that pass a filter, by URI, without their texts."""
        request = documents_request(collection, page_size=ITEMS_PER_PAGE, filter=filter)
        async for response in self._pages(self._stubs.index.ListDocuments, request):
            for message in response.documents:
                yield DocumentInfo.from_message(message)

    async def count_documents(
        self, collection: str = DEFAULT_COLLECTION, *, filter: FilterLike = ""
    ) -> DocumentCounts:
        """Count the documents of a collection that pass a filter, and their passages."""
        request = documents_request(collection, page_size=1, filter=filter, counted=True)
        return counts_from(await self._call(self._stubs.index.ListDocuments, request))

    async def document(
        self,
        name: str = "",
        *,
        with_text: bool = False,
        uri: str = "",
        collection: str = DEFAULT_COLLECTION,
        chars: Range | None = None,
        lines: Range | None = None,
    ) -> DocumentInfo:
        """Return one document, by its name or by its URI; see ``RetrievalClient.document``."""
        request = document_request(
            name, uri=uri, collection=collection, with_text=with_text, chars=chars, lines=lines
        )
        response = await self._call(self._stubs.index.GetDocument, request)
        return DocumentInfo.from_answer(response, with_text=with_text)

    async def passage(self, name: str, *, before: int = 0, after: int = 0) -> PassageContext:
        """Return one passage, by its resource name, with its neighbours in the document."""
        request = passage_request(name, before=before, after=after)
        return PassageContext.from_message(await self._call(self._stubs.index.GetPassage, request))

    async def reload(self, collection: str = DEFAULT_COLLECTION) -> CollectionInfo:
        """Make the server open the newest generation of a collection, and return what it holds."""
        request = index_pb.ReloadCollectionRequest(name=resource_name(collection))
        response = await self._call(self._stubs.index.ReloadCollection, request)
        return CollectionInfo.from_message(response.collection)

    async def server_info(self) -> ServerInfo:
        """Return the server's version and limits."""
        request = index_pb.GetServerInfoRequest()
        response = await self._call(self._stubs.index.GetServerInfo, request)
        return ServerInfo.from_message(response.server_info)

    async def health(self, collection: str | None = None) -> bool:
        """Return whether the server, or one of its collections, is ready to answer."""
        request = health_request(collection)
        return is_serving(await self._call(self._stubs.health.Check, request))

    @property
    def _stubs(self) -> Stubs:
        return self._loops.stubs()

    async def _call(
        self,
        method: Callable[..., Awaitable[ResponseT]],
        request: RequestT,
        *,
        timeout: float | None = None,
        unknown: str = "",
    ) -> ResponseT:
        """Send a request and wait for the answer; see ``Connection.call``.

        Raises:
            ClientClosed: the client is closed.
            ServiceError: the call failed.
        """
        endpoint = self._endpoint
        endpoint.check_open()
        seconds = endpoint.timeout if timeout is None else timeout
        try:
            return await method(request, timeout=seconds, metadata=endpoint.metadata)
        except grpc.RpcError as error:
            raise endpoint.error(error, timeout=seconds, unknown=unknown) from error
        except asyncio.CancelledError:
            if _is_cancelled() or not endpoint.closed:
                raise
            # Closing the channel has cancelled the call, and nobody has cancelled this task.
            raise closed_under_way() from None

    async def _stream(self, method: Callable[..., Any], request: object) -> AsyncGenerator[Any]:
        """Send a request and yield the streamed answers; closing the generator ends the call."""
        endpoint = self._endpoint
        attempts, begun = StreamAttempts(endpoint.timeout), False
        endpoint.check_open()
        while True:
            timeout = attempts.seconds_left
            responses = method(request, timeout=timeout, metadata=endpoint.metadata)
            try:
                async for response in responses:
                    begun = True
                    yield response
            except grpc.RpcError as error:
                over = begun or endpoint.closed
                pause = None if over else attempts.pause_after(error)
                if pause is None:
                    raise endpoint.error(error) from error
            except asyncio.CancelledError:
                if _is_cancelled() or not endpoint.closed:
                    raise
                raise closed_under_way() from None
            else:
                return
            finally:
                responses.cancel()
            await asyncio.sleep(pause)
            if endpoint.closed:
                raise closed_under_way()

    async def _pages(
        self,
        method: Callable[..., Awaitable[Any]],
        request: index_pb.ListCollectionsRequest
        | index_pb.ListDocumentsRequest
        | index_pb.ListSkippedFilesRequest,
    ) -> AsyncIterator[Any]:
        """Yield the answers to a request for a list, page by page."""
        while True:
            response = await self._call(method, request)
            yield response
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token


def _is_cancelled() -> bool:
    """Return whether somebody has asked the present task to stop."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
