"""A layer on top of an encoder whose first token then says what the mean of all tokens said.

An encoder with mean pooling becomes one with CLS pooling: queries of the added layer are zero, so
that attention is uniform, and what it passes on is the states as they are, so much enlarged that
the first token's own is nothing beside their mean. The LayerNorm after it takes the mean over the
features away, of which states that come out of a LayerNorm have next to none, and the length, which
normalising does anyway; the MLP adds nothing yet. Cosine with mean pooling: 0.99.

It costs a fraction of a layer: for CLS pooling the last layer computes keys and values
for all tokens, and all else for the first.
"""

from typing import Final

import torch
from torch import Tensor

from retrieval.gte import EncoderConfig

_ENLARGED: Final = 30.0
"""How many times the mean is the first token's own state, roughly."""
_RANGE: Final = 0.02
"""Standard deviation of weights that nothing depends on yet, and that have to differ to learn."""


def pooling_weights(config: EncoderConfig) -> dict[str, Tensor]:
    """The weights of the layer, under the hub's keys.

    Args:
        config: of the encoder without it; the layer comes after its last.

    Returns:
        float32 tensors, always the same ones.
    """
    width, neurons = config.hidden_size, config.intermediate_size
    random = torch.Generator().manual_seed(0)
    straight = torch.eye(width) * _ENLARGED**0.5
    key = torch.randn(width, width, generator=random) * _RANGE
    layer = {
        "attention.qkv_proj.weight": torch.cat([torch.zeros(width, width), key, straight]),
        "attention.qkv_proj.bias": torch.zeros(3 * width),
        "attention.o_proj.weight": straight.clone(),
        "attention.o_proj.bias": torch.zeros(width),
        "mlp.up_gate_proj.weight": torch.randn(2 * neurons, width, generator=random) * _RANGE,
        "mlp.down_proj.weight": torch.zeros(width, neurons),
        "mlp.down_proj.bias": torch.zeros(width),
    }
    for norm in ("attn_ln", "mlp_ln"):
        layer |= {f"{norm}.weight": torch.ones(width), f"{norm}.bias": torch.zeros(width)}
    return {f"encoder.layer.{config.num_layers}.{name}": weight for name, weight in layer.items()}
