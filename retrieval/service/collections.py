"""The open indexes: name → one generation, swapped on reload under the feet of no request."""

import asyncio
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from retrieval.errors import NotFound, NotServing
from retrieval.records import ModelIdentity, TextKind
from retrieval.search import EmbeddedQuery, Searcher
from retrieval.service.batcher import Batcher, TextEmbedding
from retrieval.service.config import ServiceConfig
from retrieval.service.query_cache import QueryCache
from retrieval.store import IndexInfo, IndexReader

if TYPE_CHECKING:
    from retrieval.encoder import Encoder

LOG = logging.getLogger(__name__)


class OpenCollection:
    """One generation of a collection, with its model; closed when nobody holds it any more."""

    def __init__(
        self, name: str, reader: IndexReader, encoder: "Encoder", batcher: Batcher
    ) -> None:
        """Take over an open reader; the caller is the first to hold it.

        Args:
            name: the collection's own name.
            reader: closed with the last ``release``.
            encoder: the model that the index was made with.
            batcher: what the encoder may be run through.
        """
        self.name = name
        self.reader = reader
        self.encoder = encoder
        self.searcher = Searcher(reader, QueryCache(self._embed_queries))
        self._batcher = batcher
        self._lock = threading.Lock()
        self._holders = 1

    @property
    def info(self) -> IndexInfo:
        """Generation, model and sizes of the index."""
        return self.reader.info

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

    def embed(self, texts: Sequence[str], kind: TextKind) -> list[TextEmbedding]:
        """Embed texts with the collection's model; blocks, see ``Batcher.embed``."""
        return self._batcher.embed(self.encoder, texts, kind)

    def _embed_queries(self, texts: Sequence[str]) -> list[EmbeddedQuery]:
        return [
            EmbeddedQuery(text.vector, text.token_count, text.truncated)
            for text in self.embed(texts, "query")
        ]


class Collections:
    """All collections of a server. Opening blocks; the rest belongs to the event loop."""

    def __init__(self, config: ServiceConfig, batcher: Batcher) -> None:
        """Open nothing yet.

        Args:
            config: says which indexes there are and where their model is.
            batcher: shared by all collections.
        """
        self._config = config
        self._batcher = batcher
        self._open: dict[str, OpenCollection] = {}
        self._encoders: dict[str, Encoder] = {}
        self._reloading = asyncio.Lock()

    @property
    def names(self) -> list[str]:
        """The collections' own names, sorted."""
        return sorted(self._config.indexes)

    async def open_all(self) -> None:
        """Open every index and load its model; one model for all indexes that were made with it.

        Raises:
            RetrievalError: an index or model can't be used.
        """
        for name in self.names:
            self._open[name] = await asyncio.to_thread(self._open_newest, name)

    @contextmanager
    def use(self, name: str) -> Iterator[OpenCollection]:
        """The collection's present generation, kept open while the block runs.

        Args:
            name: the collection's own name.

        Raises:
            NotFound: the server has no such collection.
        """
        collection = self._open.get(name)
        if collection is None:
            raise NotFound(
                f"no collection {name!r}; this server has: {', '.join(self.names)}",
                collection=name,
            )
        collection.hold()
        try:
            yield collection
        finally:
            collection.release()

    async def reload(self, name: str) -> None:
        """Answer from the newest generation of a collection from now on.

        After an error the collection is as it was.

        Args:
            name: a collection's own name that ``use`` knows.

        Raises:
            RetrievalError: the index or its model can't be used.
        """
        # A client that goes away must not leave an index open that nobody knows of.
        await asyncio.shield(asyncio.create_task(self._reload(name)))

    async def _reload(self, name: str) -> None:
        async with self._reloading:
            fresh = await asyncio.to_thread(self._open_newest, name)
            old = self._open.get(name)
            if old is None:
                fresh.release()
                raise NotServing("the server shut down before the collection was reloaded")
            self._open[name] = fresh
            LOG.info("%s: generation %d → %d", name, old.info.generation, fresh.info.generation)
            old.release()
            in_use = {other.info.model.fingerprint for other in self._open.values()}
            for fingerprint in set(self._encoders) - in_use:
                del self._encoders[fingerprint]

    def close(self) -> None:
        """Let go of all collections; those in use by a thread close when it is done."""
        while self._open:
            _name, collection = self._open.popitem()
            collection.release()

    def _open_newest(self, name: str) -> OpenCollection:
        folder: Path = self._config.indexes[name]
        reader = IndexReader.open(folder)
        try:
            encoder = self._encoder_for(reader.info.model)
            return OpenCollection(name, reader, encoder, self._batcher)
        except BaseException:
            reader.close()
            raise

    def _encoder_for(self, model: ModelIdentity) -> "Encoder":
        encoder = self._encoders.get(model.fingerprint)
        if encoder is None:
            # Loads torch: seconds that a mistyped folder's error need not wait for.
            from retrieval.encoder import load_for_index

            config = self._config
            encoder = load_for_index(
                model, model=config.model, device=config.device, dtype=config.query_dtype
            )
            self._encoders[model.fingerprint] = encoder
        return encoder
