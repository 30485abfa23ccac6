"""The network, from token ids to hidden states, vectors or logits, over packed batches.

One network serves GTE-v1.5 (rotary positions, gated MLP) and BERT and XLM-R (absolute positions,
plain MLP); ``EncoderConfig`` says which. Modules and parameters carry the names of the hub's
GTE-v1.5 checkpoint keys, so those weights load as they are; ``weights`` renames all others.

Shapes: B sequences with N tokens in total; ``hidden`` is the width of a token's state.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from retrieval.errors import InvalidArgument
from retrieval.gte.attention import packed_attention, pooled_attention
from retrieval.gte.cpu import Workload, lay_out
from retrieval.gte.encoder_config import EncoderConfig, HeadKind
from retrieval.gte.packing import PackedBatch
from retrieval.gte.pooling import Pooling, normalize, pool, pooled_rows
from retrieval.gte.rotary import (
    HalvesRotation,
    PairsRotation,
    Rotation,
    inverse_frequencies,
    neighbours,
)

_FLOAT32_STATES = (torch.float32, torch.int8)
"""Weight types whose layers compute float32 hidden states."""

_MLP_ROWS = 1024
"""Tokens that go through the MLP at a time on a CPU. The MLP's inner states are several times as
wide as the hidden ones: for a long text they would leave the cache and fill the memory."""


class GteModel(nn.Module):
    """A GTE-v1.5, BERT or XLM-R encoder, with the head that its checkpoint carries."""

    inv_freq: Tensor | None
    """float32 [head_dim / 2], radians per position; None with absolute positions."""

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
        """Whether ``pack(..., few_sizes=True)`` makes the faster batches."""
        self._pairs = False
        """Whether queries and keys are laid out for ``PairsRotation``."""

    def prepare(
        self, *, device: torch.device | str, dtype: torch.dtype, workload: Workload = "throughput"
    ) -> None:
        """Prepare for inference, once the weights are loaded; they can't be changed afterwards.

        Args:
            device: where the weights are.
            dtype: their type, or ``torch.int8`` to quantise float32 weights (CPU only).
            workload: what to be fast at.
        """
        self._set_frequencies(device)
        self.eval().requires_grad_(requires_grad=False)
        on_cpu = self.inv_freq is not None and self.inv_freq.device.type == "cpu"
        if on_cpu and dtype in _FLOAT32_STATES:
            self._pairs = True
            for layer in self.encoder.layer:
                cast(Layer, layer).attention.pair_neighbours()
        # Only the last layer is ever asked for the pooled tokens alone.
        cast(Layer, self.encoder.layer[-1]).attention.split_query()
        self.wants_few_sizes = lay_out(self.encoder, dtype=dtype, device=device, workload=workload)

    def prepare_training(self, *, device: torch.device | str) -> None:
        """Prepare for training, once the weights are loaded: plain modules, gradients on.

        Args:
            device: where the weights are.
        """
        self._set_frequencies(device)
        self.train().requires_grad_()

    def _set_frequencies(self, device: torch.device | str) -> None:
        config = self.config
        if config.rope is not None:
            # float32, whatever the type of the weights
            self.inv_freq = inverse_frequencies(config.rope, config.head_dim).to(device)

    def forward(self, batch: PackedBatch, rows: Tensor | None = None) -> Tensor:
        """Encode a packed batch.

        Args:
            batch: B sequences, N tokens, on the model's device.
            rows: int64 [B], one token of each sequence, if only their states are wanted: the last
                layer then computes no others.

        Returns:
            the last hidden states in the weights' type: [N, hidden], or [B, hidden] of ``rows``.

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
        """Encode a packed batch to one vector per sequence.

        Args:
            batch: B sequences on the model's device.
            pooling: how a sequence's hidden states become one vector.

        Returns:
            float32 [B, hidden], L2-normalised.

        Raises:
            InvalidArgument: as ``forward``.
        """
        rows = pooled_rows(batch, pooling)
        if rows is None:
            return normalize(pool(self(batch), batch, pooling))
        return normalize(self(batch, rows).float())

    def logits(self, hidden: Tensor, batch: PackedBatch) -> Tensor:
        """Apply the checkpoint's head to the last hidden states.

        Args:
            hidden: [N, hidden], from ``forward``.
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
            hidden = self.pooler(hidden[batch.cu_seqlens[:-1]])  # [B, hidden]
        logits: Tensor = self.classifier(hidden)
        return logits

    def classify(self, batch: PackedBatch) -> Tensor:
        """Return the logits of whole sequences.

        The last layer computes the first token of each sequence only.

        Args:
            batch: B sequences on the model's device.

        Returns:
            float32 [B, num_labels]; no softmax or sigmoid applied.

        Raises:
            InvalidArgument: the checkpoint has no head for sequences; or as ``forward``.
        """
        if self.pooler is None or self.classifier is None:
            raise InvalidArgument("this checkpoint has no head that classifies sequences")
        first = self(batch, batch.cu_seqlens[:-1].long())  # [B, hidden]
        logits: Tensor = self.classifier(self.pooler(first))
        return logits.float()

    def check(self, batch: PackedBatch) -> None:
        """Refuse a batch that exceeds the model's embedding tables.

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


