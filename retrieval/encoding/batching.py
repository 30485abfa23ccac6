"""Batching of token ids by length, and running the batches as is fastest on the device."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retrieval.encoding.backend import Backend
from retrieval.encoding.cores import on_single_cores, one_behind


def embed_batches(
    backend: Backend, sequences: Sequence[Sequence[int]], batch_tokens: int | None = None
) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
    """Embed token ids in batches of similar length, as is fastest on the device.

    Args:
        backend: the model.
        sequences: token ids of n texts.
        batch_tokens: maximum tokens of one batch (a longer text is a batch by itself); None for
            the backend's own.

    Yields:
        the positions of a batch's texts, and their vectors, float32 [b, dim], L2-normalised.
    """

    def launch(rows: list[int]) -> Tensor:
        with torch.inference_mode():
            return backend.embed([sequences[row] for row in rows])

    def fetch(vectors: Tensor) -> NDArray[np.float32]:
        array: NDArray[np.float32] = vectors.cpu().numpy()
        return array

    lengths = [len(ids) for ids in sequences]
    budget = batch_tokens or backend.batch_tokens
    batches = list(batches_by_length(lengths, budget))
    # Texts longer than a batch come first. Each gets all cores: several at once would need a
    # multiple of the memory.
    long = sum(lengths[rows[0]] > budget for rows in batches)
    count = long if backend.side_by_side else len(batches)
    alone, together = batches[:count], batches[count:]
    # A GPU computes one batch while the next is packed and copied to it.
    yield from zip(alone, one_behind(launch, fetch, alone), strict=True)
    yield from zip(
        together, on_single_cores(lambda rows: fetch(launch(rows)), together), strict=True
    )


def batches_by_length(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Group texts into batches of similar length.

    Args:
        lengths: tokens of each text.
        batch_tokens: maximum tokens of one batch; a longer text is a batch by itself.

    Yields:
        positions in ``lengths``, longest texts first, each position once.
    """
    batch: list[int] = []
    total = 0
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if batch and total + lengths[row] > batch_tokens:
            yield batch
            batch, total = [], 0
        batch.append(row)
        total += lengths[row]
    if batch:
        yield batch
