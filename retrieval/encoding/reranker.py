"""The reranker: a cross-encoder that scores how likely each passage answers a query.

A cross-encoder reads query and passage together, as one sequence, so it can relate the words of one
to those of the other. That is as slow as embedding every passage again for each query.
Cross-encoders of the GTE, BERT and XLM-R kind run in the GTE core.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from retrieval.domain.arguments import check_text, text_list
from retrieval.domain.deadline import check_wanted
from retrieval.encoding.backend import CPU_BATCH_TOKENS, CUDA_BATCH_TOKENS, DTYPES, resolve_device
from retrieval.encoding.batching import batches_by_length
from retrieval.encoding.model_cards import find_reranker
from retrieval.encoding.model_folders import find_model
from retrieval.encoding.tokenizer import PairTokens, Tokenizer
from retrieval.errors import CheckpointError
from retrieval.gte import load_model, pack
from retrieval.gte.encoder_config import MODEL_TYPES
from retrieval.gte.json_files import read_json

_GTE_TOKENS: Final = 8192
"""Maximum tokens of query and passage with rotary positions, as for GTE encoders."""


@dataclass(frozen=True, slots=True)
class PairScores:
    """Scores of n passages."""

    probabilities: NDArray[np.float64]
    """float64 [n], from 0 to 1: the sigmoids of the logits."""
    truncated: int
    """Number of passages that were truncated."""


class Reranker:
    """A cross-encoder ready to score passages; thread-safe."""

    def __init__(self, folder: Path, name: str, *, device: str, dtype: str, most: int) -> None:
        """Load from a folder; use ``load``."""
        self.name = name
        self._model = load_model(folder, dtype=DTYPES[dtype], device=device)
        config = self._model.config
        if self._model.head != "sequence_classification" or config.num_labels != 1:
            raise CheckpointError(
                f"{folder} is not a cross-encoder: it has no head that scores a pair of texts"
            )
        self.max_tokens = min(most, config.position_limit or _GTE_TOKENS)
        self._tokenizer = Tokenizer.from_folder(folder, max_tokens=self.max_tokens)
        self._device = device
        self._has_types = config.type_vocab_size > 1
        self._batch_tokens = CPU_BATCH_TOKENS if device == "cpu" else CUDA_BATCH_TOKENS
        # One batch runs at a time: two would slow each other down and need twice the memory. The
        # batches of several callers run in the order of their arrival.
        self._runs = ThreadPoolExecutor(1, "reranker")

    @classmethod
    def load(cls, name: str | Path, *, device: str = "auto", dtype: str = "auto") -> "Reranker":
        """Load a cross-encoder.

        Args:
            name: a key of ``RERANKERS``, a hub id (``@REVISION`` allowed) or a local folder.
            device: as in ``Encoder.load``.
            dtype: as in ``Encoder.load``.

        Raises:
            InvalidArgument: the device or dtype is unknown.
            ModelNotFound: see ``retrieval.encoding.model_folders.find_model``.
            CheckpointError: the files can't be used, or are not those of a cross-encoder.
        """
        folder = find_model(name, "reranker")
        device, dtype = resolve_device(device, dtype)
        raw = read_json(folder.path / "config.json")
        if raw.get("model_type") not in MODEL_TYPES:
            raise CheckpointError(
                f"{folder.path}: a cross-encoder must be one of {', '.join(MODEL_TYPES)}, "
                f"not {raw.get('model_type')!r}"
            )
        card = find_reranker(folder.name)
        most = card.max_tokens if card else _GTE_TOKENS
        return cls(folder.path, folder.name, device=device, dtype=dtype, most=most)

    def __repr__(self) -> str:
        """Return the model's name, length limit and device."""
        return f"Reranker({self.name!r}, max_tokens={self.max_tokens}, device={self._device!r})"

    def score(self, query: str, passages: Iterable[str]) -> PairScores:
        """Score how likely each passage answers a query.

        Args:
            query: a text.
            passages: n texts, which may come from a generator.

        Returns:
            n probabilities in the passages' order, whatever the batches.

        Raises:
            InvalidArgument: the query or a passage is not a text.
            DeadlinePassed: nobody waits for the scores any more; checked between batches.
        """
        check_text(query, field="query")
        passages = text_list(passages, field="passages")
        logits = np.empty(len(passages), dtype=np.float64)
        pairs = self._tokenizer.encode_pairs(query.strip(), passages)
        lengths = [len(pair.ids) for pair in pairs]
        for rows in batches_by_length(lengths, self._batch_tokens):
            check_wanted()
            batch = [pairs[row] for row in rows]
            logits[rows] = self._runs.submit(self._logits, batch).result()
        return PairScores(1 / (1 + np.exp(-logits)), sum(pair.truncated for pair in pairs))

    def _logits(self, pairs: Sequence[PairTokens]) -> NDArray[np.float32]:
        types = [pair.type_ids for pair in pairs] if self._has_types else None
        few_sizes = self._model.wants_few_sizes
        with torch.inference_mode():
            ids = [pair.ids for pair in pairs]
            batch = pack(ids, types, device=self._device, few_sizes=few_sizes)
            logits: NDArray[np.float32] = self._model.classify(batch)[:, 0].cpu().numpy()
        return logits
