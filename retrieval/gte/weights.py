"""Loading of a checkpoint's weights: the one place where checkpoint keys are renamed.

Only safetensors are read (one file, or shards with an index); nothing is unpickled or executed.
The keys of every supported layout are renamed to the hub's GTE-v1.5 keys, and separate projections
are fused: query, key and value into ``qkv_proj``, up and gate into ``up_gate_proj``.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from retrieval.domain.own_process import is_own_process
from retrieval.errors import CheckpointError
from retrieval.gte.cpu import Workload, compiler_folder_unchanged, tune_process
from retrieval.gte.encoder_config import EncoderConfig, HeadKind
from retrieval.gte.json_files import read_json
from retrieval.gte.model import GteModel

SINGLE_FILE = "model.safetensors"
SHARD_INDEX = "model.safetensors.index.json"
MAX_INDEX_BYTES = 64 << 20
"""Largest shard index that is read: 100 bytes a tensor make it 1 MiB for 10,000 tensors."""

_PREFIX = re.compile(r"^(?:new|gte|bert|roberta)\.")

# Each rename is (pattern of a key without its prefix, our key, part, parts). A tensor that is part
# 1 of 3 (counting from 0) fills the second third of our tensor's first dimension.
_LAYER = r"^(?:encoder\.layer|layers)\.(\d+)\."
# Separate projections: BERT and XLM-R | transformers' native gte | the hub's with pack_qkv off.
_QUERY = r"(?:attention\.self\.query|(?:self_attn|attention)\.q_proj)"
_KEY = r"(?:attention\.self\.key|(?:self_attn|attention)\.k_proj)"
_VALUE = r"(?:attention\.self\.value|(?:self_attn|attention)\.v_proj)"
_OURS = r"(attention\.(?:qkv|o)_proj|attn_ln|mlp_ln|mlp\.(?:up_gate|down)_proj)"
_RENAMES: tuple[tuple[re.Pattern[str], str, int, int], ...] = tuple(
    (re.compile(f"{_LAYER}{pattern}\\.(weight|bias)$"), target, part, parts)
    for pattern, target, part, parts in (
        (_QUERY, "attention.qkv_proj", 0, 3),
        (_KEY, "attention.qkv_proj", 1, 3),
        (_VALUE, "attention.qkv_proj", 2, 3),
        (r"(?:attention\.output\.dense|self_attn\.o_proj)", "attention.o_proj", 0, 1),
        (r"(?:attention\.output\.LayerNorm|post_attention_layernorm)", "attn_ln", 0, 1),
        (r"mlp\.up_proj", "mlp.up_gate_proj", 0, 2),
        (r"mlp\.gate_proj", "mlp.up_gate_proj", 1, 2),
        (r"intermediate\.dense", "mlp.up_proj", 0, 1),
        (r"output\.dense", "mlp.down_proj", 0, 1),
        (r"(?:output\.LayerNorm|post_mlp_layernorm)", "mlp_ln", 0, 1),
        (_OURS, r"\2", 0, 1),
    )
)
_HEAD_RENAMES = {
    "lm_head.layer_norm.weight": "lm_head.norm.weight",
    "lm_head.layer_norm.bias": "lm_head.norm.bias",
    "lm_head.decoder.bias": "lm_head.decoder_bias",
    "cls.predictions.transform.dense.weight": "lm_head.dense.weight",
    "cls.predictions.transform.dense.bias": "lm_head.dense.bias",
    "cls.predictions.transform.LayerNorm.weight": "lm_head.norm.weight",
    "cls.predictions.transform.LayerNorm.bias": "lm_head.norm.bias",
    "cls.predictions.bias": "lm_head.decoder_bias",
    # XLM-R's head is BERT's pooler and classifier under other names.
    "classifier.dense.weight": "pooler.dense.weight",
    "classifier.dense.bias": "pooler.dense.bias",
    "classifier.out_proj.weight": "classifier.weight",
    "classifier.out_proj.bias": "classifier.bias",
}
# Buffers, and tied copies of other weights.
_IGNORED = re.compile(
    r"^(?:embeddings\.(?:position_ids|token_type_ids)|(?:.*\.)?inv_freq|lm_head\.decoder\.weight"
    r"|cls\.predictions\.decoder\.(?:weight|bias)|cls\.seq_relationship\.(?:weight|bias)"
    r"|lm_head\.bias)$"
)


class _WithoutInitialValues(TorchFunctionMode):
    """Leave the weights of layers made in this context as they are: a checkpoint fills them.

    On the meta device, drawing initial values would import torch's compiler: 1.5 s of processor
    time and 40 MiB more for each process that loads a model.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        given = kwargs or {}
        if getattr(func, "__module__", "") == nn.init.__name__:
            return args[0] if args else given["tensor"]
        return func(*args, **given)


@dataclass(frozen=True, slots=True)
class _Source:
    """A tensor of the checkpoint: the source of one of our tensors, or of a part of it."""

    file: Path
    key: str
    shape: tuple[int, ...]
    target: str
    part: int
    parts: int


