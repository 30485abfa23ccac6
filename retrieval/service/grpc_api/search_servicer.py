"""SearchService: passages that fit a query."""

import asyncio
import time
from collections.abc import AsyncGenerator, Coroutine, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

from grpc.aio import ServicerContext

from retrieval.domain.resource_names import parse_collection
from retrieval.errors import InvalidArgument
from retrieval.search import (
    DEFAULT_K,
    MAX_K,
    MAX_OFFSET,
    EmbeddedText,
    Query,
    SearchResult,
    check_query,
)
from retrieval.service.collections.collections import Collections, OpenCollection
from retrieval.service.config import Limits
from retrieval.service.grpc_api.from_messages import check_batch_size, located_in, to_query
from retrieval.service.grpc_api.page_tokens import PageScope, page_size
from retrieval.service.grpc_api.to_messages import (
    duration,
    fill_passage,
    search_response,
    stream_header,
)
from retrieval.service.observability.observer import Observer
from retrieval.service.scheduling.search_threads import SearchThreads
from retrieval.v1 import search_service_pb2 as pb
from retrieval.v1 import search_service_pb2_grpc as pb_grpc

_T = TypeVar("_T")

MAX_STREAM_LIMIT = MAX_OFFSET
"""Most passages of a streamed search."""


class SearchServicer(pb_grpc.SearchServiceServicer):
    """Answers SearchService; see the ``.proto`` for what each method promises."""

    def __init__(
        self,
        collections: Collections,
        workers: SearchThreads,
        limits: Limits,
        observer: Observer,
        *,
        rerank_workers: SearchThreads,
        filter_workers: SearchThreads,
    ) -> None:
        """Keep what all requests share.

        Args:
            collections: what is searched.
            workers: the threads that search.
            limits: of requests.
            observer: told what was searched.
            rerank_workers: the threads for searches that are reranked, so that no other waits for
                the model.
            filter_workers: the threads that evaluate filters, so that no other search waits for
                those that take long.
        """
        self._filter_workers = filter_workers
        self._rerank_workers = rerank_workers
        self._observer = observer
        self._collections = collections
        self._workers = workers
        self._limits = limits

    async def Search(
        self, request: pb.SearchRequest, _context: ServicerContext[Any, Any]
    ) -> pb.SearchResponse:
        """Answer one page of passages."""
        started = time.perf_counter()
        name = parse_collection(request.collection, field="collection")
        with self._collections.use(name) as collection:
            plan = _plan(request, collection, started)
            await self._prepare(collection, plan.query)
            (embedded,), seconds = await _embed(collection, [plan.query])
            return await self._answer(plan, embedded, seconds)

    async def BatchSearch(
        self, request: pb.BatchSearchRequest, _context: ServicerContext[Any, Any]
    ) -> pb.BatchSearchResponse:
        """Answer many searches; those of one collection go through its model together."""
        started = time.perf_counter()
        check_batch_size(len(request.requests), self._limits.batch_size, field="requests")
        with ExitStack() as stack:
            collections: dict[str, OpenCollection] = {}
            plans: list[_Plan] = []
            for number, single in enumerate(request.requests):
                with located_in(f"requests[{number}]"):
                    name = parse_collection(single.collection, field="collection")
                    if name not in collections:
                        collections[name] = stack.enter_context(self._collections.use(name))
                    plans.append(_plan(single, collections[name], started))
            self._check_depth(plans)
            answers: dict[int, pb.SearchResponse] = {}
            for name, collection in collections.items():
                those = {i: plan for i, plan in enumerate(plans) if plan.name == name}
                answers |= await self._answer_all(collection, those)
            response = pb.BatchSearchResponse()
            total = duration(time.perf_counter() - started)
            for number in range(len(plans)):
                answers[number].timings.total.CopyFrom(total)
                response.responses.append(answers.pop(number))
                await asyncio.sleep(0)  # each is copied: others are answered between
            return response

    async def _prepare(self, collection: OpenCollection, query: Query) -> None:
        """See to it that a query's filter is evaluated.

        Raises:
            InvalidArgument: the filter is malformed.
        """
        if query.filter and not collection.reader.knows(query.filter):
            await self._filter_workers.run(collection, collection.searcher.prepare, query)

    async def _answer(
        self, plan: "_Plan", embedded: EmbeddedText | None, embed_seconds: float
    ) -> pb.SearchResponse:
        """Search, once the query's text has been through the model; the page is made there, too."""
        workers = self._rerank_workers if plan.query.rerank_top else self._workers
        result, response = await workers.run(plan.collection, plan.answer, embedded, embed_seconds)
        self._observer.searched(plan.query, result)
        return response

    async def _answer_all(
        self, collection: OpenCollection, plans: Mapping[int, "_Plan"]
    ) -> dict[int, pb.SearchResponse]:
        """Answer the searches of one collection, by their number in the request.

        Texts are embedded together, and that time is each one's. Each search has a turn of its own.

        Raises:
            InvalidArgument: a vector does not fit the index; its ``field`` has the number.
            NotFound: a query's passage does not exist.
        """

        async def prepare(number: int) -> None:
            with located_in(f"requests[{number}]"):
                await self._prepare(collection, plans[number].query)

        await _all(map(prepare, plans))
        vectors, seconds = await _embed(collection, [plan.query for plan in plans.values()])

        async def answer(number: int, embedded: EmbeddedText | None) -> pb.SearchResponse:
            with located_in(f"requests[{number}]"):
                return await self._answer(plans[number], embedded, seconds)

        return dict(zip(plans, await _all(map(answer, plans, vectors)), strict=True))

    def _check_depth(self, plans: Sequence["_Plan"]) -> None:
        """Refuse a batch that would keep a thread busy for long, though each search is small."""
        passages = sum(plan.query.offset + plan.query.k for plan in plans)
        if passages > self._limits.batch_passages:
            raise InvalidArgument(
                f"the searches ask for {passages} passages in all; a batch may ask for at most "
                f"{self._limits.batch_passages}",
                field="requests",
            )

    async def StreamSearch(
        self, request: pb.StreamSearchRequest, _context: ServicerContext[Any, Any]
    ) -> AsyncGenerator[pb.StreamSearchResponse]:
        """Answer a header, then passages: found at once, read some at a time, of one generation."""
        name = parse_collection(request.collection, field="collection")
        limit = page_size(
            request.limit, default=MAX_STREAM_LIMIT, maximum=MAX_STREAM_LIMIT, field="limit"
        )
        with self._collections.use(name) as collection:
            query = to_query(request, collection=name, k=min(limit, MAX_K), offset=0)
            check_query(query, with_filter=False)
            await self._prepare(collection, query)
            (embedded,), seconds = await _embed(collection, [query])
            results = collection.searcher.stream(
                query, embedded, limit=limit, embed_seconds=seconds
            )
            first = True
            while (result := await self._workers.run(collection, next, results, None)) is not None:
                self._observer.searched(query, result)
                if first:
                    header = stream_header(collection.info, result)
                    yield pb.StreamSearchResponse(header=header)
                    first = False
                for passage in result.passages:
                    response = pb.StreamSearchResponse()
                    fill_passage(response.passage, name, passage)
                    yield response


