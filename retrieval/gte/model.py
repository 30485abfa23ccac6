"""The encoder: embeddings → post-LN blocks → hidden states (→ a head's logits), all unpadded.

Modules carry the names of the hub's GTE-v1.5 checkpoint keys, so that its weights load as they are;
``weights`` renames the relatives. One block serves GTE (RoPE, gated MLP) and BERT / XLM-R (absolute
positions, plain GELU MLP); what differs is in ``EncoderConfig``.
"""

from typing import cast

import torch
from torch import Tensor, nn

from retrieval.errors import InvalidArgument
from retrieval.gte.attention import packed_attention, pooled_attention
from retrieval.gte.config import EncoderConfig, HeadKind
from retrieval.gte.heads import MaskedLMHead, Pooler
from retrieval.gte.layout import Workload, lay_out
from retrieval.gte.packing import PackedBatch
from retrieval.gte.pooling import Pooling, normalize, pool, pooled_rows
from retrieval.gte.rotary import cos_sin, inverse_frequencies, rotate

_MLP_ROWS = 1024
"""Tokens that a CPU takes through the MLP at a time: its inner states are several times as wide as
the hidden ones, and for a long text would fill memory instead of the cache."""

Rotation = tuple[Tensor, Tensor]
"""Cosines and sines for every token, each [N, 1, head_dim]."""


class Embeddings(nn.Module):
    """Token (+ position) (+ token type) embeddings, then LayerNorm."""

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
        """Embed a packed batch → [N, hidden]."""
        hidden: Tensor = self.word_embeddings(batch.token_ids)
        if self.position_embeddings is not None:
            hidden = hidden + self.position_embeddings(batch.positions + self.position_offset)
        if self.token_type_embeddings is not None:
            # With a single type the reference ignores whatever types are given.
            if batch.type_ids is None or self.type_vocab_size == 1:
                hidden = hidden + self.token_type_embeddings.weight[0]
            else:
                hidden = hidden + self.token_type_embeddings(batch.type_ids)
        normed: Tensor = self.LayerNorm(hidden)
        return normed


