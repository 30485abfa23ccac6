"""The engine: everything that the service answers, whatever protocol asks for it.

An adapter (``grpc_api``; others can stand beside it) turns a request into values of the domain,
hands them in with a ``Call``, and turns what comes back into an answer. Errors are those of
``retrieval.errors``; the ``field`` that one names is a field of the contract. Nothing here knows a
message, a status or a connection. An engine belongs to one event loop.
"""

import asyncio
import math
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
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Generic, Literal, NamedTuple, TypeVar

import numpy as np

import retrieval
from retrieval.domain.deadline import answer_by
from retrieval.domain.passages import Passage
from retrieval.domain.records import (
    CharRange,
    DocumentCounts,
    DocumentRow,
    FieldInfo,
    FieldValue,
    IndexInfo,
    ModelIdentity,
    Skipped,
    TextKind,
    TextPart,
    TextRange,
)
from retrieval.domain.resource_names import DocumentName, DocumentUri, PassageName
from retrieval.domain.search_options import MAX_K, MAX_OFFSET, OPTIONS
from retrieval.domain.wording import counted
from retrieval.errors import InvalidArgument, NoReranker
from retrieval.search import (
    MAX_ARRANGED,
    MAX_QUERY_CHARS,
    EmbeddedText,
    Query,
    SearchResult,
    check_model,
    check_query,
    filter_warnings,
)
from retrieval.service.access.callers import EVERYONE, Caller
from retrieval.service.access.token_file import Scope
from retrieval.service.collections.models import LoadedModel, OfferedModel
from retrieval.service.collections.open_collections import Collections, OpenCollection
from retrieval.service.config import Limits, Writing
from retrieval.service.observability.observer import Observer
from retrieval.service.page_tokens import PageScope, page_size
from retrieval.service.scheduling.fair_queue import turn_of
from retrieval.service.scheduling.threads import SearchThreads
from retrieval.store import parse_filter
from retrieval.store.api import Reader

if TYPE_CHECKING:
    from retrieval.encoding.reranker import Reranker

_Asked = TypeVar("_Asked")
_Shown = TypeVar("_Shown")
_T = TypeVar("_T")

MAX_STREAM_LIMIT = MAX_OFFSET
"""Largest number of passages in a streamed search: pages go no further, either."""

DEFAULT_PAGE_SIZE = 50
"""Collections or documents on a page; a page of 50 documents is about 20 kB on the wire."""

_OPTION_LIMITS: Final = {
    option.server_limit: int(option.maximum)
    for option in OPTIONS.values()
    if option.server_limit and option.maximum is not None
}
"""Field of ``ServerLimits`` → the largest value of the options that it is about."""

_CHARS_AT_ONCE: Final = 65_536
"""Characters whose tokens are counted in one call. Between calls other requests take their turns,
and counting stops if the request was cancelled."""


@dataclass(frozen=True, slots=True)
class Call:
    """Who makes a request, and how long its answer is of use.

    A request is cancelled by cancelling the task that awaits the engine. Work that has not begun
    is dropped then, and running work stops at its next look at ``retrieval.domain.deadline``.
    """

    caller: Caller = EVERYONE
    """Its scopes and collections bound what the engine answers."""
    answer_by: float = math.inf
    """``time.perf_counter()`` when the client gives up."""
    turn: str = ""
    """Name under which the request takes turns with others: the token's, or else the peer's."""


@dataclass(frozen=True, slots=True)
class Search:
    """One search, as an adapter has understood it."""

    collection: str
    query: Query
    """Its ``k`` is the page's size; its offset comes from ``page_token``."""
    same: bytes
    """The request without its page, in bytes that are equal for equal requests. A page token is
    good only for requests with the same bytes."""
    page_token: str = ""


@dataclass(frozen=True, slots=True)
class SearchPage:
    """A page of passages, or a part of a stream."""

    collection: str
    info: IndexInfo
    """Of the generation that was searched."""
    result: SearchResult
    next_page_token: str
    """Empty on the last page, and in a stream."""
    seconds: float
    """Since the engine was asked."""


class Embeddings(NamedTuple):
    """The embeddings of n texts, in order, and the model that made them."""

    embeddings: list[EmbeddedText]
    model: ModelIdentity


