"""Results of searches: passages, best first, and how they were found."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import overload

from retrieval.client.results.passages import passage_from
from retrieval.domain.passages import Passage, passage_as_json
from retrieval.v1 import search_service_pb2


def mode_name(mode: search_service_pb2.SearchMode.ValueType) -> str:
    """Return ``"dense"``, ``"lexical"``, ``"hybrid"``, or what a newer server calls its mode."""
    try:
        name = search_service_pb2.SearchMode.Name(mode)
    except ValueError:
        return str(mode)
    return name.removeprefix("SEARCH_MODE_").lower()


@dataclass(frozen=True, slots=True)
class SearchTimings:
    """Seconds that the server spent on a search, by stage."""

    embed: float
    """Getting the query's vector."""
    search: float
    """Comparing vectors and ranking passages."""
    fetch: float
    """Reading texts and metadata."""
    total: float
    """From the request's arrival to its answer."""
    rerank: float = 0.0
    """Reranking; included in ``search``."""


@dataclass(frozen=True, slots=True)
class SearchResults(Sequence[Passage]):
    """The passages of a search, best first, and how they were found.

    Names of passages are full resource names, ``collections/…/documents/…/passages/…``.
    """

    passages: tuple[Passage, ...]
    next_page_token: str
    """Asks for the next page; empty on the last one."""
    generation: int
    """Generation of the collection that was searched."""
    model_fingerprint: str
    query_token_count: int
    """Tokens that the model read of a text query; 0 for other queries."""
    query_truncated: bool
    """Whether the end of the query was cut off because it is too long for the model."""
    timings: SearchTimings
    mode: str
    """How the collection was searched: ``"dense"``, ``"lexical"`` or ``"hybrid"``."""
    rerank_truncated_count: int = 0
    """Number of texts whose end the reranker did not read."""
    warnings: tuple[str, ...] = ()
    """What is probably a mistake in the request, such as an unknown field in the filter."""

    @overload
    def __getitem__(self, index: int) -> Passage: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Passage, ...]: ...
    def __getitem__(self, index: int | slice) -> Passage | tuple[Passage, ...]:
        """Return the passage of a rank, counted from 0; or the passages of a slice."""
        return self.passages[index]

    def __len__(self) -> int:
        """Return the number of passages."""
        return len(self.passages)

    @classmethod
    def from_message(cls, message: search_service_pb2.SearchResponse) -> "SearchResults":
        """Return the record of a message."""
        timings = message.timings
        stages = (
            *(timings.embed, timings.search, timings.fetch),
            *(timings.total, timings.rerank),
        )
        return cls(
            passages=tuple(map(passage_from, message.passages)),
            next_page_token=message.next_page_token,
            generation=message.generation,
            model_fingerprint=message.model_fingerprint,
            query_token_count=message.query_token_count,
            query_truncated=message.query_truncated,
            timings=SearchTimings(*(stage.ToNanoseconds() / 1e9 for stage in stages)),
            mode=mode_name(message.mode),
            rerank_truncated_count=message.rerank_truncated_count,
            warnings=tuple(message.warnings),
        )


def results_as_json(results: SearchResults) -> dict[str, object]:
    """Return results as a JSON object, as ``retrieval search --json`` and the gateway show them."""
    return {
        "mode": results.mode,
        "generation": results.generation,
        "model_fingerprint": results.model_fingerprint,
        "query_token_count": results.query_token_count,
        "query_truncated": results.query_truncated,
        "rerank_truncated_count": results.rerank_truncated_count,
        "warnings": results.warnings,
        "seconds": asdict(results.timings),
        "passages": [passage_as_json(passage) for passage in results],
    }


@dataclass(frozen=True, slots=True)
class PassageStream(Iterator[Passage]):
    """Passages as they arrive, best first; can be read once."""

    passages: Iterator[Passage]
    generation: int
    model_fingerprint: str
    query_token_count: int
    query_truncated: bool
    mode: str
    """See ``SearchResults.mode``."""
    warnings: tuple[str, ...] = ()
    """See ``SearchResults.warnings``."""
    rerank_truncated_count: int = 0
    """See ``SearchResults.rerank_truncated_count``."""

    def __next__(self) -> Passage:
        """Return the next best passage.

        Raises:
            ServiceError: the server failed after it had begun to answer.
        """
        return next(self.passages)
