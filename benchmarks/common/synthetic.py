"""Vectors with the structure of real ones: clustered, of low intrinsic dimension, unit length."""

import time

import numpy as np
from numpy.typing import NDArray

CLUSTERS, INNER_DIM = 1000, 32

Vectors = NDArray[np.float32]


class Source:
    """Vectors and queries of one distribution, the same for the same seed and calls."""

    def __init__(self, dim: int, seed: int) -> None:
        self._generator = np.random.default_rng(seed)
        self._basis = self._generator.normal(size=(INNER_DIM, dim)).astype(np.float32)
        self._centres = self._generator.normal(size=(CLUSTERS, INNER_DIM)).astype(np.float32)
        self.dim = dim
        self.seconds = 0.0
        """What making them took so far."""

    def vectors(self, count: int) -> Vectors:
        """Return float32 [count, dim], each row of length 1."""
        started = time.perf_counter()
        draw = self._generator
        inner = self._centres[draw.integers(CLUSTERS, size=count)]
        inner = inner + 0.6 * draw.standard_normal((count, INNER_DIM), dtype=np.float32)
        made = draw.standard_normal((count, self.dim), dtype=np.float32)
        made *= 0.3
        made += inner @ self._basis
        made /= np.linalg.norm(made, axis=1, keepdims=True)
        self.seconds += time.perf_counter() - started
        return made

    def queries(self, near: Vectors) -> Vectors:
        """Return a query near each of some vectors: cosine about 0.7."""
        away = self._generator.standard_normal((len(near), INNER_DIM), dtype=np.float32)
        return unit(near + unit(away @ self._basis))


def unit(vectors: Vectors) -> Vectors:
    """Return the rows scaled to length 1."""
    scaled: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled.astype(np.float32)