async def _all(coroutines: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
    """Run all at once; if one fails, or nobody waits for them, the others are cancelled."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _embed(
    collection: OpenCollection, queries: Sequence[Query]
) -> tuple[list[EmbeddedText | None], float]:
    """The texts of queries, embedded together; None where none is needed. And the seconds."""
    started = time.perf_counter()
    texts = [query.text for query in queries if query.text is not None and query.needs_embedding]
    embedded = iter(await collection.embed_queries(texts) if texts else [])
    vectors = [next(embedded) if query.needs_embedding else None for query in queries]
    return vectors, time.perf_counter() - started


@dataclass(frozen=True, slots=True)
class _Plan:
    """A request for a page, understood and checked."""

    collection: OpenCollection
    query: Query
    scope: PageScope
    """Binds the token of the next page."""
    started: float
    """``time.perf_counter()`` of the request's arrival."""

    @property
    def name(self) -> str:
        """The collection's own name."""
        return self.collection.name

    def answer(
        self, embedded: EmbeddedText | None, embed_seconds: float
    ) -> tuple[SearchResult, pb.SearchResponse]:
        """Search, and make the page; blocking.

        Args:
            embedded: the query's text; None: it has none.
            embed_seconds: that this took.
        """
        result = self.collection.searcher.search(self.query, embedded, embed_seconds=embed_seconds)
        # Of documents where passages are grouped: a page may have several passages of each.
        next_offset = self.query.offset + self.query.k
        return result, search_response(
            self.name,
            self.collection.info,
            result,
            next_page_token=self.scope.token_after(next_offset) if result.more else "",
            seconds=time.perf_counter() - self.started,
        )


def _plan(request: pb.SearchRequest, collection: OpenCollection, started: float) -> _Plan:
    """Understand a request for a page.

    Raises:
        InvalidArgument: a value is out of range, or the page token is of another request.
        StaleGeneration: the page token is of another generation.
    """
    scope = PageScope(_without_page(request, collection), collection.info.identity)
    query = to_query(
        request,
        collection=collection.name,
        k=page_size(request.page_size, default=DEFAULT_K, maximum=MAX_K),
        offset=scope.offset(request.page_token),
    )
    check_query(query, with_filter=False)
    return _Plan(collection, query, scope, started)


def _without_page(request: pb.SearchRequest, collection: OpenCollection) -> bytes:
    """What must stay the same from page to page, the same bytes for the same search."""
    same = pb.SearchRequest()
    same.CopyFrom(request)
    same.collection = collection.name
    same.ClearField("page_size")
    same.ClearField("page_token")
    return same.SerializeToString(deterministic=True)
