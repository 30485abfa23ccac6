"""The open indexes: name → one generation. A reload disturbs no request in flight.

A generation takes over from the one before what both have: open files, and the vectors of queries.
Nothing here may be part of a cycle of references: a generation's memory is free with the last
request that uses it, not when the collector of cycles comes by.
"""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from retrieval.domain.records import ModelIdentity, TextKind
from retrieval.domain.wording import counted
from retrieval.errors import NotFound, NotServing, PermissionDenied, RetrievalError
from retrieval.search import EmbeddedText, Searcher
from retrieval.service.access.callers import Caller
from retrieval.service.collections.query_cache import QueryCache
from retrieval.service.config import ServiceConfig
from retrieval.service.observability.metrics import Metrics
from retrieval.service.scheduling.batcher import Batcher
from retrieval.store import IndexInfo, Reader, Version, open_reader, recall_warnings

if TYPE_CHECKING:
    from retrieval.encoding.encoder import Encoder
    from retrieval.encoding.reranker import Reranker
    from retrieval.encoding.tokenizer import Tokenizer
    from retrieval.gte import Workload

LOG = logging.getLogger(__name__)


class IndexModel:
    """The model that an index was made with, in one type of weights for queries, one for passages.

    Passages always get the index's own, so that their vectors are what a build would make; where
    queries get another, the model is loaded once more when the first passage comes.
    """

    def __init__(self, identity: ModelIdentity, config: ServiceConfig) -> None:
        """Load the model for queries; see ``load_for_index`` for the errors."""
        self._identity = identity
        self._config = config
        self._loading = threading.Lock()
        self.for_queries = self._load(config.query_dtype, "latency")
        _ = self.for_queries.query_on_one_core  # tried now, while nobody waits
        same = self.for_queries.dtype == identity.dtype
        self.loaded_for_passages = self.for_queries if same else None

    def load_for_passages(self) -> "Encoder":
        """The model in the index's type, loaded once; for any thread but the event loop's."""
        with self._loading:
            if self.loaded_for_passages is None:
                self.loaded_for_passages = self._load("index", "throughput")
            return self.loaded_for_passages

    def _load(self, dtype: str, workload: "Workload") -> "Encoder":
        # Loads torch: seconds that a mistyped folder's error need not wait for.
        from retrieval.encoding.encoder import load_for_index

        config = self._config
        return load_for_index(
            self._identity,
            model=config.model,
            device=config.device,
            dtype=dtype,
            workload=workload,
        )


class OpenCollection:
    """One generation of a collection, with its model; closed when nobody holds it any more."""

    def __init__(
        self,
        name: str,
        reader: Reader,
        model: IndexModel,
        *,
        reranker: "Reranker | None",
        batcher: Batcher,
        embed_queries: QueryCache,
    ) -> None:
        """Take over an open reader; the caller is the first to hold it.

        Args:
            name: the collection's own name.
            reader: closed with the last ``release``.
            model: the one that the index was made with.
            reranker: for searches that ask for it, shared by all collections.
            batcher: what the model may be run through.
            embed_queries: embeds with the same model; outlives the generation.
        """
        self.name = name
        self.reader = reader
        self._model = model
        self.searcher = Searcher(reader, reranker)
        self.embed_queries = embed_queries
        self._batcher = batcher
        self._lock = threading.Lock()
        self._holders = 1

    @property
    def info(self) -> IndexInfo:
        """Generation, model and sizes of the index."""
        return self.reader.info

    @property
    def tokenizer(self) -> "Tokenizer":
        """The model's own; the same for queries and passages."""
        return self._model.for_queries.tokenizer

    def hold(self) -> None:
        """Keep it open until ``release``; only for a caller that knows it to be open."""
        with self._lock:
            self._holders += 1

    def release(self) -> None:
        """Undo one ``hold``, in any thread; the last one closes the reader."""
        with self._lock:
            self._holders -= 1
            last = self._holders == 0
        if last:
            self.reader.close()

    def uses(self, model: IndexModel) -> bool:
        """Whether the collection was made with this model, as it is loaded."""
        return self._model is model

    async def embed(self, texts: Sequence[str], kind: TextKind) -> list[EmbeddedText]:
        """Embed texts with the collection's model; see ``Batcher.embed``."""
        return await _embed(self._model, self._batcher, kind, texts)


async def _embed(
    model: IndexModel, batcher: Batcher, kind: TextKind, texts: Sequence[str]
) -> list[EmbeddedText]:
    encoder = model.for_queries if kind == "query" else model.loaded_for_passages
    if encoder is None:
        encoder = await asyncio.to_thread(model.load_for_passages)
    return await batcher.embed(encoder, texts, kind)