class Embeddings(nn.Module):
    """Sum of token, position and token type embeddings, as far as the model has them; LayerNorm."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.position_offset = config.position_offset
        self.type_vocab_size = config.type_vocab_size
        self.word_embeddings = nn.Embedding(config.vocab_size, hidden)
        self.position_embeddings = (
            nn.Embedding(config.max_positions, hidden) if config.rope is None else None
        )
        self.token_type_embeddings = (
            nn.Embedding(config.type_vocab_size, hidden) if config.type_vocab_size else None
        )
        self.LayerNorm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)

    def forward(self, batch: PackedBatch) -> Tensor:
        """Return the states [N, hidden] that enter the first layer."""
        hidden: Tensor = self.word_embeddings(batch.token_ids)
        if self.position_embeddings is not None:
            hidden = hidden + self.position_embeddings(batch.positions + self.position_offset)
        if self.token_type_embeddings is not None:
            # With a single type the reference implementation ignores the types it is given.
            if batch.type_ids is None or self.type_vocab_size == 1:
                hidden = hidden + self.token_type_embeddings.weight[0]
            else:
                hidden = hidden + self.token_type_embeddings(batch.type_ids)
        normed: Tensor = self.LayerNorm(hidden)
        return normed


class LayerStack(nn.Module):
    """The transformer layers, one after the other."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(config) for _ in range(config.num_layers))

    def forward(
        self,
        hidden: Tensor,
        batch: PackedBatch,
        rotation: Rotation | None,
        rows: Tensor | None = None,
    ) -> Tensor:
        """Return states [N, hidden] of all tokens, or [B, hidden] of ``rows``."""
        *layers, last = self.layer
        for layer in layers:
            hidden = layer(hidden, batch, rotation)
        output: Tensor = last(hidden, batch, rotation, rows)
        return output


