"""Search in this process, without a server: an index, its model, and optionally a reranker."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from retrieval.search import EmbeddedText, PairScorer, Query, Searcher, SearchResult, check_query
from retrieval.store import LocationLike, Reader, open_reader

if TYPE_CHECKING:
    from retrieval.encoding.encoder import Encoder


class LocalSearch:
    """An open index with its model and reranker; made by ``open_local``."""

    def __init__(
        self,
        reader: Reader,
        *,
        model: str | None,
        device: str,
        query_dtype: str,
        reranker: PairScorer | None,
    ) -> None:
        """Prepare to load the index's model with the first query that needs it."""
        self._reader = reader
        self._searcher = Searcher(reader, reranker)
        self._model = model
        self._device = device
        self._query_dtype = query_dtype

    @property
    def reader(self) -> Reader:
        """The open index."""
        return self._reader

    def search(self, query: Query) -> SearchResult:
        """Answer one query; the first one that needs the index's model loads it.

        Raises:
            InvalidArgument: a value of the query is out of range.
            ModelNotFound, CheckpointError, ModelMismatch: the index's model can't be used.
            NoLexicalIndex, NoReranker: the query needs words or a reranker that are not there.
        """
        check_query(query)
        if not query.needs_embedding or query.text is None:
            return self._searcher.search(query)
        encoder = self._encoder
        started = time.perf_counter()
        made = encoder.embed([query.text], "query")
        embedded = EmbeddedText(made.vectors[0], made.token_counts[0], made.truncated[0])
        seconds = time.perf_counter() - started
        return self._searcher.search(query, embedded, embed_seconds=seconds)

    @cached_property
    def _encoder(self) -> "Encoder":
        from retrieval.encoding.encoder import load_for_index  # loads torch

        return load_for_index(
            self._reader.info.model,
            model=self._model,
            device=self._device,
            dtype=self._query_dtype,
            workload="latency",
        )


@contextmanager
def open_local(
    index: LocationLike,
    *,
    model: str | None = None,
    device: str = "auto",
    query_dtype: str = "auto",
    reranker: str | None = None,
) -> Iterator[LocalSearch]:
    """Open an index to search it in this process.

    Args:
        index: where the index is.
        model: where the index's model is now, if it has moved.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        query_dtype: type of the weights for queries; see ``load_for_index``.
        reranker: cross-encoder for queries that ask for reranking: a name, hub id or folder.

    Raises:
        NotAnIndex, IndexDamaged, IndexVersionError: the index can't be read.
        ModelNotFound, CheckpointError: the reranker can't be used.
    """
    with open_reader(index) as reader:
        scorer = None
        if reranker is not None:
            from retrieval.encoding.reranker import Reranker  # loads torch

            scorer = Reranker.load(reranker, device=device)
        yield LocalSearch(
            reader, model=model, device=device, query_dtype=query_dtype, reranker=scorer
        )
