"""All vectors of one generation: search, with or without a filter, and look-up."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import InvalidArgument
from retrieval.store.disk.files.single_flight import Once
from retrieval.store.disk.filtering.evaluation import FilterEvaluator, Rows
from retrieval.store.disk.id_set import IdSet
from retrieval.store.disk.vectors.segments import Chosen, Segment, VectorHits, search_segments
from retrieval.store.filters.language import Filter

_KEPT_BYTES: Final = 64 << 20
"""Maximum size of the filters that a generation remembers. At a million vectors a filter takes
250 KB (two bits a vector) to 1 MB (where it leaves just under a tenth: 8 bytes for each row)."""
_BYTES_BESIDE: Final = 2_000
"""Of a remembered filter, besides its arrays and its text."""

_CENTRE_ROWS = 512
"""Rows whose average stands for that of all; scores of hybrid search hardly tell the two apart."""


class Choice(NamedTuple):
    """What may be found."""

    rows: Sequence[Chosen | None]
    """Of each segment, which rows; None: all of them."""
    texts: IdSet | None
    """Which texts; None: all of them."""


class _Kept(NamedTuple):
    """A filter that was evaluated."""

    choice: Choice
    size: int
    """In bytes, its text included."""


class VectorIndex:
    """The segments of one generation; safe to share between threads."""

    def __init__(self, segments: Sequence[Segment], dim: int, rows: Rows) -> None:
        """Take over open segments.

        Args:
            segments: of the generation.
            dim: length of a vector.
            rows: reads the generation's tables.
        """
        self._segments = segments
        self._dim = dim
        self._evaluator = FilterEvaluator(rows)
        self._unfiltered = Choice([segment.choose(None) for segment in segments], None)
        self._filtered = Once[str, _Kept](_KEPT_BYTES, lambda kept: kept.size)

    @property
    def is_exact(self) -> bool:
        """Whether there is no approximate index: every search looks at every vector."""
        return all(segment.ann is None for segment in self._segments)

    def search(
        self, queries: NDArray[np.float32], k: int, *, where: Filter | None, exact: bool
    ) -> VectorHits:
        """Find each query's nearest vectors; see ``IndexReader.search_vectors``."""
        if queries.shape[1:] != (self._dim,):
            raise InvalidArgument(
                f"query vectors must be [n, {self._dim}], not {list(queries.shape)}",
                field="vector",
            )
        choice = self._unfiltered if where is None else self._choose(where)
        return search_segments(self._segments, queries, k, chosen=choice.rows, exact=exact)

    def allowed_texts(self, where: Filter | None) -> IdSet | None:
        """Which texts are those of a passage that passes; None: all of them."""
        return (self._unfiltered if where is None else self._choose(where)).texts

    def scores(
        self, query: NDArray[np.float32], vector_ids: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Inner products of a query and some vectors; see ``IndexReader.score_vectors``."""
        scores = np.full(len(vector_ids), -np.inf, dtype=np.float32)
        for inside, part in self._read(vector_ids):
            scores[inside] = part @ query
        return scores

    def vectors(self, vector_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Some vectors, float32 [n, dim]."""
        found = np.zeros((len(vector_ids), self._dim), dtype=np.float32)
        for inside, part in self._read(vector_ids):
            found[inside] = part
        return found

    def _read(
        self, vector_ids: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.float32]]]:
        """Segment by segment: bool [n], which of n vectors are in it, and these, [m, dim]."""
        for segment in self._segments:
            rows, inside = segment.rows_of(vector_ids)
            if len(rows):
                yield inside, segment.index.reconstruct_batch(rows)

    @cached_property
    def centre(self) -> NDArray[np.float32]:
        """About the average of all vectors, float32 [dim]."""
        total = sum(segment.index.ntotal for segment in self._segments)
        sums = np.zeros(self._dim)
        taken = 0
        for segment in self._segments:
            rows = segment.index.ntotal
            some = np.linspace(0, rows - 1, max(1, min(rows, _CENTRE_ROWS * rows // total)))
            sums += segment.index.reconstruct_batch(some.astype(np.int64)).sum(axis=0)
            taken += len(some)
        return (sums / max(1, taken)).astype(np.float32)

    def vector(self, vector_id: int) -> NDArray[np.float32] | None:
        """One vector, float32 [dim]; None: it is in none of the segments."""
        return next((part[0] for _, part in self._read(np.array([vector_id]))), None)

    def knows(self, filter_text: str) -> bool:
        """Whether a filter's result is remembered."""
        return filter_text in self._filtered

    def prepare(self, where: Filter) -> None:
        """Evaluate a filter and remember the result for searches; see ``IndexReader.prepare``."""
        self._choose(where)

    def _choose(self, where: Filter) -> Choice:
        """Which rows of each segment a filter lets through; the latest filters are remembered.

        Raises:
            DeadlinePassed: nobody waits for the answer any more.
        """
        return self._filtered.get(where.text, lambda: self._evaluate(where)).choice

    def _evaluate(self, where: Filter) -> _Kept:
        vector_ids, text_ids = self._evaluator.passages(where.tree)
        most = max((int(segment.vector_ids.max()) for segment in self._segments), default=0)
        vectors = _mask(vector_ids, most)
        texts = IdSet.from_mask(_mask(text_ids, int(text_ids.max(initial=0))))
        rows = [segment.choose(vectors) for segment in self._segments]
        size = sum(chosen.size for chosen in rows if chosen) + texts.bits.nbytes
        return _Kept(Choice(rows, texts), size + len(where.text) + _BYTES_BESIDE)


def _mask(ids: NDArray[np.int64], most: int) -> NDArray[np.bool_]:
    """Bool [most + 1]: which ids are among some."""
    mask = np.zeros(most + 1, dtype=bool)
    mask[ids] = True
    return mask
