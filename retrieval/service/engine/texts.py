"""Texts that are not in an index: embed them, count their tokens, order them by a query."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from retrieval.domain.records import ModelIdentity, TextKind
from retrieval.errors import InvalidArgument, NoReranker
from retrieval.search import EmbeddedText, Query, check_query
from retrieval.service.collections.models import LoadedModel, OfferedModel
from retrieval.service.collections.open_collections import Collections
from retrieval.service.config import Limits
from retrieval.service.engine.bounds import check_batch_size
from retrieval.service.engine.calls import Call
from retrieval.service.scheduling.pools import Pools

if TYPE_CHECKING:
    from retrieval.encoding.reranker import Reranker

_CHARS_AT_ONCE: Final = 65_536
"""Characters whose tokens are counted in one call. Between calls other requests take their turns,
and counting stops if the request was cancelled."""


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


class Texts:
    """Embeds, counts and reranks texts with the models of the server."""

    def __init__(self, collections: Collections, limits: Limits, pools: Pools) -> None:
        """Use the models of some collections, in the threads of some pools."""
        self._collections = collections
        self._limits = limits
        self._pools = pools

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
        call.begin("embed")
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
        call.begin("embed")
        self._check_texts(texts)
        used = self._collections.model(collection, model, call.caller)
        return TokenCounts(await self._count(used, texts), used.identity)

    def models(self, call: Call) -> OfferedModels:
        """Return the models that the caller may embed with, and the reranker."""
        call.begin("embed")
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
        call.begin("search")
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
        scores = await self._pools.rerank.run(_NOTHING, reranker.score, query, list(texts))
        order = np.argsort(-scores.probabilities, kind="stable")[: top_n or None]
        results = [(int(number), float(scores.probabilities[number])) for number in order]
        return Reranked(results, reranker.name, scores.truncated)

    def _check_texts(self, texts: Sequence[str]) -> None:
        """Refuse texts that are too many or too long.

        Raises:
            InvalidArgument: naming the first text that is too long, or the number of texts.
        """
        check_batch_size(len(texts), self._limits.batch_size, field="texts")
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
            counts += await self._pools.search.run(_NOTHING, model.tokenizer.count, part)
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
