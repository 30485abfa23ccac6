"""The same weights in other runtimes and libraries.

Runtimes take padded token ids and a mask, and return hidden states. Libraries take texts and return
vectors, with their default settings.

A peer whose package is not installed is left out, with a line that says so
(``pip install '.[peers]'``).
"""

import json
import logging
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

EmbedTexts = Callable[[Sequence[str]], Tensor]
"""Embeds texts: float32 [n, dim], L2-normalised, in the order given."""

Run = Callable[[Tensor, Tensor], Tensor]
"""Maps token ids and mask, int64 [b, length] each, to float32 [b, length, hidden]."""

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
)

PROCESS_THREADS = torch.get_num_threads()


class HiddenStates(nn.Module):
    """A transformers model as a function of two tensors, the form that can be exported."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Map ids and mask [b, length] to hidden states [b, length, hidden]."""
        hidden: Tensor = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        return hidden


def padded_peers(model: nn.Module, folder: Path) -> Iterator[tuple[str, Run]]:
    """Yield every installed runtime by name.

    Args:
        model: a transformers encoder in eval mode.
        folder: an empty folder for exported files.

    Yields:
        name, and function that runs it.
    """
    warnings.simplefilter("ignore")
    for noisy in ("torch.onnx", "root"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    yield "transformers", HiddenStates(model)
    yield "transformers, FBGEMM int8", HiddenStates(fbgemm_int8(model))
    try:
        import onnxruntime  # noqa: F401

        exported = export_onnx(model, folder / "model.onnx")
    except ImportError as error:
        print(f"left out, not installed: ONNX Runtime and OpenVINO ({error})", file=sys.stderr)
        return
    yield "ONNX Runtime, float32", onnx_runtime(exported)
    yield "ONNX Runtime, int8", onnx_runtime(onnx_int8(exported))
    try:
        yield "OpenVINO, float32", openvino_float32(exported)
    except ImportError as error:
        print(f"left out, not installed: OpenVINO ({error})", file=sys.stderr)


def libraries(model: Path, exported: Path, pooling: str) -> Iterator[tuple[str, EmbedTexts]]:
    """Yield every installed embedding library by name, with its defaults.

    Args:
        model: a folder with weights, configuration and tokenizer.
        exported: a folder where ``padded_peers`` has left ``model.onnx``, or none.
        pooling: ``"cls"`` or ``"mean"``.

    Yields:
        name, and function that calls it.
    """
    try:
        yield "sentence-transformers, from text", sentence_transformers_peer(model, pooling)
    except ImportError as error:
        print(f"left out, not installed: sentence-transformers ({error})", file=sys.stderr)
    if not (exported / "model.onnx").exists():
        return
    try:
        yield "fastembed, from text", fastembed_peer(model, exported, pooling)
    except ImportError as error:
        print(f"left out, not installed: fastembed ({error})", file=sys.stderr)


def sentence_transformers_peer(folder: Path, pooling: str) -> EmbedTexts:
    """Return ``SentenceTransformer.encode``, in its own batches of 32 sorted by length."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer

    if (folder / "modules.json").exists():
        model = SentenceTransformer(str(folder), device="cpu")
    else:
        transformer = Transformer(str(folder))
        pool = Pooling(transformer.get_word_embedding_dimension(), pooling)
        model = SentenceTransformer(modules=[transformer, pool], device="cpu")

    def embed(texts: Sequence[str]) -> Tensor:
        vectors: Tensor = model.encode(
            list(texts), convert_to_tensor=True, normalize_embeddings=True, show_progress_bar=False
        )
        return vectors

    return embed


def fastembed_peer(folder: Path, exported: Path, pooling: str) -> EmbedTexts:
    """Return ``TextEmbedding.embed`` over the exported ONNX file, in its own unsorted batches."""
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    if folder != exported:
        for name in (*TOKENIZER_FILES, "config.json"):
            shutil.copyfile(folder / name, exported / name)
    name = f"local/{exported.name}"
    TextEmbedding.add_custom_model(
        name,
        pooling=PoolingType.CLS if pooling == "cls" else PoolingType.MEAN,
        normalization=True,
        sources=ModelSource(hf=name),
        dim=json.loads((folder / "config.json").read_text())["hidden_size"],
        model_file="model.onnx",
    )
    model = TextEmbedding(name, specific_model_path=str(exported), threads=PROCESS_THREADS)
    return lambda texts: torch.from_numpy(np.stack(list(model.embed(texts, batch_size=32))))


def fbgemm_int8(model: nn.Module) -> nn.Module:
    """Apply PyTorch's dynamic quantisation: one scale per weight channel, one per batch."""
    from torch.ao.quantization import per_channel_dynamic_qconfig, quantize_dynamic

    torch.backends.quantized.engine = "fbgemm"
    quantized: nn.Module = quantize_dynamic(model, {nn.Linear: per_channel_dynamic_qconfig})
    return quantized


def export_onnx(model: nn.Module, path: Path) -> Path:
    """Write an ONNX file for any batch size and length."""
    import onnxscript  # noqa: F401  (what the exporter needs)

    ids, mask = torch.ones(2, 9, dtype=torch.int64), torch.ones(2, 9, dtype=torch.int64)
    mask[1, 5:] = 0
    axes = {0: torch.export.Dim("batch", max=4096), 1: torch.export.Dim("length", min=2, max=512)}
    torch.onnx.export(
        HiddenStates(model),
        (ids, mask),
        str(path),
        input_names=["input_ids", "attention_mask"],
        output_names=["hidden"],
        dynamo=True,
        dynamic_shapes={"ids": axes, "mask": axes},
        external_data=True,
        verbose=False,
    )
    return path


def onnx_int8(path: Path) -> Path:
    """Apply ONNX Runtime's dynamic quantisation, with one weight scale per channel."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    target = path.with_suffix(".int8.onnx")
    quantize_dynamic(str(path), str(target), per_channel=True, weight_type=QuantType.QInt8)
    return target


def onnx_runtime(path: Path) -> Run:
    """Open a session with as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = PROCESS_THREADS
    # Threads that spin between calls would take the cores from the other contestants.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session: Any = onnxruntime.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"]
    )

    def run(ids: Tensor, mask: Tensor) -> Tensor:
        outputs = session.run(None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})
        return torch.from_numpy(outputs[0])

    return run


def openvino_float32(path: Path) -> Run:
    """Compile the model for the CPU with as many threads as torch has."""
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": PROCESS_THREADS,
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled: Any = openvino.Core().compile_model(str(path), "CPU", settings)

    def run(ids: Tensor, mask: Tensor) -> Tensor:
        return torch.from_numpy(compiled([ids.numpy(), mask.numpy()])[0])

    return run
