"""Search an index in this process, with its own model."""

import time
from pathlib import Path

from retrieval.search import EmbeddedQuery, PairScorer, Query, Searcher, SearchResult, check_query
from retrieval.store import IndexReader


def search_index(
    index: Path,
    query: Query,
    *,
    model: str | None = None,
    device: str = "auto",
    query_dtype: str = "auto",
    reranker: str | None = None,
) -> SearchResult:
    """Open an index, load its model, answer one query.

    Args:
        index: the index's folder.
        query: what is asked.
        model: where the index's model is now, if it has moved.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        query_dtype: type of the weights for the query; see ``retrieval.encoder.load_for_index``.
        reranker: cross-encoder for a query that asks for reranking.

    Raises:
        InvalidArgument: a value of the query is out of range.
        NotAnIndex, IndexDamaged, IndexVersionError: the index can't be read.
        ModelNotFound, CheckpointError, ModelMismatch: its model can't be used.
    """
    check_query(query)
    with IndexReader.open(index) as reader:
        searcher = Searcher(reader, _load_reranker(reranker, device) if query.rerank_top else None)
        if not query.needs_embedding or query.text is None:
            return searcher.search(query)
        from retrieval.encoder import load_for_index  # loads torch

        encoder = load_for_index(
            reader.info.model, model=model, device=device, dtype=query_dtype, workload="latency"
        )
        started = time.perf_counter()
        made = encoder.embed([query.text], "query")
        embedded = EmbeddedQuery(made.vectors[0], made.token_counts[0], made.truncated[0])
        return searcher.search(query, embedded, embed_seconds=time.perf_counter() - started)


def _load_reranker(name: str | None, device: str) -> PairScorer | None:
    if name is None:
        return None
    from retrieval.reranker import Reranker  # loads torch

    return Reranker.load(name, device=device)