class Attention(nn.Module):
    """Multi-head self-attention with one fused projection for query, key and value."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.head_shape = (config.num_heads, config.head_dim)
        self.qkv_proj = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.split_proj = nn.ModuleList()

    def forward(self, hidden: Tensor, batch: PackedBatch, rotation: Rotation | None) -> Tensor:
        """[N, hidden] → [N, hidden]."""
        heads, head_dim = self.head_shape
        qkv = self.qkv_proj(hidden).view(-1, 3 * heads, head_dim)
        query_key, value = qkv.split((2 * heads, heads), dim=1)
        if rotation is not None:
            query_key = rotate(query_key, *rotation)
        query, key = query_key.chunk(2, dim=1)  # [N, heads, head_dim] each
        attended = packed_attention(query, key, value, batch)
        output: Tensor = self.o_proj(attended.reshape(hidden.shape))
        return output

    def split(self) -> None:
        """Make ready for ``of_rows``: the query apart from key and value, over the same weights."""
        width = self.qkv_proj.in_features
        for rows in (slice(width), slice(width, None)):
            weight, bias = self.qkv_proj.weight[rows], self.qkv_proj.bias[rows]
            part = nn.Linear(width, len(weight), device="meta")
            part.weight = nn.Parameter(weight.detach(), requires_grad=False)
            part.bias = nn.Parameter(bias.detach(), requires_grad=False)
            self.split_proj.append(part)

    def of_rows(
        self, hidden: Tensor, batch: PackedBatch, rotation: Rotation | None, rows: Tensor
    ) -> Tensor:
        """[N, hidden] → [B, hidden]: only the tokens ``rows``, one a sequence, ask.

        ``split`` must have been called.
        """
        query_proj, key_value_proj = self.split_proj
        query = query_proj(hidden[rows]).view(-1, *self.head_shape)
        key, value = key_value_proj(hidden).view(-1, 2, *self.head_shape).unbind(dim=1)
        if rotation is not None:
            cos, sin = rotation
            query, key = rotate(query, cos[rows], sin[rows]), rotate(key, cos, sin)
        attended = pooled_attention(query, key, value, batch)
        output: Tensor = self.o_proj(attended.flatten(1))
        return output


class GatedMLP(nn.Module):
    """``down(up · gelu(gate))`` (GLU, https://arxiv.org/abs/2002.05202), exact (erf) GELU."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.up_gate_proj = nn.Linear(config.hidden_size, 2 * config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """[N, hidden] → [N, hidden]."""
        up, gate = self.up_gate_proj(hidden).chunk(2, dim=-1)  # [N, intermediate] each, up first
        output: Tensor = self.down_proj(up * torch.ops.aten.gelu_(gate))
        return output


class PlainMLP(nn.Module):
    """``down(gelu(up))``, exact (erf) GELU."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """[N, hidden] → [N, hidden]."""
        output: Tensor = self.down_proj(torch.ops.aten.gelu_(self.up_proj(hidden)))
        return output


class Layer(nn.Module):
    """Post-LN block: normalise after each residual sum."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.mlp = GatedMLP(config) if config.gated_mlp else PlainMLP(config)
        self.attn_ln = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp_ln = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden: Tensor, batch: PackedBatch, rotation: Rotation | None) -> Tensor:
        """[N, hidden] → [N, hidden]."""
        return self._finish(hidden, self.attention(hidden, batch, rotation))

    def of_rows(
        self, hidden: Tensor, batch: PackedBatch, rotation: Rotation | None, rows: Tensor
    ) -> Tensor:
        """[N, hidden] → [B, hidden]: the outputs of the tokens ``rows``, one a sequence.

        Keys and values are needed of all tokens; everything else of these alone.
        """
        return self._finish(hidden[rows], self.attention.of_rows(hidden, batch, rotation, rows))

    def _finish(self, hidden: Tensor, attended: Tensor) -> Tensor:
        hidden = self.attn_ln(attended.add_(hidden))
        if hidden.device.type != "cpu" or len(hidden) <= _MLP_ROWS:
            return self._mlp(hidden)
        return torch.cat([self._mlp(part) for part in torch.split(hidden, _MLP_ROWS)])

    def _mlp(self, hidden: Tensor) -> Tensor:
        output: Tensor = self.mlp_ln(self.mlp(hidden).add_(hidden))
        return output


class LayerStack(nn.Module):
    """The blocks, one after the other."""

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
        """[N, hidden] → [N, hidden]; → [B, hidden] where only ``rows`` are asked for."""
        *layers, last = self.layer
        for layer in layers:
            hidden = layer(hidden, batch, rotation)
        if rows is not None:
            return cast(Layer, last).of_rows(hidden, batch, rotation, rows)
        output: Tensor = last(hidden, batch, rotation)
        return output


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

    def prepare(
        self, *, device: torch.device | str, dtype: torch.dtype, workload: Workload = "throughput"
    ) -> None:
        """Make ready for inference once the weights are in: after this they can't be changed.

        Args:
            device: where the weights are.
            dtype: what they are, or ``torch.int8`` to quantise float32 ones (CPU only).
            workload: what to be fast at.
        """
        config = self.config
        if config.rope is not None:
            # float32, whatever the weights' dtype
            self.inv_freq = inverse_frequencies(config.rope, config.head_dim).to(device)
        self.eval().requires_grad_(requires_grad=False)
        cast(Layer, self.encoder.layer[-1]).attention.split()
        lay_out(self.encoder, dtype=dtype, device=device, workload=workload)

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
        rotation = None
        if self.inv_freq is not None:
            rotation = cos_sin(batch.positions, self.inv_freq, hidden.dtype)
        output: Tensor = self.encoder(hidden, batch, rotation, rows)
        return output

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
            hidden = self.pooler(hidden, batch)
        logits: Tensor = self.classifier(hidden)
        return logits

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