class Collections:
    """All collections of a server. Opening blocks; the rest belongs to the event loop."""

    def __init__(
        self,
        config: ServiceConfig,
        batcher: Batcher,
        metrics: Metrics,
        on_opened: Callable[[str], Awaitable[None]],
    ) -> None:
        """Open nothing yet.

        Args:
            config: says which indexes there are and where their model is.
            batcher: shared by all collections.
            metrics: told what is served.
            on_opened: told of a collection that could not be opened before, and now is.
        """
        self._on_opened = on_opened
        self._config = config
        self._batcher = batcher
        self._metrics = metrics
        for name in config.indexes:
            metrics.has(name)
        self._open: dict[str, OpenCollection] = {}
        self._models: dict[str, IndexModel] = {}
        self._reranker: Reranker | None = None
        self._reloading = asyncio.Lock()
        self._closed = False

    @property
    def names(self) -> list[str]:
        """The collections' own names, sorted."""
        return sorted(self._config.indexes)

    def visible(self, caller: Caller) -> list[str]:
        """Return the own names of the open collections that a caller may see, sorted."""
        return [name for name in sorted(self._open) if caller.sees(name)]

    def generation(self, name: str) -> int:
        """The generation of a collection that is answered from; 0: none, it could not be opened."""
        collection = self._open.get(name)
        return collection.info.generation if collection else 0

    def look(self, name: str) -> Version | None:
        """What tells the generation that is answered from; None: it could not be opened."""
        collection = self._open.get(name)
        return collection.reader.version if collection else None

    async def open_all(self) -> None:
        """Open every index and load its model; one model for all indexes that were made with it.

        What can't be opened is logged and left out, as long as there is something to serve.

        Raises:
            RetrievalError: no index at all can be used; that of the first.
        """
        if self._config.reranker is not None:
            self._reranker = await asyncio.to_thread(self._load_reranker, self._config.reranker)
        errors: dict[str, RetrievalError] = {}
        for name in self.names:
            try:
                opened = await asyncio.to_thread(self._open_newest, name)
            except RetrievalError as error:
                errors[name] = error
            else:
                self._open[name] = opened
                self._metrics.serves(name, opened.info)
        if errors and not self._open:
            raise next(iter(errors.values()))
        for name, reason in errors.items():
            LOG.error("collection %s is not served: %s", name, reason.message)

    @contextmanager
    def use(self, name: str, caller: Caller) -> Iterator[OpenCollection]:
        """Keep the collection's present generation open while the block runs.

        Args:
            name: the collection's own name.
            caller: who uses it.

        Raises:
            NotFound: the server has no such collection.
            NotServing: it has, but could not open it.
            PermissionDenied: the caller's token is not for it, whether it is there or not.
        """
        self.check(name, caller)
        collection = self._open.get(name)
        if collection is None:
            raise NotServing(f"collection {name!r} can't be opened: the server's log says why")
        collection.hold()
        try:
            yield collection
        finally:
            collection.release()

    def check(self, name: str, caller: Caller) -> None:
        """Refuse a collection that is not there, or not for the caller.

        Raises:
            NotFound: the server has no such collection.
            PermissionDenied: the caller's token is not for it, whether it is there or not.
        """
        if not caller.sees(name):
            raise PermissionDenied(
                f"this token is not for collection {name!r}; it sees: {self._shown(caller)}",
                collection=name,
            )
        if name not in self._config.indexes:
            raise NotFound(
                f"no collection {name!r}; this server has: {self._shown(caller)}", collection=name
            )

    def _shown(self, caller: Caller) -> str:
        return ", ".join(self.visible(caller)) or "none"

    async def reload(self, name: str) -> None:
        """Answer from the newest generation of a collection from now on.

        After an error the collection is as it was.

        Args:
            name: the own name of a collection that the server has, open or not.

        Raises:
            RetrievalError: the index or its model can't be used.
        """
        # A client that goes away must not leave an index open that nobody knows of.
        await asyncio.shield(asyncio.create_task(self._reload(name)))

    async def _reload(self, name: str) -> None:
        async with self._reloading:
            try:
                fresh = await asyncio.to_thread(self._open_newest, name)
            except BaseException:
                self._metrics.reload_failed(name)
                raise
            if self._closed:
                fresh.release()
                raise NotServing("the server shut down before the collection was reloaded")
            old = self._open.get(name)
            another = old is not None and old.info.index_id != fresh.info.index_id
            LOG.info(
                "%s: generation %d → %d%s",
                name,
                self.generation(name),
                fresh.info.generation,
                f" of another index ({fresh.info.index_id})" if another else "",
            )
            self._open[name] = fresh
            self._metrics.serves(name, fresh.info)
            if old is None:
                await self._on_opened(name)
            else:
                old.release()
            in_use = {other.info.model.fingerprint for other in self._open.values()}
            for fingerprint in set(self._models) - in_use:
                del self._models[fingerprint]

    def close(self) -> None:
        """Let go of all collections; those in use by a thread close when it is done."""
        self._closed = True
        while self._open:
            _name, collection = self._open.popitem()
            collection.release()

    def _open_newest(self, name: str) -> OpenCollection:
        location = self._config.indexes[name]
        old = self._open.get(name)
        reader = open_reader(location, before=old.reader if old else None)
        if not reader.has_lexical_index:
            LOG.warning(
                "collection %s is searched by vectors alone: an older version indexed its words; "
                "run `indexer build` on its documents once",
                name,
            )
        _warn_of_recall(name, reader)
        try:
            model = self._model_for(reader.info.model)
            if old is not None and old.uses(model):
                embed_queries = old.embed_queries
            else:
                embed = partial(_embed, model, self._batcher, "query")
                embed_queries = QueryCache(embed, metrics=self._metrics)
            return OpenCollection(
                name,
                reader,
                model,
                reranker=self._reranker,
                batcher=self._batcher,
                embed_queries=embed_queries,
            )
        except BaseException:
            reader.close()
            raise

    def _load_reranker(self, name: str) -> "Reranker":
        from retrieval.encoding.reranker import Reranker  # loads torch

        return Reranker.load(name, device=self._config.device)

    def _model_for(self, identity: ModelIdentity) -> IndexModel:
        model = self._models.get(identity.fingerprint)
        if model is None:
            model = self._models[identity.fingerprint] = IndexModel(identity, self._config)
        return model


def _warn_of_recall(name: str, reader: Reader) -> None:
    """Log one line if an approximate index of a collection misses the wanted recall."""
    first, *more = [*recall_warnings(reader.segments(), reader.info.target_recall)] or [""]
    if first:
        others = f" (`indexer status` names {counted(len(more), 'more segment')})" if more else ""
        LOG.warning("collection %s: %s%s", name, first, others)
