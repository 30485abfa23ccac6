"""The encoder: embeddings → post-LN blocks → hidden states (→ a head's logits), all unpadded.

Modules carry the names of the hub's GTE-v1.5 checkpoint keys, so that its weights load as they are;
``weights`` renames the relatives.
"""

from typing import cast

import torch
from torch import Tensor, nn

from retrieval.errors import InvalidArgument
from retrieval.gte.blocks import Embeddings, Layer, LayerStack
from retrieval.gte.config import EncoderConfig, HeadKind
from retrieval.gte.cpu.layout import Workload, lay_out
from retrieval.gte.heads import MaskedLMHead, Pooler
from retrieval.gte.packing import PackedBatch
from retrieval.gte.pooling import Pooling, normalize, pool, pooled_rows
from retrieval.gte.rotary import HalvesRotation, PairsRotation, Rotation, inverse_frequencies

_FLOAT32 = (torch.float32, torch.int8)
"""Types of weights with which what layers put out is float32."""


class GteModel(nn.Module):
    """A GTE-v1.5 (or BERT / XLM-R) encoder, with the head its checkpoint carries."""

    inv_freq: Tensor | None

    def __init__(self, config: EncoderConfig, head: HeadKind = "none") -> None:
        super().__init__()
        self.config = config
        self.head = head
        self.embeddings = Embeddings(config)
        self.encoder = LayerStack(config)
        self.pooler = Pooler(config) if head == "sequence_classification" else None
        self.classifier = (
            nn.Linear(config.hidden_size, config.num_labels) if "classification" in head else None
        )
        self.lm_head = MaskedLMHead(config) if head == "mlm" else None
        self.register_buffer("inv_freq", None, persistent=False)
        self.wants_few_sizes = False
        """Whether batches are best made by ``pack(..., few_sizes=True)``."""
        self._pairs = False
        """Whether queries and keys are laid out for ``PairsRotation``."""

    def prepare(
        self, *, device: torch.device | str, dtype: torch.dtype, workload: Workload = "throughput"
    ) -> None:
        """Make ready for inference once the weights are in: after this they can't be changed.

        Args:
            device: where the weights are.
            dtype: what they are, or ``torch.int8`` to quantise float32 ones (CPU only).
            workload: what to be fast at.
        """
        self._set_frequencies(device)
        self.eval().requires_grad_(requires_grad=False)
        if self.inv_freq is not None and self.inv_freq.device.type == "cpu" and dtype in _FLOAT32:
            self._pairs = True
            for layer in self.encoder.layer:
                cast(Layer, layer).attention.pair_neighbours()
        cast(Layer, self.encoder.layer[-1]).attention.split()
        self.wants_few_sizes = lay_out(self.encoder, dtype=dtype, device=device, workload=workload)

    def prepare_training(self, *, device: torch.device | str) -> None:
        """Make ready for training once the weights are in: plain modules, gradients on.

        Args:
            device: where the weights are.
        """
        self._set_frequencies(device)
        self.train().requires_grad_()

    def _set_frequencies(self, device: torch.device | str) -> None:
        config = self.config
        if config.rope is not None:
            # float32, whatever the weights' dtype
            self.inv_freq = inverse_frequencies(config.rope, config.head_dim).to(device)

    def forward(self, batch: PackedBatch, rows: Tensor | None = None) -> Tensor:
        """Encode a packed batch.

        Args:
            batch: B sequences, N tokens, on the model's device.
            rows: int64 [B], one token of each sequence, if only those are wanted: the last layer
                then computes no others.

        Returns:
            the last hidden state in the weights' dtype: [N, hidden_size], or [B, hidden_size] of
            ``rows``.

        Raises:
            InvalidArgument: a token id, token type or length is out of the model's range.
        """
        self.check(batch)
        hidden = self.embeddings(batch)
        output: Tensor = self.encoder(hidden, batch, self._rotation(batch, hidden), rows)
        return output

    def _rotation(self, batch: PackedBatch, hidden: Tensor) -> Rotation | None:
        if self.inv_freq is None:
            return None
        if self._pairs:
            return PairsRotation.at(batch.positions, self.inv_freq)
        return HalvesRotation.at(batch.positions, self.inv_freq, _product_dtype(hidden))

    def embed(self, batch: PackedBatch, pooling: Pooling) -> Tensor:
        """Encode a packed batch to one vector a sequence.

        Args:
            batch: B sequences on the model's device.
            pooling: how a sequence's hidden states become one vector.

        Returns:
            float32 [B, hidden_size], L2-normalised.

        Raises:
            InvalidArgument: as ``forward``.
        """
        rows = pooled_rows(batch, pooling)
        if rows is None:
            return normalize(pool(self(batch), batch, pooling))
        return normalize(self(batch, rows).float())

    def logits(self, hidden: Tensor, batch: PackedBatch) -> Tensor:
        """What the checkpoint's head makes of the last hidden state.

        Args:
            hidden: [N, hidden_size], from ``forward``.
            batch: the same batch.

        Returns:
            [N, vocab_size] (mlm), [N, num_labels] (token classification) or [B, num_labels]
            (sequence classification); no softmax or sigmoid applied.

        Raises:
            InvalidArgument: the checkpoint has no head.
        """
        if self.lm_head is not None:
            scores: Tensor = self.lm_head(hidden, self.embeddings.word_embeddings.weight)
            return scores
        if self.classifier is None:
            raise InvalidArgument("this checkpoint has no head")
        if self.pooler is not None:
            hidden = self.pooler(hidden[batch.cu_seqlens[:-1]])
        logits: Tensor = self.classifier(hidden)
        return logits

    def classify(self, batch: PackedBatch) -> Tensor:
        """The logits of whole sequences; the last layer computes no token but the first of each.

        Args:
            batch: B sequences on the model's device.

        Returns:
            float32 [B, num_labels]; no softmax or sigmoid applied.

        Raises:
            InvalidArgument: the checkpoint has no head for sequences; or as ``forward``.
        """
        if self.pooler is None or self.classifier is None:
            raise InvalidArgument("this checkpoint has no head that classifies sequences")
        first = self(batch, batch.cu_seqlens[:-1].long())
        logits: Tensor = self.classifier(self.pooler(first))
        return logits.float()

    def check(self, batch: PackedBatch) -> None:
        """Refuse a batch that the model's tables are too small for.

        Raises:
            InvalidArgument: as ``forward``.
        """
        config = self.config
        least, most = batch.token_bounds
        if least < 0 or most >= config.vocab_size:
            raise InvalidArgument(f"token ids must lie in 0..{config.vocab_size - 1}")
        if config.type_vocab_size > 1:
            least, most = batch.type_bounds
            if least < 0 or most >= config.type_vocab_size:
                raise InvalidArgument(f"token types must lie in 0..{config.type_vocab_size - 1}")
        limit = config.position_limit
        if limit is not None and batch.max_seqlen > limit:
            raise InvalidArgument(
                f"a sequence of {batch.max_seqlen} tokens is longer than the model's {limit}"
            )


def _product_dtype(hidden: Tensor) -> torch.dtype:
    """Type of what linear layers make of hidden states: autocast may have another than theirs."""
    device = hidden.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
