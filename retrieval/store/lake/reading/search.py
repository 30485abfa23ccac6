"""Search over the vectors of one generation, and the results of filters."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import faiss
import numpy as np
from numpy.typing import NDArray

from retrieval.domain.deadline import check_wanted
from retrieval.errors import InvalidArgument
from retrieval.store.disk.files.single_flight import Once
from retrieval.store.disk.id_set import IdSet
from retrieval.store.filters.language import Filter
from retrieval.store.lake.filtering import Stored, passing
from retrieval.store.lake.tables.generation import MATRIX_BYTES, Generation
from retrieval.store.lake.tables.keyed import Mask
from retrieval.store.lake.tables.schema import DOCUMENTS, VECTORS
from retrieval.store.lake.vectors.codes import Codes, Eligible
from retrieval.store.lake.vectors.making import TAIL_BYTES
from retrieval.store.records import VectorHits

_KEPT_BYTES: Final = 64 << 20
"""Maximum size of the filters that a generation caches."""
_BYTES_BESIDE: Final = 2_000
"""Approximate size of a cached filter besides its arrays and its text, in bytes."""
_CENTRE_ROWS: Final = 512
"""Number of vectors to average, as in the store on disk."""
_GATHERED: Final = 0.1
"""If less than this fraction of the rows is eligible, only these are read from the table."""
_FEW_ROWS: Final = 1_000
"""Up to this number of eligible rows, read and compare all of them instead of using the index. At a
million rows both take 25 ms; half of that is saved for each halving of the rows."""
_FEW_SHARE: Final = 0.001
"""The same as a fraction of the rows: with few eligible rows, the index compares all codes."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What passes a filter."""

    documents: Mask
    """Whether each document passes, by its id."""
    rows: Mask
    """Whether each row of vectors is eligible."""
    texts: IdSet
    """Ids of the eligible texts."""
    indexed: Eligible | None
    """The eligible rows of the approximate index, if there is one."""

    @property
    def size(self) -> int:
        """Size in bytes."""
        arrays = self.documents.nbytes + self.rows.nbytes + self.texts.bits.nbytes
        return arrays + (self.indexed.size if self.indexed else 0)


