"""The encoder under its public name: ``from retrieval.encoder import Encoder``."""

from retrieval.encoding.encoder import Encoder

__all__ = ["Encoder"]