class TokenCounts(NamedTuple):
    """The numbers of tokens of n texts, in order, and the model that reads them."""

    counts: list[int]
    model: ModelIdentity


class RerankerInfo(NamedTuple):
    """The cross-encoder of a server."""

    name: str
    max_tokens: int
    """Maximum tokens of query and text together."""


class OfferedModels(NamedTuple):
    """The models that a caller may use."""

    models: list[OfferedModel]
    reranker: RerankerInfo | None
    """None if the server has none."""


class Reranked(NamedTuple):
    """The order of some texts."""

    results: list[tuple[int, float]]
    """Number and score of the best texts, best first."""
    model: str
    truncated: int
    """Number of texts of which the model read only the beginning."""


class CollectionPage(NamedTuple):
    """Some collections, by name."""

    collections: list[tuple[str, IndexInfo]]
    next_page_token: str


class FoundDocument(NamedTuple):
    """A document of one generation."""

    row: DocumentRow
    part: TextPart | None
    """The text that was asked for; None if none was."""
    generation: int


class DocumentPage(NamedTuple):
    """Some documents of one generation, by URI."""

    documents: list[DocumentRow]
    next_page_token: str
    generation: int
    total: DocumentCounts | None
    """Numbers of the documents on all pages; None if they were not asked for."""
    warnings: tuple[str, ...]
    """What the user probably did not mean, in sentences without a full stop."""


class SkippedPage(NamedTuple):
    """Some files of one generation that are not indexed, by URI."""

    files: list[Skipped]
    next_page_token: str
    generation: int
    counts: Mapping[str, int]
    """Of all pages together, by reason."""


class Neighbours(NamedTuple):
    """A passage and those around it, in the document's order."""

    before: list[Passage]
    passage: Passage
    after: list[Passage]
    generation: int


class Reloaded(NamedTuple):
    """A collection after a reload."""

    info: IndexInfo
    previous_generation: int
    """0 if the collection could not be opened before."""


class ServerInfo(NamedTuple):
    """What a server says about itself."""

    version: str
    started_at: datetime
    limits: dict[str, int]
    """By their fields in the contract's ``ServerLimits``."""
    writable: bool
    """Whether it takes documents."""


