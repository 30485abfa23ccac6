"""The encoder's parts over packed tokens: embeddings, attention, MLPs, post-LN layers.

One layer serves GTE (RoPE, gated MLP) and BERT / XLM-R (absolute positions, plain GELU MLP); what
differs is in ``EncoderConfig``.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from retrieval.gte.attention import packed_attention, pooled_attention
from retrieval.gte.config import EncoderConfig
from retrieval.gte.packing import PackedBatch
from retrieval.gte.rotary import Rotation, neighbours

_MLP_ROWS = 1024
"""Tokens that a CPU takes through the MLP at a time: its inner states are several times as wide as
the hidden ones, and for a long text would fill memory instead of the cache."""


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
            query_key = rotation.turn(query_key)
        query, key = query_key.chunk(2, dim=1)  # [N, heads, head_dim] each
        attended = packed_attention(query, key, value, batch)
        output: Tensor = self.o_proj(attended.reshape(hidden.shape))
        return output

    def pair_neighbours(self) -> None:
        """Make ready for ``PairsRotation``: change the order of queries' and keys' dimensions."""
        heads, head_dim = self.head_shape
        with torch.no_grad():
            for old in (self.qkv_proj.weight, self.qkv_proj.bias):
                new = old.clone()
                by_head = new.view(3, heads, head_dim, -1)[:2]  # queries, keys
                by_head.copy_(by_head[:, :, neighbours(head_dim)])
                old.data = new

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
        """[N, hidden] → [B, hidden]: only the tokens ``rows``, one a sequence, ask."""
        query, key_value = self._project_apart(hidden[rows], hidden)
        query = query.view(-1, *self.head_shape)
        key, value = key_value.view(-1, 2, *self.head_shape).unbind(dim=1)
        if rotation is not None:
            query, key = rotation.of(rows).turn(query), rotation.turn(key)
        attended = pooled_attention(query, key, value, batch)
        output: Tensor = self.o_proj(attended.flatten(1))
        return output

    def _project_apart(self, asking: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Queries of some tokens, [B, hidden]; keys and values of all, [N, 2 · hidden]."""
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


class GatedMLP(nn.Module):
    """``down(up · gelu(gate))`` (GLU, https://arxiv.org/abs/2002.05202), exact (erf) GELU."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.up_gate_proj = nn.Linear(config.hidden_size, 2 * config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """[N, hidden] → [N, hidden]."""
        up, gate = self.up_gate_proj(hidden).chunk(2, dim=-1)  # [N, intermediate] each, up first
        output: Tensor = self.down_proj(up * _gelu(gate))
        return output


class PlainMLP(nn.Module):
    """``down(gelu(up))``, exact (erf) GELU."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """[N, hidden] → [N, hidden]."""
        output: Tensor = self.down_proj(_gelu(self.up_proj(hidden)))
        return output


def _gelu(inner: Tensor) -> Tensor:
    """Exact (erf) GELU; in place, but where gradients want what it was made of."""
    if torch.is_grad_enabled():
        return functional.gelu(inner)
    return cast(Tensor, torch.ops.aten.gelu_(inner))


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