class VectorSearch:
    """Scores the vectors of one generation; safe to share between threads."""

    def __init__(self, generation: Generation) -> None:
        """Search a generation."""
        self._generation = generation
        self._dim = generation.pointer.model.dim
        self._filtered = Once[str, Choice](_KEPT_BYTES, lambda one: one.size + _BYTES_BESIDE)
        self._kept = Once[str, NDArray[np.float32]](1, lambda _: 1)

    def knows(self, filter_text: str) -> bool:
        """Whether the result of a filter is cached."""
        return filter_text in self._filtered

    def choose(self, filter: Filter) -> Choice:
        """Return what passes a filter, from the cache if possible.

        Raises:
            DeadlinePassed: no client waits for the answer any more.
        """
        return self._filtered.get(filter.text, lambda: self._evaluate(filter))

    def _evaluate(self, filter: Filter) -> Choice:
        generation = self._generation
        ids = generation.numbers(DOCUMENTS, "id")
        documents = np.zeros(int(ids.max(initial=0)) + 1, bool)
        documents[ids[passing(filter.tree, Stored(generation))]] = True
        places = generation.places
        chosen = documents[places.documents]
        texts = np.zeros(int(places.texts.max(initial=0)) + 1, bool)
        texts[places.texts[chosen]] = True
        rows = np.isin(generation.numbers(VECTORS, "id"), places.vectors[chosen])
        codes = self._codes
        indexed = codes.eligible(rows) if codes else None
        return Choice(documents, rows, IdSet.from_mask(texts), indexed)

    @cached_property
    def _codes(self) -> Codes | None:
        """The approximate index, if there is one."""
        generation, ann = self._generation, self._generation.pointer.ann
        if ann is None:
            return None
        layout = generation.layout(VECTORS)
        return Codes(
            generation.place,
            lambda read: generation.read_from(VECTORS, read),
            layout,
            ann,
            mapped=lambda: generation.mapped,
        )

    @cached_property
    def _unfiltered(self) -> Eligible | None:
        """The rows of the approximate index that a passage uses."""
        used = self._generation.used
        return self._codes.eligible(used) if self._codes else None

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        filter: Filter | None,
        *,
        exact: bool = False,
    ) -> VectorHits:
        """Find each query's nearest vectors; see ``Reader.search_vectors``.

        Raises:
            InvalidArgument: the queries have another shape.
            DeadlinePassed: no client waits for the answer any more.
        """
        if queries.shape[1:] != (self._dim,):
            raise InvalidArgument(
                f"query vectors must be [n, {self._dim}], not {list(queries.shape)}",
                field="vector",
            )
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        choice = None if filter is None else self.choose(filter)
        rows = self._generation.used if choice is None else choice.rows
        if not exact and self._codes is not None:
            indexed = self._unfiltered if choice is None else choice.indexed
            found = indexed and self._by_codes(self._codes, queries, k, indexed)
            if found:
                return self._merged(queries, k, found, self._beside(self._codes, rows))
        nothing = np.empty((len(queries), 0))
        none = VectorHits(nothing.astype(np.float32), nothing.astype(np.int64))
        return self._merged(queries, k, none, self._blocks(rows))

    def _by_codes(
        self, codes: Codes, queries: NDArray[np.float32], k: int, eligible: Eligible
    ) -> VectorHits | None:
        """Search the rows of the approximate index; return None if it is to be searched exactly."""
        if eligible.count <= max(_FEW_ROWS, _FEW_SHARE * codes.rows):
            return None
        ids = self._generation.numbers(VECTORS, "id")
        best = []
        for query in queries:
            check_wanted()
            rows, vectors = codes.propose(query, k, eligible)
            if len(rows) < min(k, eligible.count):
                return None
            scores, found = _nearest(query[None], vectors, k)
            best.append(_best(scores, ids[rows[found]], k))
        return VectorHits(*(np.concatenate(part) for part in zip(*best, strict=True)))

    def _merged(
        self,
        queries: NDArray[np.float32],
        k: int,
        best: VectorHits,
        blocks: Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]],
    ) -> VectorHits:
        """Search rows exactly, and merge what is found with what was found before."""
        ids = self._generation.numbers(VECTORS, "id")
        for rows, vectors in blocks:
            check_wanted()
            scores, found = _nearest(queries, vectors, k)
            best = _best(
                np.concatenate([best.scores, scores], axis=1),
                np.concatenate([best.vector_ids, ids[rows][found]], axis=1),
                k,
            )
        return best

    def _beside(
        self, codes: Codes, eligible: Mask
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Yield the eligible rows that are not in the approximate index, and their vectors."""
        rows = np.flatnonzero(~codes.covered)
        if not len(rows):
            return
        others = codes.other_fragments
        blocks = (
            [self._kept.get("beside", lambda: self._read_all(others))]
            if len(rows) * self._dim * 4 <= TAIL_BYTES
            else self._generation.blocks(others)
        )
        for block in blocks:
            here, rows = rows[: len(block)], rows[len(block) :]
            chosen = eligible[here]
            if chosen.any():
                yield here[chosen], block[chosen]

    def _blocks(self, eligible: Mask) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Yield the eligible rows and their vectors, block by block."""
        rows = np.flatnonzero(eligible)
        if not len(rows):
            return
        if len(eligible) * self._dim * 4 <= MATRIX_BYTES:
            matrix = self._generation.all_vectors()
            yield rows, matrix if len(rows) == len(eligible) else matrix[rows]
        elif len(rows) < _GATHERED * len(eligible):
            ids = self._generation.numbers(VECTORS, "id")
            vectors, _ = self._generation.vectors(ids[rows])
            yield rows, vectors
        else:
            start = 0
            for block in self._generation.blocks():
                some = np.flatnonzero(eligible[start : start + len(block)])
                if len(some):
                    yield some + start, block if len(some) == len(block) else block[some]
                start += len(block)

    def vectors(self, vector_ids: NDArray[np.int64]) -> tuple[NDArray[np.float32], Mask]:
        """Return the vectors that there are, float32 [m, dim], and which of n ids these are."""
        if not self._generation.has_all_vectors:
            return self._generation.vectors(vector_ids)
        rows, inside = self._generation.vector_rows.find(vector_ids)
        return self._generation.all_vectors()[rows], inside

    def _read_all(self, fragments: Collection[int]) -> NDArray[np.float32]:
        blocks = list(self._generation.blocks(fragments))
        return np.ascontiguousarray(np.concatenate(blocks))

    @cached_property
    def centre(self) -> NDArray[np.float32]:
        """The average of a sample of the vectors, float32 [dim]."""
        ids = self._generation.numbers(VECTORS, "id")
        if not len(ids):
            return np.zeros(self._dim, np.float32)
        some = np.linspace(0, len(ids) - 1, min(len(ids), _CENTRE_ROWS)).astype(np.int64)
        vectors, _ = self.vectors(ids[some])
        found: NDArray[np.float32] = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
        return found


def _nearest(
    queries: NDArray[np.float32], vectors: NDArray[np.float32], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return scores and numbers of the k nearest vectors, and of all that tie with the last one."""
    while True:
        # One more shows whether others tie with the last one: FAISS returns any of these.
        most = min(k + 1, len(vectors))
        scores, found = faiss.knn(queries, vectors, most, metric=faiss.METRIC_INNER_PRODUCT)
        if most < k + 1 or not (scores[:, -1] == scores[:, -2]).any():
            return scores, found
        k *= 2


def _best(scores: NDArray[np.float32], ids: NDArray[np.int64], k: int) -> VectorHits:
    """Return the k best of each row, best first; ties by vector id."""
    order = np.lexsort((ids, -scores), axis=1)[:, :k]
    return VectorHits(
        np.take_along_axis(scores, order, axis=1), np.take_along_axis(ids, order, axis=1)
    )