class Layer(nn.Module):
    """Post-LN transformer layer: attention, then MLP, with a LayerNorm after each residual sum."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.mlp = GatedMLP(config) if config.gated_mlp else PlainMLP(config)
        self.attn_ln = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp_ln = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(
        self,
        hidden: Tensor,
        batch: PackedBatch,
        rotation: Rotation | None,
        rows: Tensor | None = None,
    ) -> Tensor:
        """Return states [N, hidden] of all tokens, or [B, hidden] of ``rows``.

        Keys and values are needed of all tokens either way, everything else of ``rows`` alone.
        """
        if rows is None:
            attended = self.attention(hidden, batch, rotation)
        else:
            attended = self.attention.of_rows(hidden, batch, rotation, rows)
            hidden = hidden[rows]
        hidden = self.attn_ln(attended.add_(hidden))
        if hidden.device.type != "cpu" or len(hidden) <= _MLP_ROWS:
            return self._mlp(hidden)
        return torch.cat([self._mlp(part) for part in torch.split(hidden, _MLP_ROWS)])

    def _mlp(self, hidden: Tensor) -> Tensor:
        output: Tensor = self.mlp_ln(self.mlp(hidden).add_(hidden))
        return output


class Attention(nn.Module):
    """Multi-head self-attention with one fused projection for query, key and value."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.head_shape = (config.num_heads, config.head_dim)
        self.qkv_proj = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.split_proj = nn.ModuleList()
        """After ``split_query``: the projection to queries; the one to keys and values."""

    def forward(self, hidden: Tensor, batch: PackedBatch, rotation: Rotation | None) -> Tensor:
        """Return [N, hidden]: each token attends to all tokens of its own sequence."""
        heads, head_dim = self.head_shape
        qkv = self.qkv_proj(hidden).view(-1, 3 * heads, head_dim)  # [N, 3 · heads, head_dim]
        query_key, value = qkv.split((2 * heads, heads), dim=1)
        if rotation is not None:
            query_key = rotation.turn(query_key)
        query, key = query_key.chunk(2, dim=1)  # [N, heads, head_dim] each
        attended = packed_attention(query, key, value, batch)
        output: Tensor = self.o_proj(attended.reshape(hidden.shape))
        return output

    def of_rows(
        self, hidden: Tensor, batch: PackedBatch, rotation: Rotation | None, rows: Tensor
    ) -> Tensor:
        """Return [B, hidden]: the same for the tokens ``rows`` alone, one of each sequence."""
        query, key_value = self._project_apart(hidden[rows], hidden)
        query = query.view(-1, *self.head_shape)  # [B, heads, head_dim]
        key, value = key_value.view(-1, 2, *self.head_shape).unbind(dim=1)  # [N, heads, head_dim]
        if rotation is not None:
            query, key = rotation.of(rows).turn(query), rotation.turn(key)
        attended = pooled_attention(query, key, value, batch)
        output: Tensor = self.o_proj(attended.flatten(1))
        return output

    def _project_apart(self, asking: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return queries [B, hidden] of some tokens, keys and values [N, 2 · hidden] of all."""
        if self.split_proj:
            query_proj, key_value_proj = self.split_proj
            return query_proj(asking), key_value_proj(hidden)
        widths = [self.qkv_proj.in_features, 2 * self.qkv_proj.in_features]
        weights = torch.split(self.qkv_proj.weight, widths)
        biases = torch.split(self.qkv_proj.bias, widths)
        return (
            functional.linear(asking, weights[0], biases[0]),
            functional.linear(hidden, weights[1], biases[1]),
        )

    def split_query(self) -> None:
        """Prepare ``of_rows`` for inference: split the fused projection, sharing its weights."""
        width = self.qkv_proj.in_features
        for rows in (slice(width), slice(width, None)):
            weight, bias = self.qkv_proj.weight[rows], self.qkv_proj.bias[rows]
            part = nn.Linear(width, len(weight), device="meta")
            part.weight = nn.Parameter(weight.detach(), requires_grad=False)
            part.bias = nn.Parameter(bias.detach(), requires_grad=False)
            self.split_proj.append(part)

    def pair_neighbours(self) -> None:
        """Prepare for ``PairsRotation``: reorder the dimensions of queries and keys in place."""
        heads, head_dim = self.head_shape
        with torch.no_grad():
            for old in (self.qkv_proj.weight, self.qkv_proj.bias):
                new = old.clone()
                by_head = new.view(3, heads, head_dim, -1)[:2]  # queries, keys
                by_head.copy_(by_head[:, :, neighbours(head_dim)])
                old.data = new


class GatedMLP(nn.Module):
    """``down(up · gelu(gate))`` with the exact (erf) GELU; a GLU, https://arxiv.org/abs/2002.05202."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.up_gate_proj = nn.Linear(config.hidden_size, 2 * config.intermediate_size, bias=False)
        self.gelu = nn.GELU()
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map [n, hidden] to [n, hidden]."""
        up, gate = self.up_gate_proj(hidden).chunk(2, dim=-1)  # [n, intermediate] each, up first
        output: Tensor = self.down_proj(up * self.gelu(gate))
        return output


class PlainMLP(nn.Module):
    """``down(gelu(up))`` with the exact (erf) GELU."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size)
        self.gelu = nn.GELU()
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map [n, hidden] to [n, hidden]."""
        output: Tensor = self.down_proj(self.gelu(self.up_proj(hidden)))
        return output


class Pooler(nn.Module):
    """Dense layer and tanh over a sequence's first token; part of the classification head."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, first: Tensor) -> Tensor:
        """Map the first tokens' states [B, hidden] to [B, hidden]."""
        return torch.tanh(self.dense(first))


class MaskedLMHead(nn.Module):
    """Scores of the vocabulary for each token; the output matrix is tied to the word embeddings."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.decoder_bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden: Tensor, word_embeddings: Tensor) -> Tensor:
        """Map [n, hidden] to [n, vocab_size]."""
        hidden = self.norm(functional.gelu(self.dense(hidden)))
        return functional.linear(hidden, word_embeddings, self.decoder_bias)


def _product_dtype(hidden: Tensor) -> torch.dtype:
    """Return the type of a linear layer's output for these states, which autocast may change."""
    device = hidden.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
