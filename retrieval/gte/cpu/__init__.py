"""The one door to what makes the encoder faster on a CPU: nothing outside needs to know how.

Behind it are operators of torch that are not part of its public interface, weights in the layout
that these operators read, TorchScript traces, and settings of the C library. The network computes
the same without them, within rounding. Each has a switch that turns it off; see ``switches``.
"""

from retrieval.gte.cpu.host import compiler_folder_unchanged, tune_process
from retrieval.gte.cpu.int8_linear import has_exact_int8
from retrieval.gte.cpu.layout import Workload, lay_out
from retrieval.gte.cpu.torchscript import (
    Traced,
    is_tracing,
    trace,
    traceable_attention,
    traceable_mean,
    traceable_pooled_attention,
)

__all__ = [
    "Traced",
    "Workload",
    "compiler_folder_unchanged",
    "has_exact_int8",
    "is_tracing",
    "lay_out",
    "trace",
    "traceable_attention",
    "traceable_mean",
    "traceable_pooled_attention",
    "tune_process",
]
