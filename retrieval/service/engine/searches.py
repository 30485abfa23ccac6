"""Searches: one page of passages, several searches at once, and many passages in a stream."""

import asyncio
import time
from collections.abc import (
    AsyncGenerator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TypeVar

from retrieval.domain.search_options import MAX_K
from retrieval.errors import InvalidArgument
from retrieval.search import MAX_ARRANGED, EmbeddedText, Query, check_model, check_query
from retrieval.service.collections.open_collections import Collections, OpenCollection
from retrieval.service.config import Limits
from retrieval.service.engine.bounds import MAX_STREAM_LIMIT, check_batch_size
from retrieval.service.engine.calls import Call
from retrieval.service.engine.plans import Plan, Search, SearchPage, Shown, plan_search
from retrieval.service.observability.observer import Observer
from retrieval.service.page_tokens import page_size
from retrieval.service.scheduling.pools import Pools
from retrieval.service.scheduling.threads import SearchThreads

_Asked = TypeVar("_Asked")
_T = TypeVar("_T")


class Searches:
    """Answers searches from the open collections."""

    def __init__(
        self, collections: Collections, limits: Limits, observer: Observer, pools: Pools
    ) -> None:
        """Share these with all searches.

        Args:
            collections: what is searched.
            limits: of requests.
            observer: learns of every search.
            pools: threads that search.
        """
        self._collections = collections
        self._limits = limits
        self._observer = observer
        self._pools = pools

    async def page(
        self, call: Call, search: Search, present: Callable[[SearchPage], Shown]
    ) -> Shown:
        """Find one page of passages.

        Passages like a given one are a search whose query is that passage.

        Args:
            call: who asks.
            search: what for.
            present: turns the page into the adapter's answer. It runs in the thread that searched,
                so that a long answer doesn't hold up the event loop.

        Returns:
            what ``present`` returns.

        Raises:
            InvalidArgument: a value is out of range, or the page token is of another request.
            StaleGeneration: the page token is of another index.
            NotFound: no such collection, or the query's passage does not exist.
            RetrievalError: see ``Collections.use``, ``SearchThreads.run`` and ``Searcher.search``.
        """
        started = time.perf_counter()
        call.begin("search")
        with self._collections.use(search.collection, call.caller) as collection:
            plan = plan_search(search, collection, started, present)
            await self._evaluate_filter(collection, plan.query)
            (embedded,), seconds = await _embed(collection, [plan.query])
            return await self._answer(plan, embedded, seconds)

    async def batch(
        self,
        call: Call,
        requests: Sequence[_Asked],
        understand: Callable[[_Asked], Search],
        present: Callable[[SearchPage], Shown],
    ) -> list[Shown]:
        """Answer several searches; the texts for one collection are embedded together.

        Args:
            call: who asks. Each search counts against the caller's rate.
            requests: what for, in the adapter's form.
            understand: turns one request into a search.
            present: see ``page``.

        Returns:
            the answers in the requests' order.

        Raises:
            InvalidArgument: too many searches, or an error of one, whose ``field`` says which.
            RetrievalError: see ``page``.
        """
        started = time.perf_counter()
        call.begin("search")
        call.caller.charge(len(requests))
        check_batch_size(len(requests), self._limits.batch_size, field="requests")
        with ExitStack() as stack:
            collections: dict[str, OpenCollection] = {}
            plans: list[Plan[Shown]] = []
            for number, request in enumerate(requests):
                with _located_in(f"requests[{number}]"):
                    search = understand(request)
                    name = search.collection
                    if name not in collections:
                        use = self._collections.use(name, call.caller)
                        collections[name] = stack.enter_context(use)
                    plans.append(plan_search(search, collections[name], started, present))
            self._check_depth(plans)
            answers: dict[int, Shown] = {}
            for name, collection in collections.items():
                those = {i: plan for i, plan in enumerate(plans) if plan.collection.name == name}
                answers |= await self._answer_all(collection, those)
            return [answers[number] for number in range(len(plans))]

    async def stream(
        self, call: Call, collection: str, query: Query, limit: int
    ) -> AsyncGenerator[SearchPage]:
        """Find many passages at once and yield them in parts, all of one generation.

        Args:
            call: who asks.
            collection: its own name.
            query: what for; its ``k`` and offset don't count.
            limit: how many passages at most, or documents where they are grouped; 0 for as many as
                the list may have.

        Yields:
            at least one part. Close the generator to stop reading.

        Raises:
            RetrievalError: see ``page``.
        """
        started = time.perf_counter()
        call.begin("search")
        arranged = query.collapse is not None or query.mmr is not None
        most = MAX_ARRANGED if arranged else MAX_STREAM_LIMIT
        limit = page_size(limit, default=most, maximum=most, field="limit")
        with self._collections.use(collection, call.caller) as opened:
            part = max(1, MAX_K // max(1, query.group_size))
            query = replace(query, k=min(limit, part), offset=0)
            check_query(query, with_filter=False)
            check_model(query, opened.info.model)
            await self._evaluate_filter(opened, query)
            (embedded,), seconds = await _embed(opened, [query])
            results = opened.searcher.stream(query, embedded, limit=limit, embed_seconds=seconds)
            run = self._threads_of(query).run
            while (result := await run(opened, next, results, None)) is not None:
                self._observer.searched(query, result)
                elapsed = time.perf_counter() - started
                yield SearchPage(opened.name, opened.info, result, "", elapsed)

    async def _answer_all(
        self, collection: OpenCollection, plans: Mapping[int, Plan[Shown]]
    ) -> dict[int, Shown]:
        """Answer the searches of one collection, by their numbers in the batch.

        Texts are embedded together, and each search reports that time as its own. Each search takes
        a turn of its own.

        Raises:
            InvalidArgument: a vector does not fit the index; its ``field`` has the number.
            NotFound: a query's passage does not exist.
        """

        async def prepare(number: int) -> None:
            with _located_in(f"requests[{number}]"):
                await self._evaluate_filter(collection, plans[number].query)

        await _all(map(prepare, plans))
        vectors, seconds = await _embed(collection, [plan.query for plan in plans.values()])

        async def answer(number: int, embedded: EmbeddedText | None) -> Shown:
            with _located_in(f"requests[{number}]"):
                return await self._answer(plans[number], embedded, seconds)

        return dict(zip(plans, await _all(map(answer, plans, vectors)), strict=True))

    async def _evaluate_filter(self, collection: OpenCollection, query: Query) -> None:
        """Evaluate a query's filter unless its result is remembered.

        Raises:
            InvalidArgument: the filter is malformed.
        """
        if query.filter and not collection.reader.knows(query.filter):
            await self._pools.filter.run(collection, collection.searcher.prepare, query)

    async def _answer(
        self, plan: Plan[Shown], embedded: EmbeddedText | None, embed_seconds: float
    ) -> Shown:
        """Search and present the page in a thread, once the query's text has been embedded."""
        threads = self._threads_of(plan.query)
        result, shown = await threads.run(plan.collection, plan.answer, embedded, embed_seconds)
        self._observer.searched(plan.query, result)
        return shown

    def _threads_of(self, query: Query) -> SearchThreads:
        return self._pools.rerank if query.rerank_top else self._pools.search

    def _check_depth(self, plans: Sequence[Plan[Shown]]) -> None:
        """Refuse a batch that would keep a thread busy for long, though each search is small.

        Raises:
            InvalidArgument: the searches together read too many passages.
        """
        passages = sum(plan.query.offset + plan.query.k for plan in plans)
        if passages > self._limits.batch_passages:
            raise InvalidArgument(
                f"the searches ask for {passages} passages in all; a batch may ask for at most "
                f"{self._limits.batch_passages}",
                field="requests",
            )


async def _embed(
    collection: OpenCollection, queries: Sequence[Query]
) -> tuple[list[EmbeddedText | None], float]:
    """Embed the texts of queries together.

    Returns:
        each query's embedding, None for one that needs none, and the seconds that it took.
    """
    started = time.perf_counter()
    texts = [query.text for query in queries if query.text is not None and query.needs_embedding]
    embedded = iter(await collection.embed_queries(texts) if texts else [])
    vectors = [next(embedded) if query.needs_embedding else None for query in queries]
    return vectors, time.perf_counter() - started


async def _all(coroutines: Iterable[Coroutine[None, None, _T]]) -> list[_T]:
    """Run all at once; if one fails or the request is cancelled, cancel the others."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


@contextmanager
def _located_in(path: str) -> Iterator[None]:
    """Put the place in the request before the field that an error names.

    Args:
        path: such as ``"requests[3]"``.

    Raises:
        InvalidArgument: one that the block raised, with its ``field`` under ``path``.
    """
    try:
        yield
    except InvalidArgument as error:
        field = error.metadata.get("field")
        metadata = {**error.metadata, "field": f"{path}.{field}" if field else path}
        raise InvalidArgument(f"{path}: {error.message}", **metadata) from error