def load_model(
    folder: Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    workload: Workload = "throughput",
    trainable: bool = False,
) -> GteModel:
    """Load a checkpoint folder.

    The checkpoint's keys decide the head: ``lm_head`` (masked tokens), ``classifier`` with a pooler
    (sequence classification) or without (token classification), or none. A pooler without a
    classifier is left out, because no embedding uses it.

    The process is left as it is (allocator, environment, threads) unless it is a program of ours:
    see ``retrieval.domain.own_process``.

    Args:
        folder: holds config.json and model.safetensors (or shards and their index).
        dtype: type of the weights in memory. With ``torch.int8`` the layers multiply in 8-bit
            integers and all else is float32 (see ``cpu/int8_linear.py``).
        device: where to put them; int8 is for the CPU.
        workload: what the model is to be fast at; the vectors are the same within rounding.
        trainable: whether the weights are to be trained. They are then plain float32 parameters,
            and ``dtype`` and ``workload`` are ignored.

    Returns:
        the model, in eval mode with gradients off; if trainable, in train mode with gradients on.

    Raises:
        CheckpointError: a setting is not supported; or keys are missing, unexpected or of the wrong
            shape, and the message names all of them.
        InvalidArgument: ``RETRIEVAL_CPU_OFF`` names an unknown optimisation.
    """
    if is_own_process():
        tune_process(torch.device(device).type)
    config = EncoderConfig.from_folder(folder)
    sources = [_rename(*entry) for entry in _entries(folder)]
    head = _head_of({source.target for source in sources})
    if head != "sequence_classification":
        sources = [source for source in sources if not source.target.startswith("pooler.")]
    with compiler_folder_unchanged(), torch.device("meta"), _WithoutInitialValues():
        model = GteModel(config, head)
    _check(folder, sources, model)
    stored = torch.float32 if trainable or dtype == torch.int8 else dtype
    state = {
        name: torch.empty(weight.shape, dtype=stored, device=device)
        for name, weight in model.state_dict().items()
    }
    _fill(state, sources)
    model.load_state_dict(state, assign=True)
    if trainable:
        model.prepare_training(device=device)
    else:
        model.prepare(device=device, dtype=dtype, workload=workload)
    return model


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a checkpoint folder, in the order of their names.

    Raises:
        CheckpointError: there are none, or the shard index names files that are missing.
    """
    if (folder / SINGLE_FILE).is_file():
        return [folder / SINGLE_FILE]
    if not (folder / SHARD_INDEX).is_file():
        raise CheckpointError(
            f"{folder} has no {SINGLE_FILE} (other weight formats, such as .bin, are never loaded)"
        )
    shards = read_json(folder / SHARD_INDEX, limit=MAX_INDEX_BYTES).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise CheckpointError(f"{folder / SHARD_INDEX} has no weight_map")
    names = sorted({str(name) for name in shards.values()})
    strange = [n for n in names if Path(n).name != n or not n.endswith(".safetensors")]
    if strange:
        raise CheckpointError(f"{folder / SHARD_INDEX} names unusable files: {', '.join(strange)}")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(f"{folder} lacks the weight files {', '.join(missing)}")
    return [folder / name for name in names]


def _entries(folder: Path) -> Iterator[tuple[Path, str, tuple[int, ...]]]:
    """Yield (file, key, shape) of every tensor, from the headers; refuse a truncated file."""
    for path in weight_files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                for key in file.keys():  # noqa: SIM118  (not a dict)
                    name = _PREFIX.sub("", key)
                    if not _IGNORED.match(name):
                        yield path, key, tuple(file.get_slice(key).get_shape())
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} is not a whole safetensors file: {error}") from error


def _rename(file: Path, key: str, shape: tuple[int, ...]) -> _Source:
    name = _PREFIX.sub("", key)
    for pattern, target, part, parts in _RENAMES:
        match = pattern.match(name)
        if match:
            tail = match.expand(target) if "\\" in target else target
            renamed = f"encoder.layer.{match.group(1)}.{tail}.{match.group(match.re.groups)}"
            return _Source(file, key, shape, renamed, part, parts)
    return _Source(file, key, shape, _HEAD_RENAMES.get(name, name), 0, 1)


def _head_of(targets: set[str]) -> HeadKind:
    if "lm_head.dense.weight" in targets:
        return "mlm"
    if "classifier.weight" in targets:
        pooled = "pooler.dense.weight" in targets
        return "sequence_classification" if pooled else "token_classification"
    return "none"


def _check(folder: Path, sources: list[_Source], model: GteModel) -> None:
    """Refuse a checkpoint whose keys and shapes are not exactly the model's."""
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    parts: dict[str, dict[int, _Source]] = {}
    problems: dict[str, list[str]] = {"missing": [], "unexpected": [], "wrong shape": []}
    for source in sources:
        if source.target not in expected or source.part in parts.get(source.target, {}):
            problems["unexpected"].append(source.key)
            continue
        parts.setdefault(source.target, {})[source.part] = source
        whole = expected[source.target]
        wanted = (whole[0] // source.parts, *whole[1:])
        if source.shape != wanted:
            problems["wrong shape"].append(
                f"{source.key} is {list(source.shape)}, not {list(wanted)}"
            )
    for name in expected:
        found = parts.get(name, {})
        count = next(iter(found.values())).parts if found else 1
        if len(found) < count:
            problems["missing"].append(name if not found else f"{name} (a part of it)")
    if any(problems.values()):
        listed = "; ".join(f"{kind}: {', '.join(keys)}" for kind, keys in problems.items() if keys)
        raise CheckpointError(f"{folder} does not hold the weights its config.json says: {listed}")


def _fill(state: Mapping[str, Tensor], sources: list[_Source]) -> None:
    """Copy every source tensor into its place; only one at a time is in memory."""
    with ExitStack() as stack:
        opened = {
            path: stack.enter_context(safe_open(path, framework="pt"))
            for path in {source.file for source in sources}
        }
        for source in sources:
            whole = state[source.target]
            rows = whole.shape[0] // source.parts
            whole[source.part * rows : (source.part + 1) * rows].copy_(
                opened[source.file].get_tensor(source.key)
            )