class Engine:
    """Answers requests from the open collections."""

    def __init__(
        self,
        collections: Collections,
        limits: Limits,
        observer: Observer,
        *,
        search_threads: SearchThreads,
        rerank_threads: SearchThreads,
        filter_threads: SearchThreads,
        writing: Writing | None = None,
    ) -> None:
        """Share these with all requests; the server counts as started now.

        Args:
            collections: what is searched.
            limits: of requests.
            observer: learns of every search.
            search_threads: search and read.
            rerank_threads: run searches that are reranked, so that no other search waits for the
                cross-encoder.
            filter_threads: evaluate filters, so that no other search waits for a slow one.
            writing: how the server takes documents; None if it doesn't.
        """
        self._writing = writing
        self._collections = collections
        self._limits = limits
        self._observer = observer
        self._search_threads = search_threads
        self._rerank_threads = rerank_threads
        self._filter_threads = filter_threads
        self._started = datetime.now(UTC)

    async def search(
        self, call: Call, search: Search, present: Callable[[SearchPage], _Shown]
    ) -> _Shown:
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
        _begin(call, "search")
        with self._collections.use(search.collection, call.caller) as collection:
            plan = _plan(search, collection, started, present)
            await self._prepare(plan)
            (embedded,), seconds = await _embed(collection, [plan.query])
            return await self._answer(plan, embedded, seconds)

    async def search_batch(
        self,
        call: Call,
        requests: Sequence[_Asked],
        understand: Callable[[_Asked], Search],
        present: Callable[[SearchPage], _Shown],
    ) -> list[_Shown]:
        """Answer several searches; the texts for one collection are embedded together.

        Args:
            call: who asks. Each search counts against the caller's rate.
            requests: what for, in the adapter's form.
            understand: turns one request into a search.
            present: see ``search``.

        Returns:
            the answers in the requests' order.

        Raises:
            InvalidArgument: too many searches, or an error of one, whose ``field`` says which.
            RetrievalError: see ``search``.
        """
        started = time.perf_counter()
        _begin(call, "search")
        call.caller.charge(len(requests))
        _check_batch_size(len(requests), self._limits.batch_size, field="requests")
        with ExitStack() as stack:
            collections: dict[str, OpenCollection] = {}
            plans: list[_Plan[_Shown]] = []
            for number, request in enumerate(requests):
                with _located_in(f"requests[{number}]"):
                    search = understand(request)
                    name = search.collection
                    if name not in collections:
                        use = self._collections.use(name, call.caller)
                        collections[name] = stack.enter_context(use)
                    plans.append(_plan(search, collections[name], started, present))
            self._check_depth(plans)
            answers: dict[int, _Shown] = {}
            for name, collection in collections.items():
                those = {i: plan for i, plan in enumerate(plans) if plan.collection.name == name}
                answers |= await self._answer_all(collection, those)
            return [answers[number] for number in range(len(plans))]

    async def stream_search(
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
            RetrievalError: see ``search``.
        """
        started = time.perf_counter()
        _begin(call, "search")
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

    async def embed(
        self,
        call: Call,
        collection: str,
        texts: Sequence[str],
        kind: TextKind,
        *,
        model: str = "",
        dimensions: int = 0,
    ) -> Embeddings:
        """Embed texts with the model of a collection, or of a name.

        Args:
            call: who asks. Each text counts against the caller's rate.
            collection: its own name; empty as for ``Collections.model``.
            texts: n texts.
            kind: ``"query"`` or ``"passage"``.
            model: the model's name, in place of the collection's; empty for that.
            dimensions: number of components of a vector; 0 for all.

        Raises:
            InvalidArgument: too many texts, a text that is too long, too many tokens, or the model
                has no vectors of that many dimensions.
            RetrievalError: see ``Collections.model`` and ``Batcher.embed``.
        """
        _begin(call, "embed")
        call.caller.charge(len(texts))
        self._check_texts(texts)
        used = self._collections.model(collection, model, call.caller)
        _check_dimensions(used, dimensions)
        await self._check_tokens(used, texts)
        embedded = await used.embed(list(texts), kind)
        if 0 < dimensions < used.identity.dim:
            embedded = [one.shortened(dimensions) for one in embedded]
        return Embeddings(embedded, used.identity)

    async def count_tokens(
        self, call: Call, collection: str, texts: Sequence[str], *, model: str = ""
    ) -> TokenCounts:
        """Count the tokens of texts as the model of a collection, or of a name, reads them.

        Raises:
            InvalidArgument: too many texts, or a text that is too long.
            RetrievalError: see ``Collections.model`` and ``SearchThreads.run``.
        """
        _begin(call, "embed")
        self._check_texts(texts)
        used = self._collections.model(collection, model, call.caller)
        return TokenCounts(await self._count(used, texts), used.identity)

    def models(self, call: Call) -> OfferedModels:
        """Return the models that the caller may embed with, and the reranker."""
        _begin(call, "embed")
        return OfferedModels(
            self._collections.models(call.caller), _reranker_info(self._collections.reranker)
        )

    async def rerank(self, call: Call, query: str, texts: Sequence[str], top_n: int) -> Reranked:
        """Order texts by how well they answer a query, with the cross-encoder of searches.

        Args:
            call: who asks. Each text counts against the caller's rate.
            query: a text.
            texts: n texts.
            top_n: maximum number of results; 0 for all.

        Raises:
            NoReranker: the server has no cross-encoder.
            InvalidArgument: a text or a number is out of range.
            RetrievalError: see ``SearchThreads.run``.
        """
        _begin(call, "search")
        call.caller.charge(len(texts))
        reranker = self._collections.reranker
        if reranker is None:
            raise NoReranker("this server has no model to rerank with: start it with --reranker")
        try:
            check_query(Query(query), with_filter=False)
        except InvalidArgument as error:  # it calls the query's field ``text``
            raise InvalidArgument(error.message, field="query") from error
        self._check_texts(texts)
        if top_n < 0:
            raise InvalidArgument(f"top_n is {top_n}; it must be 0 or more", field="top_n")
        scores = await self._rerank_threads.run(_NOTHING, reranker.score, query, list(texts))
        order = np.argsort(-scores.probabilities, kind="stable")[: top_n or None]
        results = [(int(number), float(scores.probabilities[number])) for number in order]
        return Reranked(results, reranker.name, scores.truncated)

    def collection(self, call: Call, name: str) -> IndexInfo:
        """Return what a collection holds.

        Raises:
            RetrievalError: see ``Collections.use``.
        """
        _begin(call, "read")
        with self._collections.use(name, call.caller) as collection:
            return collection.info

    def collections(self, call: Call, size: int = 0, page_token: str = "") -> CollectionPage:
        """Return a page of the collections that the caller may see.

        Args:
            call: who asks.
            size: of the page; 0 means ``DEFAULT_PAGE_SIZE``.
            page_token: empty for the first page.

        Raises:
            InvalidArgument: the size is out of range, or the token is of another request.
        """
        _begin(call, "read")
        size = page_size(size, default=DEFAULT_PAGE_SIZE, maximum=MAX_K)
        scope = PageScope(b"ListCollections")
        after = scope.key(page_token)
        names = [name for name in self._collections.visible(call.caller) if name > after]
        page = names[:size]
        infos = [(name, self.collection(call, name)) for name in page]
        return CollectionPage(infos, scope.token_after(page[-1]) if len(names) > size else "")

    async def document(
        self,
        call: Call,
        name: DocumentName | DocumentUri,
        *,
        text: TextRange | Literal["whole"] | None,
    ) -> FoundDocument:
        """Return a document.

        Args:
            call: who asks.
            name: of the document.
            text: what to return of its text. A range has at most ``Limits.range_chars`` characters;
                a longer one is cut, see ``Reader.text_part``.

        Raises:
            NotFound: no such collection or document.
            RetrievalError: see ``Collections.use`` and ``SearchThreads.run``.
        """
        _begin(call, "read")
        most = None if text == "whole" else self._limits.range_chars
        asked = CharRange() if text == "whole" else text
        with self._collections.use(name.collection, call.caller) as collection:
            row, part = await self._search_threads.run(
                collection, _read_document, collection, name, asked, most
            )
            return FoundDocument(row, part, collection.info.generation)

    async def documents(
        self,
        call: Call,
        collection: str,
        size: int = 0,
        page_token: str = "",
        *,
        filter: str = "",
        count: bool = False,
    ) -> DocumentPage:
        """Return a page of a collection's documents, by URI.

        Args:
            call: who asks.
            collection: its own name.
            size: of the page; 0 means ``DEFAULT_PAGE_SIZE``.
            page_token: empty for the first page.
            filter: the documents must pass it; empty for all.
            count: whether to count the documents on all pages.

        Raises:
            InvalidArgument: the size is out of range, the filter is malformed, or the token is of
                another request.
            StaleGeneration: the token is of another index.
            RetrievalError: see ``Collections.use`` and ``SearchThreads.run``.
        """
        _begin(call, "read")
        size = page_size(size, default=DEFAULT_PAGE_SIZE, maximum=MAX_K)
        with self._collections.use(collection, call.caller) as opened:
            request = f"ListDocuments {collection}" + (f" {filter}" if filter else "")
            scope = PageScope(request.encode(), opened.info.index_id)
            after = scope.key(page_token)
            threads = self._filter_threads if filter else self._search_threads
            # One more than the page shows whether there is another page.
            rows, total, warnings = await threads.run(
                opened, _list_documents, opened, size + 1, after, filter, count
            )
        page = rows[:size]
        token = scope.token_after(page[-1].uri) if len(rows) > size else ""
        return DocumentPage(page, token, opened.info.generation, total, warnings)

    async def skipped(
        self, call: Call, collection: str, size: int = 0, page_token: str = ""
    ) -> SkippedPage:
        """Return a page of the files that are not indexed, by URI; see ``documents``."""
        _begin(call, "read")
        size = page_size(size, default=DEFAULT_PAGE_SIZE, maximum=MAX_K)
        with self._collections.use(collection, call.caller) as opened:
            scope = PageScope(f"ListSkippedFiles {collection}".encode(), opened.info.index_id)
            after = scope.key(page_token)
            files, counts = await self._search_threads.run(
                opened, _read_skipped, opened.reader, size + 1, after
            )
        page = files[:size]
        token = scope.token_after(page[-1].uri) if len(files) > size else ""
        return SkippedPage(page, token, opened.info.generation, counts)

    async def fields(self, call: Call, collection: str) -> tuple[list[FieldInfo], int]:
        """Return the fields that filters can compare, and the generation that was read.

        Raises:
            RetrievalError: see ``Collections.use`` and ``SearchThreads.run``.
        """
        _begin(call, "read")
        with self._collections.use(collection, call.caller) as opened:
            found = await self._search_threads.run(opened, opened.reader.fields)
            return found, opened.info.generation

    async def field_values(
        self, call: Call, collection: str, name: str, containing: str, size: int = 0
    ) -> tuple[list[FieldValue], int]:
        """Return values of a field, and the generation that was read.

        Args:
            call: who asks.
            collection: its own name.
            name: the field as a filter names it.
            containing: a part of the values, in any case; empty for all.
            size: maximum number of values; 0 means ``DEFAULT_PAGE_SIZE``.

        Raises:
            InvalidArgument: the size is out of range, or values of the field are not listed.
            RetrievalError: see ``Collections.use`` and ``SearchThreads.run``.
        """
        _begin(call, "read")
        size = page_size(size, default=DEFAULT_PAGE_SIZE, maximum=MAX_K)
        with self._collections.use(collection, call.caller) as opened:
            # It may read a row of every document, as a filter does.
            found = await self._filter_threads.run(
                opened, opened.reader.field_values, name, containing, size
            )
            return found, opened.info.generation

    async def passage(
        self, call: Call, name: PassageName, *, before: int = 0, after: int = 0
    ) -> Neighbours:
        """Return a passage and its neighbours in the document.

        Args:
            call: who asks.
            name: of the passage.
            before: how many passages before it.
            after: how many passages after it.

        Raises:
            InvalidArgument: more neighbours than ``Limits.neighbours``.
            NotFound: no such collection, document or passage.
            RetrievalError: see ``Collections.use`` and ``SearchThreads.run``.
        """
        _begin(call, "read")
        for field, count in (("before", before), ("after", after)):
            if not 0 <= count <= self._limits.neighbours:
                raise InvalidArgument(
                    f"{field} is {count}; it must be from 0 to {self._limits.neighbours}",
                    field=field,
                )
        with self._collections.use(name.collection, call.caller) as collection:
            around, passage = await self._search_threads.run(
                collection, _read_passage, collection, name, before, after
            )
            generation = collection.info.generation
        return Neighbours(
            [one for one in around if one.ordinal < passage.ordinal],
            passage,
            [one for one in around if one.ordinal > passage.ordinal],
            generation,
        )

    async def reload(self, call: Call, name: str) -> Reloaded:
        """Answer from the newest generation of a collection from now on.

        Raises:
            RetrievalError: the index or its model can't be used; the collection is as it was.
        """
        _begin(call, "reload")
        self._collections.check(name, call.caller)
        previous = self._collections.generation(name)
        await self._collections.reload(name)
        with self._collections.use(name, call.caller) as collection:
            return Reloaded(collection.info, previous)

    def server_info(self, call: Call) -> ServerInfo:
        """Return the server's version and limits."""
        _begin(call, "read")
        limits = {
            "max_stream_limit": MAX_STREAM_LIMIT,
            "max_query_chars": MAX_QUERY_CHARS,
            "max_batch_size": self._limits.batch_size,
            "max_text_chars": self._limits.text_chars,
            "max_neighbours": self._limits.neighbours,
            "max_message_bytes": self._limits.message_bytes,
            "max_batch_passages": self._limits.batch_passages,
            "max_range_chars": self._limits.range_chars,
            **_OPTION_LIMITS,
        }
        if self._writing is not None:
            limits["max_document_bytes"] = self._writing.document_bytes
        return ServerInfo(
            retrieval.__version__, self._started, limits, writable=self._writing is not None
        )

    async def _prepare(self, plan: "_Plan[_Shown]") -> None:
        await self._evaluate_filter(plan.collection, plan.query)

    async def _evaluate_filter(self, collection: OpenCollection, query: Query) -> None:
        """Evaluate a query's filter unless its result is remembered.

        Raises:
            InvalidArgument: the filter is malformed.
        """
        if query.filter and not collection.reader.knows(query.filter):
            await self._filter_threads.run(collection, collection.searcher.prepare, query)

    async def _answer(
        self, plan: "_Plan[_Shown]", embedded: EmbeddedText | None, embed_seconds: float
    ) -> _Shown:
        """Search and present the page in a thread, once the query's text has been embedded."""
        threads = self._threads_of(plan.query)
        result, shown = await threads.run(plan.collection, plan.answer, embedded, embed_seconds)
        self._observer.searched(plan.query, result)
        return shown

    def _threads_of(self, query: Query) -> SearchThreads:
        return self._rerank_threads if query.rerank_top else self._search_threads

    async def _answer_all(
        self, collection: OpenCollection, plans: Mapping[int, "_Plan[_Shown]"]
    ) -> dict[int, _Shown]:
        """Answer the searches of one collection, by their numbers in the batch.

        Texts are embedded together, and each search reports that time as its own. Each search takes
        a turn of its own.

        Raises:
            InvalidArgument: a vector does not fit the index; its ``field`` has the number.
            NotFound: a query's passage does not exist.
        """

        async def prepare(number: int) -> None:
            with _located_in(f"requests[{number}]"):
                await self._prepare(plans[number])

        await _all(map(prepare, plans))
        vectors, seconds = await _embed(collection, [plan.query for plan in plans.values()])

        async def answer(number: int, embedded: EmbeddedText | None) -> _Shown:
            with _located_in(f"requests[{number}]"):
                return await self._answer(plans[number], embedded, seconds)

        return dict(zip(plans, await _all(map(answer, plans, vectors)), strict=True))

    def _check_depth(self, plans: Sequence["_Plan[_Shown]"]) -> None:
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

    def _check_texts(self, texts: Sequence[str]) -> None:
        """Refuse texts that are too many or too long.

        Raises:
            InvalidArgument: naming the first text that is too long, or the number of texts.
        """
        _check_batch_size(len(texts), self._limits.batch_size, field="texts")
        for number, text in enumerate(texts):
            if len(text) > self._limits.text_chars:
                field = f"texts[{number}]"
                raise InvalidArgument(
                    f"{field} has {len(text)} characters; it may have at most "
                    f"{self._limits.text_chars}",
                    field=field,
                )

    async def _count(self, model: LoadedModel, texts: Sequence[str]) -> list[int]:
        """Count the tokens of each text, some texts at a time."""
        counts: list[int] = []
        for part in _parts_of_about(texts, _CHARS_AT_ONCE):
            counts += await self._search_threads.run(_NOTHING, model.tokenizer.count, part)
        return counts

    async def _check_tokens(self, model: LoadedModel, texts: Sequence[str]) -> None:
        """Refuse texts with too many tokens together; count only if they could have that many.

        Raises:
            InvalidArgument: the model would read more tokens than one request may have.
        """
        most = self._limits.request_tokens
        most_of_one = model.identity.max_tokens
        if len(texts) * most_of_one <= most:
            return
        tokens = sum(min(count, most_of_one) for count in await self._count(model, texts))
        if tokens > most:
            raise InvalidArgument(
                f"the texts have {tokens} tokens, up to {most_of_one} of each counted; a request "
                f"may have at most {most}: send fewer texts at once",
                field="texts",
            )


class _Nothing:
    """Stands in for a collection where a call needs none."""

    def hold(self) -> None:
        """Do nothing."""

    def release(self) -> None:
        """Do nothing."""


_NOTHING: Final = _Nothing()


@dataclass(frozen=True, slots=True)
class _Plan(Generic[_Shown]):
    """A search that has been checked, of one generation of its collection."""

    collection: OpenCollection
    query: Query
    scope: PageScope
    """Makes the token of the next page."""
    started: float
    """``time.perf_counter()`` when the engine was asked."""
    present: Callable[[SearchPage], _Shown]

    def answer(
        self, embedded: EmbeddedText | None, embed_seconds: float
    ) -> tuple[SearchResult, _Shown]:
        """Search, and present the page; blocking.

        Args:
            embedded: the query's text; None if it has none.
            embed_seconds: how long embedding took.
        """
        searcher, query = self.collection.searcher, self.query
        result = searcher.search(query, embedded, embed_seconds=embed_seconds)
        token = self.scope.token_after(query.seen | {*result.entries}) if result.more else ""
        seconds = time.perf_counter() - self.started
        page = SearchPage(self.collection.name, self.collection.info, result, token, seconds)
        return result, self.present(page)


def _plan(
    search: Search,
    collection: OpenCollection,
    started: float,
    present: Callable[[SearchPage], _Shown],
) -> _Plan[_Shown]:
    """Check a search, and find out where its page starts.

    Raises:
        InvalidArgument: a value is out of range, or the page token is of another request.
        UnexpectedModel: the query expects another model than the collection's.
        StaleGeneration: the page token is of another index.
    """
    scope = PageScope(search.same, collection.info.index_id)
    query = search.query
    if search.page_token:
        seen = scope.entries(search.page_token)
        query = replace(query, offset=len(seen), seen=seen)
    check_query(query, with_filter=False)
    check_model(query, collection.info.model)
    return _Plan(collection, query, scope, started, present)


def _begin(call: Call, scope: Scope) -> None:
    """Let a request in, and tell its deadline and turn to all that works for it.

    Both travel in context variables, which tasks and threads that the request starts inherit.

    Raises:
        PermissionDenied: the caller lacks the scope.
    """
    call.caller.check_scope(scope)
    answer_by.set(call.answer_by)
    turn_of.set(call.turn)


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


def _check_dimensions(model: LoadedModel, dimensions: int) -> None:
    """Refuse a number of components that the model's vectors can't have.

    Raises:
        InvalidArgument: the model was not trained for that many.
    """
    possible = model.for_queries.dimensions
    if dimensions and dimensions not in possible:
        *shorter, whole = map(str, possible)
        raise InvalidArgument(
            f"dimensions is {dimensions}; vectors of {model.identity.name} have "
            + (
                f"{', '.join(shorter)} or {whole}"
                if shorter
                else f"{whole}, because the model was not trained for shorter ones"
            ),
            field="dimensions",
        )


def _reranker_info(reranker: "Reranker | None") -> RerankerInfo | None:
    return RerankerInfo(reranker.name, reranker.max_tokens) if reranker else None


def _check_batch_size(count: int, maximum: int, *, field: str) -> None:
    """Refuse a batch that is empty or too large.

    Raises:
        InvalidArgument: no item, or more than ``maximum``.
    """
    if not 1 <= count <= maximum:
        raise InvalidArgument(
            f"{field} has {counted(count, 'item')}; it must have from 1 to {maximum}", field=field
        )


def _parts_of_about(texts: Sequence[str], chars: int) -> Iterator[list[str]]:
    """Cut a list of texts into parts of at most ``chars`` characters, or of one longer text."""
    part: list[str] = []
    size = 0
    for text in texts:
        if part and size + len(text) > chars:
            yield part
            part, size = [], 0
        part.append(text)
        size += len(text)
    if part:
        yield part


def _read_skipped(reader: Reader, limit: int, after: str) -> tuple[list[Skipped], dict[str, int]]:
    return reader.skipped(limit, after), reader.skip_counts()


def _read_document(
    collection: OpenCollection,
    name: DocumentName | DocumentUri,
    text: TextRange | None,
    most_chars: int | None,
) -> tuple[DocumentRow, TextPart | None]:
    reader = collection.reader
    if isinstance(name, DocumentUri):
        row = reader.document_by_uri(name.uri)
    else:
        row = reader.document(name.document_id)
    return row, None if text is None else reader.text_part(row.id, text, most_chars)


def _list_documents(
    collection: OpenCollection, limit: int, after_uri: str, filter: str, count: bool
) -> tuple[list[DocumentRow], DocumentCounts | None, tuple[str, ...]]:
    """Read documents in order of URI, count all of them if wanted, and warn about the filter."""
    reader = collection.reader
    parsed = parse_filter(filter) if filter else None
    warnings = filter_warnings(reader, parsed) if parsed else ()
    rows = reader.documents(limit, after_uri, parsed)
    return rows, reader.count_documents(parsed) if count else None, tuple(warnings)


def _read_passage(
    collection: OpenCollection, name: PassageName, before: int, after: int
) -> tuple[list[Passage], Passage]:
    """Read a passage's neighbours, in the document's order, and the passage itself."""
    reader, place = collection.reader, (name.document_id, name.ordinal)
    around = reader.neighbours(*place, before=before, after=after)
    return around, reader.passage(*place)
