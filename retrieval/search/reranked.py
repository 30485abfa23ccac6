"""Rerank the best texts of a ranking with a cross-encoder."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from retrieval.domain.embedded_text import embedded_text_of
from retrieval.domain.passages import Hit, ScoreKind
from retrieval.search.ranking import Ranked, Ranking, keys_of, ordered
from retrieval.store import Filter, Reader


class PairScores(Protocol):
    """What a cross-encoder says of n passages; ``PairScores`` is one."""

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """[n], from 0 to 1."""
        ...

    @property
    def truncated(self) -> int:
        """Number of passages that were cut."""
        ...


class PairScorer(Protocol):
    """What reranking needs of a model; ``retrieval.encoding.reranker.Reranker`` is one."""

    def score(self, query: str, passages: Sequence[str]) -> PairScores:
        """Return how likely each passage answers a query."""
        ...


@dataclass
class Reranked:
    """By the probability that a text answers the query: the ``top`` best of another ranking.

    There are no others: the list ends with them.
    """

    first: Ranking
    reader: Reader
    model: PairScorer
    text: str
    """The query."""
    top: int
    filter: Filter | None
    kind: ScoreKind = field(default="rerank", init=False)
    seconds: float = field(default=0.0, init=False)
    """That the model took."""
    truncated: int = field(default=0, init=False)
    """Number of texts that the model read only in part."""

    def best(self, count: int) -> Ranked:
        """See ``Ranking``."""
        return self._all.first(count)

    def of(self, vector_ids: NDArray[np.int64], _text_ids: NDArray[np.int64]) -> Ranked:
        """See ``Ranking``."""
        return self._all.among(vector_ids)

    @cached_property
    def _all(self) -> Ranked:
        texts, hits = self._found()
        if not hits:
            return texts
        started = time.perf_counter()
        scores = self.model.score(self.text, self._read(hits))
        self.seconds = time.perf_counter() - started
        self.truncated = scores.truncated
        return ordered(texts._replace(scores=scores.probabilities), self.top)

    def _found(self) -> tuple[Ranked, list[Hit]]:
        """Return the texts, and where each stands first."""
        texts = self.first.best(self.top)
        keys = keys_of(texts)
        places = self.reader.first_places([[key] for key in keys], 1, self.filter)
        hits = [
            Hit(0.0, *standing[0], key.vector_id)
            for key, (standing,) in zip(keys, places, strict=True)
            if standing
        ]
        return texts.take(np.flatnonzero([bool(standing) for (standing,) in places])), hits

    def _read(self, hits: Sequence[Hit]) -> list[str]:
        """Return the texts, as they were embedded where they first stand."""
        context = self.reader.info.chunking.context
        return [
            embedded_text_of(one, title=one.title, context=context)
            for one in self.reader.passages(hits)
        ]
