"""The open indexes, one generation each. A reload does not disturb requests in flight.

A new generation takes over what it shares with the old one: open files, and the vectors of queries.
Nothing here may be part of a reference cycle: a generation's memory must be freed with the last
request that uses it, and not only when the garbage collector runs.
"""

import asyncio
import logging
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING

from retrieval.domain.records import ModelIdentity
from retrieval.domain.resource_names import DEFAULT_COLLECTION
from retrieval.domain.wording import counted
from retrieval.errors import (
    AlreadyExists,
    InvalidArgument,
    NotFound,
    NotServing,
    PermissionDenied,
    RetrievalError,
)
from retrieval.search import Searcher
from retrieval.service.access.callers import Caller
from retrieval.service.collections.models import LoadedModel, Models, ModelUser, OfferedModel
from retrieval.service.collections.query_cache import QueryCache
from retrieval.service.config import ServiceConfig
from retrieval.service.observability.metrics import Metrics
from retrieval.service.scheduling.batcher import Batcher
from retrieval.store import (
    IndexInfo,
    Location,
    Reader,
    Version,
    open_reader,
    recall_warnings,
)

if TYPE_CHECKING:
    from retrieval.encoding.reranker import Reranker

LOG = logging.getLogger(__name__)


class OpenCollection:
    """One generation of a collection with its model; closed once nobody holds it."""

    def __init__(
        self,
        name: str,
        reader: Reader,
        model: LoadedModel,
        *,
        reranker: "Reranker | None",
        embed_queries: QueryCache,
    ) -> None:
        """Take over an open reader, held once by whoever makes this.

        Args:
            name: the collection's own name.
            reader: closed by the last ``release``.
            model: that made the index.
            reranker: shared by all collections; None if there is none.
            embed_queries: embeds queries with the same model; outlives the generation.
        """
        self.name = name
        self.reader = reader
        self.model = model
        self.searcher = Searcher(reader, reranker)
        self.embed_queries = embed_queries
        self._lock = threading.Lock()
        self._holders = 1

    @property
    def info(self) -> IndexInfo:
        """The index's generation, model and sizes."""
        return self.reader.info

    def hold(self) -> None:
        """Keep it open until ``release``; call this only while it is known to be open."""
        with self._lock:
            self._holders += 1

    def release(self) -> None:
        """Undo one ``hold``, in any thread; the last ``release`` closes the reader."""
        with self._lock:
            self._holders -= 1
            last = self._holders == 0
        if last:
            self.reader.close()


