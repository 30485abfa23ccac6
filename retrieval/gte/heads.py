"""What a checkpoint may carry on top of the encoder: a pooler, a masked language model head."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from retrieval.gte.config import EncoderConfig


class Pooler(nn.Module):
    """First token → dense → tanh; part of the sequence classification head."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, first: Tensor) -> Tensor:
        """[B, hidden], of the first tokens → [B, hidden]."""
        return torch.tanh(self.dense(first))


class MaskedLMHead(nn.Module):
    """dense → GELU → LayerNorm → vocabulary; the output matrix is tied to the word embeddings."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.decoder_bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden: Tensor, word_embeddings: Tensor) -> Tensor:
        """[N, hidden] → [N, vocab_size]."""
        hidden = self.norm(functional.gelu(self.dense(hidden)))
        return functional.linear(hidden, word_embeddings, self.decoder_bias)
