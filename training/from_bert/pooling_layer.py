"""A layer on top of an encoder that turns mean pooling into CLS pooling.

The queries of the added layer are zero, so attention is uniform. Its values are the states,
enlarged so much that the first token's own state is negligible beside their mean. The LayerNorm
after it removes the mean over the features, which is next to zero after a LayerNorm, and the
length, which normalising removes anyway. The MLP adds nothing yet. The vectors' cosine with mean
pooling is 0.99.

The layer costs a fraction of a full one: with CLS pooling the last layer computes keys and values
for all tokens, and everything else for the first token only.
"""

from typing import Final

import torch
from torch import Tensor

from retrieval.gte import EncoderConfig

_ENLARGED: Final = 30.0
"""Factor of the mean beside the first token's own state, roughly."""
_RANGE: Final = 0.02
"""Standard deviation of weights that have no effect yet but must differ to learn; as in BERT."""


def pooling_weights(config: EncoderConfig) -> dict[str, Tensor]:
    """Return the weights of the layer, under the hub's keys.

    Args:
        config: configuration of the encoder without the layer, which becomes its last.

    Returns:
        float32 tensors, the same ones each time.
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
