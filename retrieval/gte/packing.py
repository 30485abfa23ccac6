"""Packed batches: sequences of token ids laid end to end, without padding.

A batch of B sequences with N tokens in total is the plain concatenation of their tokens. Attention
is the only operation that must know where a sequence ends; everything else works on [N, hidden].

oneDNN compiles a program for every number of rows that it meets, and keeps it: 4 ms and a megabyte
or two each time for a small model. For its sake a batch may end in a few spare rows that belong to
no sequence, so that N takes few distinct values.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, groupby, repeat

import torch
from torch import Tensor

from retrieval.errors import InvalidArgument

_ALL_SIZES_TO = 16
"""Tokens up to which a batch gets no spare rows: for a short query even three would cost time."""
_LEAST_STEP = 4
"""Smallest distance between two sizes, for queries of up to 128 tokens."""


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring sequences of equal length: a rectangle that attention takes in one call."""

    first: int
    """Number of the run's first sequence in the packed batch."""
    start: int
    """First token of the run in the packed batch."""
    count: int
    """Sequences in the run."""
    length: int
    """Tokens in each."""

    @property
    def end(self) -> int:
        """One past the run's last token."""
        return self.start + self.count * self.length


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """B sequences, one after the other, in N rows; the last rows may be spare."""

    token_ids: Tensor
    """int64 [N]."""
    type_ids: Tensor | None
    """int64 [N], or None if every token is of type 0."""
    positions: Tensor
    """int64 [N], restarting at 0 with each sequence."""
    cu_seqlens: Tensor
    """int32 [B + 1]; sequence b is tokens cu_seqlens[b] to cu_seqlens[b + 1]."""
    token_bounds: tuple[int, int]
    """Least and greatest token id, kept here so that checking them doesn't wait for a GPU."""
    type_bounds: tuple[int, int]
    """Least and greatest token type."""
    lengths: tuple[int, ...]
    """Tokens of each sequence, each at least 1."""
    runs: tuple[Run, ...]

    @property
    def max_seqlen(self) -> int:
        """Length of the longest sequence."""
        return max(self.lengths)


def pack(
    sequences: Sequence[Sequence[int]],
    type_ids: Sequence[Sequence[int]] | None = None,
    *,
    device: torch.device | str = "cpu",
    few_sizes: bool = False,
) -> PackedBatch:
    """Concatenate sequences in the given order.

    Sorting them by length beforehand makes the runs long and attention fast. The results don't
    depend on it.

    Args:
        sequences: B lists of token ids, none empty.
        type_ids: token types in the same shape, or None if every token is of type 0.
        device: where to put the batch's tensors.
        few_sizes: whether to add spare rows, about 2 % of those of a large batch.

    Returns:
        the packed batch, on ``device``.

    Raises:
        InvalidArgument: no sequences, an empty one, or type ids of another shape.
    """
    lengths = tuple(len(sequence) for sequence in sequences)
    if not lengths or min(lengths) == 0:
        raise InvalidArgument("a batch needs at least one sequence, and each at least one token")
    if type_ids is not None and tuple(len(types) for types in type_ids) != lengths:
        raise InvalidArgument("token_type_ids must have the same shape as input_ids")
    spare = _spare_rows(sum(lengths)) if few_sizes else 0
    tokens = _concatenate(sequences, spare)
    types = None if type_ids is None else _concatenate(type_ids, spare)
    bounds = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)
    positions = torch.cat([torch.arange(length) for length in (*lengths, spare)])
    return PackedBatch(
        token_ids=_put(tokens, device),
        type_ids=None if types is None else _put(types, device),
        positions=_put(positions, device),
        cu_seqlens=_put(bounds, device),
        token_bounds=_bounds(tokens),
        type_bounds=(0, 0) if types is None else _bounds(types),
        lengths=lengths,
        runs=_runs(lengths),
    )


def _concatenate(rows: Sequence[Sequence[int]], spare: int) -> Tensor:
    return torch.tensor([*chain.from_iterable(rows), *repeat(0, spare)], dtype=torch.int64)


def _spare_rows(tokens: int) -> int:
    """Return how many rows are missing to the next size; 16 lie between two powers of two."""
    if tokens <= _ALL_SIZES_TO:
        return 0
    step = max(_LEAST_STEP, 1 << (tokens.bit_length() - 5))
    return -tokens % step


def _bounds(values: Tensor) -> tuple[int, int]:
    least, most = values.aminmax()
    return int(least), int(most)


def _put(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Copy to a device; to a GPU from pinned memory, so that the caller doesn't wait for it."""
    if torch.device(device).type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def _runs(lengths: tuple[int, ...]) -> tuple[Run, ...]:
    runs = []
    first = start = 0
    for length, group in groupby(lengths):
        run = Run(first, start, sum(1 for _ in group), length)
        runs.append(run)
        first, start = first + run.count, run.end
    return tuple(runs)