class Collections:
    """All collections of a server; belongs to the event loop."""

    def __init__(
        self,
        config: ServiceConfig,
        batcher: Batcher,
        metrics: Metrics,
        on_opened: Callable[[str], Awaitable[None]],
        on_removed: Callable[[str], Awaitable[None]],
    ) -> None:
        """Open nothing yet.

        Args:
            config: names the indexes and their model.
            batcher: shared by all collections.
            metrics: record what is served, and failed reloads.
            on_opened: called with the name of a collection that a reload opens for the first time.
            on_removed: called with the name of a collection that the server no longer has.
        """
        self._on_opened = on_opened
        self._on_removed = on_removed
        self._locations = {name: Location.parse(at) for name, at in config.indexes.items()}
        self._config = config
        self._metrics = metrics
        for name in config.indexes:
            metrics.has(name)
        self._open: dict[str, OpenCollection] = {}
        self._models = Models(config, batcher)
        self._reranker: Reranker | None = None
        self._reloading: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._reloads = 0
        """Reloads under way."""
        self._changing: set[str] = set()
        self._closed = False

    @property
    def reranker(self) -> "Reranker | None":
        """The model that reranks; None if there is none."""
        return self._reranker

    @property
    def names(self) -> list[str]:
        """The collections' own names, sorted."""
        return sorted(self._locations)

    def location(self, name: str) -> Location | None:
        """Return where a collection's index is; None if the server has no such collection."""
        return self._locations.get(name)

    def visible(self, caller: Caller) -> list[str]:
        """Return the own names of the open collections that a caller may see, sorted."""
        return [name for name in sorted(self._open) if caller.sees(name)]

    def generation(self, name: str) -> int:
        """Return the generation that a collection answers from; 0 if it could not be opened."""
        collection = self._open.get(name)
        return collection.info.generation if collection else 0

    def look(self, name: str) -> Version | None:
        """Return what identifies the generation of an open collection; None if it isn't open."""
        collection = self._open.get(name)
        return collection.reader.version if collection else None

    async def open_all(self) -> None:
        """Load the models to serve, open every index and load its model; equal models are one.

        An index that can't be opened is logged and left out, as long as another one can be served.

        Raises:
            RetrievalError: a model to serve can't be used, or no index; the error of the first one.
        """
        if self._config.reranker is not None:
            self._reranker = await asyncio.to_thread(self._load_reranker, self._config.reranker)
        await asyncio.to_thread(self._models.load_given)
        errors: dict[str, RetrievalError] = {}
        for name in self.names:
            try:
                opened = await asyncio.to_thread(self._open_newest, name, self._locations[name])
            except RetrievalError as error:
                errors[name] = error
            else:
                self._open[name] = opened
                self._metrics.serves(name, opened.info)
        if errors and not self._open and not self._may_start_empty:
            raise next(iter(errors.values()))
        for name, reason in errors.items():
            LOG.error("collection %s is not served: %s", name, reason.message)
        if not self._open:
            # Seconds that the client which creates the first collection would have to wait.
            await asyncio.to_thread(import_module, "retrieval.encoding.encoder")

    @property
    def _may_start_empty(self) -> bool:
        return self._config.writing is not None and self._config.writing.data is not None

    @contextmanager
    def use(self, name: str, caller: Caller) -> Iterator[OpenCollection]:
        """Keep the collection's present generation open while the block runs.

        Args:
            name: the collection's own name.
            caller: who uses it.

        Raises:
            NotFound: the server has no such collection.
            NotServing: the collection could not be opened.
            PermissionDenied: the caller's token is not for it, whether it exists or not.
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

    def models(self, caller: Caller) -> list[OfferedModel]:
        """Return the models that a caller may use.

        Models that the server was started with are for everyone, those of a collection are for
        callers that see the collection.
        """
        visible = [self._open[name] for name in self.visible(caller)]
        return self._models.offered(
            [ModelUser(one.name, one.info.model, one.model) for one in visible]
        )

    @property
    def given_models(self) -> list[ModelIdentity]:
        """The models that the server was started with."""
        return [model.identity for model in self._models.given]

    def model(self, collection: str, name: str, caller: Caller) -> LoadedModel:
        """Return the model of a collection, or of a name.

        Args:
            collection: its own name; empty for the default collection or, without one, for the
                first model that the server was started with.
            name: of the model; empty for that of the collection.
            caller: who uses it.

        Raises:
            InvalidArgument: both are given, or the name is ambiguous.
            UnknownModel: the caller may use no model of that name.
            RetrievalError: see ``use``.
        """
        if name and collection:
            raise InvalidArgument("give a collection or a model, not both", field="model")
        if name:
            return self._models.find(name, self.models(caller))
        given = self._models.given
        if given and not collection and DEFAULT_COLLECTION not in self._locations:
            return given[0]
        with self.use(collection or DEFAULT_COLLECTION, caller) as opened:
            return opened.model

    def check(self, name: str, caller: Caller) -> None:
        """Refuse a collection that does not exist or that the caller may not see.

        Raises:
            NotFound: the server has no such collection.
            PermissionDenied: the caller's token is not for it, whether it exists or not.
        """
        if not caller.sees(name):
            raise PermissionDenied(
                f"this token is not for collection {name!r}; it sees: {self._shown(caller)}",
                collection=name,
            )
        if name not in self._locations:
            raise NotFound(f"no collection {name!r}{self._instead(caller)}", collection=name)

    def _instead(self, caller: Caller) -> str:
        """Return what the server has in place of a collection that it lacks, for an error."""
        if self._models.given and not self._locations and not self._may_start_empty:
            return (
                ": this server has models alone, and no collection to search; "
                "`retrieval serve --index` serves one"
            )
        return f"; this server has: {self._shown(caller)}"

    def _shown(self, caller: Caller) -> str:
        return ", ".join(self.visible(caller)) or "none"

    @contextmanager
    def changing(self, name: str) -> Iterator[None]:
        """Say that a client creates or deletes a collection while the block runs."""
        self._changing.add(name)
        try:
            yield
        finally:
            self._changing.discard(name)

    def is_changing(self, name: str) -> bool:
        """Return whether a client creates or deletes a collection at this moment."""
        return name in self._changing

    async def add(self, name: str, location: Location) -> None:
        """Serve one more collection from now on.

        Args:
            name: its own name, which no collection has.
            location: of its index.

        Raises:
            RetrievalError: the index or its model can't be used; the collection is not added.
        """
        if name in self._locations:
            raise AlreadyExists(f"there is a collection {name!r}", collection=name)
        self._metrics.has(name)
        try:
            fresh = await asyncio.to_thread(self._open_newest, name, location)
        except BaseException:
            self._metrics.forget(name)
            raise
        if self._closed or name in self._locations:
            fresh.release()
            raise NotServing("the server shut down before the collection was added")
        self._locations[name] = location
        await self._serve(name, fresh, logging.INFO)

    async def remove(self, name: str) -> None:
        """Serve a collection no longer; requests in flight finish on it."""
        self._locations.pop(name, None)
        collection = self._open.pop(name, None)
        if collection is not None:
            collection.release()
        self._metrics.forget(name)
        self._drop_unused_models()
        await self._on_removed(name)

    async def reload(self, name: str, *, level: int = logging.INFO) -> None:
        """Answer from the newest generation of a collection from now on.

        After an error the collection stays as it was.

        Args:
            name: own name of a collection, open or not.
            level: of the line in the log.

        Raises:
            RetrievalError: the index or its model can't be used.
        """
        # A client that goes away must not leave an index open that nothing refers to.
        await asyncio.shield(asyncio.create_task(self._reload(name, level)))

    async def _reload(self, name: str, level: int) -> None:
        async with self._reloading[name]:
            location = self._locations.get(name)
            if location is None:
                raise NotFound(f"no collection {name!r}", collection=name)
            self._reloads += 1
            try:
                fresh = await asyncio.to_thread(self._open_newest, name, location)
            except BaseException:
                if name in self._locations:
                    self._metrics.reload_failed(name)
                raise
            finally:
                self._reloads -= 1
            if self._closed or self._locations.get(name) is not location:
                fresh.release()
                why = "the server shut down" if self._closed else "the collection was deleted"
                raise NotServing(f"{why} before the collection was reloaded")
            await self._serve(name, fresh, level)

    async def _serve(self, name: str, fresh: OpenCollection, level: int) -> None:
        """Answer from an opened generation from now on."""
        old = self._open.get(name)
        another = old is not None and old.info.index_id != fresh.info.index_id
        LOG.log(
            level,
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
        self._drop_unused_models()

    def _drop_unused_models(self) -> None:
        """Forget the models that no open collection uses, unless a reload may be about to."""
        if self._reloads:
            return
        self._models.keep(other.info.model.fingerprint for other in self._open.values())

    def close(self) -> None:
        """Release all collections; one that a thread uses closes when the thread is done."""
        self._closed = True
        while self._open:
            _name, collection = self._open.popitem()
            collection.release()

    def _open_newest(self, name: str, location: Location) -> OpenCollection:
        old = self._open.get(name)
        reader = open_reader(location, before=old.reader if old else None)
        if not reader.has_lexical_index:
            LOG.warning(
                "collection %s is searched by vectors alone, because an older version indexed its "
                "words: run `indexer build` on its documents once",
                name,
            )
        _warn_of_recall(name, reader)
        try:
            model = self._models.for_index(reader.info.model)
            if old is not None and old.model is model:
                embed_queries = old.embed_queries
            else:
                embed_queries = QueryCache(model.embed_queries, metrics=self._metrics)
            return OpenCollection(
                name,
                reader,
                model,
                reranker=self._reranker,
                embed_queries=embed_queries,
            )
        except BaseException:
            reader.close()
            raise

    def _load_reranker(self, name: str) -> "Reranker":
        from retrieval.encoding.reranker import Reranker  # loads torch

        return Reranker.load(name, device=self._config.device)


def _warn_of_recall(name: str, reader: Reader) -> None:
    """Log one line if an approximate index of a collection misses its target recall."""
    first, *more = [*recall_warnings(reader.segments(), reader.info.target_recall)] or [""]
    if first:
        others = f" (`indexer status` names {counted(len(more), 'more segment')})" if more else ""
        LOG.warning("collection %s: %s%s", name, first, others)
