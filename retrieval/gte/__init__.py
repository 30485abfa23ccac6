"""The GTE core: a native, unpadded PyTorch encoder for GTE-v1.5 and its BERT relatives.

A checkpoint's path: ``config`` (config.json → EncoderConfig) → ``weights`` (safetensors →
``model``); a batch's: ``packing`` (token ids → PackedBatch) → ``model`` (``rotary``,
``attention``) → ``pooling``. It needs torch and safetensors only.
"""

from retrieval.gte.config import EncoderConfig, HeadKind
from retrieval.gte.cpu.layout import Workload
from retrieval.gte.model import GteModel
from retrieval.gte.packing import PackedBatch, pack
from retrieval.gte.pooling import Pooling, normalize, pool
from retrieval.gte.short_texts import ShortTexts
from retrieval.gte.weights import load_model

__all__ = [
    "EncoderConfig",
    "GteModel",
    "HeadKind",
    "PackedBatch",
    "Pooling",
    "ShortTexts",
    "Workload",
    "load_model",
    "normalize",
    "pack",
    "pool",
]
