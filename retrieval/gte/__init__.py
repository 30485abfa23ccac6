"""The GTE core: an unpadded PyTorch encoder for GTE-v1.5 and its BERT relatives.

To load a checkpoint, ``encoder_config`` reads config.json and ``weights`` fills a ``model``. A
batch is packed by ``packing``, encoded by ``model`` (with ``rotary`` and ``attention``) and reduced
to vectors by ``pooling``. ``cpu`` makes that fast on a CPU. Only torch and safetensors are needed.
"""

from retrieval.gte.cpu import Workload, has_exact_int8
from retrieval.gte.encoder_config import EncoderConfig, HeadKind
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
    "has_exact_int8",
    "load_model",
    "normalize",
    "pack",
    "pool",
]
