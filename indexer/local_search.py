"""Search an index in this process, with its own model."""

from collections.abc import Sequence
from pathlib import Path

from retrieval.encoder import Encoder, load_for_index
from retrieval.search import EmbeddedQuery, Query, Searcher, SearchResult, check_query
from retrieval.store import IndexReader


def search_index(
    index: Path,
    query: Query,
    *,
    model: str | None = None,
    device: str = "auto",
    query_dtype: str = "auto",
) -> SearchResult:
    """Open an index, load its model, answer one query.

    Args:
        index: the index's folder.
        query: what is asked.
        model: where the index's model is now, if it has moved.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        query_dtype: type of the weights for the query; see ``retrieval.encoder.load_for_index``.

    Raises:
        InvalidArgument: a value of the query is out of range.
        NotAnIndex, IndexDamaged, IndexVersionError: the index can't be read.
        ModelNotFound, CheckpointError, ModelMismatch: its model can't be used.
    """
    check_query(query)
    with IndexReader.open(index) as reader:
        encoder = load_for_index(
            reader.info.model, model=model, device=device, dtype=query_dtype, workload="latency"
        )
        return Searcher(reader, lambda texts: _embed(encoder, texts)).search(query)


def _embed(encoder: Encoder, texts: Sequence[str]) -> list[EmbeddedQuery]:
    embedded = encoder.embed(texts, "query")
    rows = zip(embedded.vectors, embedded.token_counts, embedded.truncated, strict=True)
    return [EmbeddedQuery(*row) for row in rows]
