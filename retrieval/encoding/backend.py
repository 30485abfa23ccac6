"""Backends, which run a model over token ids: their protocol, the one for the GTE core, devices."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from retrieval.domain.records import DTYPE_NAMES
from retrieval.encoding.cores import on_one_core, suits_one_core
from retrieval.errors import InvalidArgument
from retrieval.gte import EncoderConfig, Pooling, ShortTexts, Workload, load_model, pack

DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in DTYPE_NAMES}
"""Weight types by their names."""

_GTE_POSITION_LIMIT = 8192
"""Rotary positions have no end; this is the length up to which GTE's card promises quality."""

CPU_BATCH_TOKENS = 1024
"""Tokens of one packed batch: enough to fill the matrix units, few enough to stay in the cache."""
CUDA_BATCH_TOKENS = 16_384
"""Tokens of one packed batch on a GPU, which needs more rows to be busy."""

_ONE_CORE_WIDTH = 512
"""Widest model for which a single core may suit a short query; wider ones need all cores."""

_TYPICAL_QUERY = [0] * 16
"""Token ids of a query of typical length; which ids makes no difference."""


class Backend(Protocol):
    """Runs a model over token ids."""

    dim: int
    position_limit: int
    batch_tokens: int
    """Tokens of a batch by default."""
    side_by_side: bool
    """Whether batches are faster side by side, each on one core, than one after the other."""

    @property
    def query_on_one_core(self) -> bool:
        """Whether a short query that comes alone is best served by one core, too.

        The first access measures it, which takes as long as about 20 queries.
        """
        ...

    def embed(self, sequences: Sequence[Sequence[int]]) -> Tensor:
        """Embed B sequences of token ids; thread-safe.

        Returns:
            float32 [B, dim], L2-normalised, on the model's device; a GPU may still be computing it.
        """
        ...


class CoreBackend:
    """The GTE core as an embedding function over token ids."""

    def __init__(
        self,
        folder: Path,
        pooling: Pooling,
        *,
        dtype: torch.dtype,
        device: str,
        workload: Workload = "throughput",
    ) -> None:
        """Load a checkpoint; see ``retrieval.gte.load_model`` for arguments and errors."""
        self._model = load_model(folder, dtype=dtype, device=device, workload=workload)
        self._pooling: Pooling = pooling
        self._device = device
        quick = device == "cpu" and workload == "latency"
        self._short = on_one_core(lambda: ShortTexts(self._model, pooling)) if quick else None
        config = self._model.config
        self.side_by_side = device == "cpu"
        self.batch_tokens = CPU_BATCH_TOKENS if device == "cpu" else CUDA_BATCH_TOKENS
        self.dim = config.hidden_size
        self.position_limit = position_limit(config)

    @cached_property
    def query_on_one_core(self) -> bool:
        """See ``Backend``."""
        narrow = self._model.config.hidden_size <= _ONE_CORE_WIDTH
        return self.side_by_side and narrow and suits_one_core(self._embed_a_query)

    def _embed_a_query(self) -> None:
        with torch.inference_mode():
            self.embed([_TYPICAL_QUERY])

    def embed(self, sequences: Sequence[Sequence[int]]) -> Tensor:
        """Embed sequences as one packed batch, fastest if sorted by length; see ``Backend``."""
        few_sizes = self._model.wants_few_sizes
        batch = pack(sequences, device=self._device, few_sizes=few_sizes)
        if self._short is not None and self._short.takes(batch):
            return self._short.embed(batch)
        return self._model.embed(batch, self._pooling)


def position_limit(config: EncoderConfig) -> int:
    """Return the maximum number of tokens of one sequence."""
    if config.position_limit is not None:
        return config.position_limit
    return max(_GTE_POSITION_LIMIT, config.max_positions)


def usual_dtype(device: str) -> str:
    """Return the type of weights that suits a device."""
    return "bfloat16" if device == "cuda" else "float32"


def resolve_device(device: str, dtype: str) -> tuple[str, str]:
    """Resolve ``"auto"`` to what this machine has.

    Returns:
        the names of the device and the dtype.

    Raises:
        InvalidArgument: a name is unknown, or this machine has no CUDA.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise InvalidArgument(f"device must be auto, cpu or cuda, not {device!r}")
    if dtype not in ("auto", *DTYPES):
        raise InvalidArgument(f"dtype must be auto, {' or '.join(DTYPES)}, not {dtype!r}")
    has_cuda = torch.cuda.is_available()
    if device == "cuda" and not has_cuda:
        raise InvalidArgument("this machine (or this build of torch) has no CUDA; use --device cpu")
    if device == "auto":
        device = "cuda" if has_cuda else "cpu"
    dtype = usual_dtype(device) if dtype == "auto" else dtype
    if dtype == "int8" and device == "cuda":
        raise InvalidArgument("int8 runs on the CPU only: use --device cpu, or another --dtype")
    return device, dtype
