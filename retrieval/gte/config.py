"""``config.json`` → ``EncoderConfig``; what the core does not know it refuses by name.

Three model types share the post-LN block: ``new`` (the hub's GTE-v1.5 remote code) with its native
twin ``gte`` (transformers 5), ``bert``, and ``xlm-roberta``. Field meanings follow
https://huggingface.co/Alibaba-NLP/new-impl (configuration.py) and transformers' configurations.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from retrieval.errors import CheckpointError

HeadKind = Literal["none", "mlm", "sequence_classification", "token_classification"]

_GTE_TYPES = ("new", "gte")
_ABSOLUTE_TYPES = ("bert", "xlm-roberta")
MODEL_TYPES = (*_GTE_TYPES, *_ABSOLUTE_TYPES)
"""Values of ``model_type`` that the core runs."""

MAX_CONFIG_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class RopeConfig:
    """Rotary position embedding: base angle and scaling; see ``rotary.inverse_frequencies``."""

    theta: float
    linear_factor: float = 1.0
    """All frequencies are divided by this (position interpolation); 1 = none."""
    ntk_factor: float = 1.0
    """Fixed NTK-aware scaling ``s``; 1 = none."""
    ntk_mixed_b: float | None = None
    """Exponent of the "mixed" NTK variant; None = the plain one."""


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """Shape and variant of an encoder."""

    model_type: str
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    layer_norm_eps: float
    max_positions: int
    """Longest sequence; a hard limit with absolute positions, advisory with RoPE."""
    type_vocab_size: int
    """0: no token types; 1: every token is of type 0; more: as given."""
    num_labels: int
    rope: RopeConfig | None
    """None: learned absolute positions."""
    position_offset: int
    """Row of the position table for a sequence's first token (XLM-R: pad_token_id + 1)."""
    gated_mlp: bool
    """True: ``down(up · gelu(gate))``; False: ``down(gelu(up))``."""

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_heads

    @property
    def position_limit(self) -> int | None:
        """Longest sequence that absolute positions allow; None with RoPE, which has no table."""
        return self.max_positions - self.position_offset if self.rope is None else None

    @classmethod
    def from_folder(cls, folder: Path) -> "EncoderConfig":
        """Read ``folder/config.json``.

        Raises:
            CheckpointError: no such file, not JSON, or a setting that the core does not run.
        """
        return cls.from_dict(read_json(folder / "config.json"), where=str(folder / "config.json"))

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], *, where: str = "config.json") -> "EncoderConfig":
        """Check a parsed ``config.json``.

        Raises:
            CheckpointError: names every setting that the core does not run.
        """
        model_type = raw.get("model_type")
        if model_type not in MODEL_TYPES:
            raise CheckpointError(
                f"{where}: unknown model_type {model_type!r}; known: {', '.join(MODEL_TYPES)}"
            )
        is_gte = model_type in _GTE_TYPES
        problems = _unsupported_settings(raw, is_gte=is_gte)
        if problems:
            raise CheckpointError(f"{where}: {'; '.join(problems)}")
        fields = _Fields(raw, where)
        hidden, heads = fields.size("hidden_size"), fields.size("num_attention_heads")
        if hidden % heads or (is_gte and (hidden // heads) % 2):
            raise CheckpointError(
                f"{where}: hidden_size {hidden} does not split into {heads} heads"
            )
        padding = raw.get("pad_token_id")
        return cls(
            model_type=str(model_type),
            vocab_size=fields.size("vocab_size"),
            hidden_size=hidden,
            num_layers=fields.size("num_hidden_layers", most=512),
            num_heads=heads,
            intermediate_size=fields.size("intermediate_size"),
            layer_norm_eps=fields.number("layer_norm_eps", default=1e-12),
            max_positions=fields.size("max_position_embeddings"),
            type_vocab_size=fields.size("type_vocab_size", least=0, default=1 if is_gte else 2),
            num_labels=_num_labels(raw, fields),
            rope=_rope(raw, fields) if is_gte else None,
            position_offset=int(padding or 0) + 1 if model_type == "xlm-roberta" else 0,
            gated_mlp=is_gte,
        )


def load_json(path: Path, *, limit: int = MAX_CONFIG_BYTES) -> Any:  # noqa: ANN401  (JSON)
    """Read a JSON file of at most ``limit`` bytes.

    Raises:
        CheckpointError: the file is missing, too large, or not JSON.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise CheckpointError(f"can't read {path}: {error.strerror}") from error
    if len(data) > limit:
        raise CheckpointError(f"{path} is larger than {limit} bytes")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error


def read_json(path: Path, *, limit: int = MAX_CONFIG_BYTES) -> dict[str, Any]:
    """Read a JSON object; see ``load_json``.

    Raises:
        CheckpointError: as ``load_json``, or the JSON is not an object.
    """
    raw = load_json(path, limit=limit)
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path} does not hold a JSON object")
    return raw


@dataclass(frozen=True, slots=True)
class _Fields:
    """Typed, bounded access to a raw config."""

    raw: Mapping[str, Any]
    where: str

    def size(
        self, key: str, *, least: int = 1, most: int = 1 << 24, default: int | None = None
    ) -> int:
        value = self.raw.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise CheckpointError(
                f"{self.where}: {key} must be a whole number from {least} to {most}, not {value!r}"
            )
        return value

    def number(self, key: str, *, default: float) -> float:
        return check_number(self.raw.get(key, default), f"{self.where}: {key}")


def check_number(value: object, what: str) -> float:
    """A finite number above 0 as a float; anything else is refused under the name ``what``.

    Raises:
        CheckpointError: not such a number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CheckpointError(f"{what} must be a number, not {value!r}")
    if not (math.isfinite(value) and value > 0):
        raise CheckpointError(f"{what} must be above 0, not {value!r}")
    return float(value)


def _unsupported_settings(raw: Mapping[str, Any], *, is_gte: bool) -> list[str]:
    """Every setting whose value would silently change the arithmetic."""
    expected: dict[str, tuple[object, ...]] = {
        "hidden_act": ("gelu",),
        "position_embedding_type": ("rope",) if is_gte else ("absolute",),
        "layer_norm_type": ("layer_norm",),
        "logn_attention_scale": (False, None),
        "is_decoder": (False, None),
        "add_cross_attention": (False, None),
    }
    return [
        f"{key} {raw[key]!r} is not supported (only {allowed[0]!r})"
        for key, allowed in expected.items()
        if key in raw and raw[key] not in allowed
    ]


def _num_labels(raw: Mapping[str, Any], fields: _Fields) -> int:
    if "num_labels" in raw:
        return fields.size("num_labels")
    labels = raw.get("id2label")
    return len(labels) if isinstance(labels, dict) and labels else 2


def _rope(raw: Mapping[str, Any], fields: _Fields) -> RopeConfig:
    """Both config forms: ``rope_theta`` + ``rope_scaling`` (hub), ``rope_parameters`` (native)."""
    parameters = raw.get("rope_parameters")
    scaling = parameters if parameters is not None else raw.get("rope_scaling")
    if scaling is None:
        scaling = {}
    if not isinstance(scaling, dict):
        raise CheckpointError(f"{fields.where}: rope settings must be an object, not {scaling!r}")
    theta = check_number(
        scaling.get("rope_theta", raw.get("rope_theta", 10000.0)), f"{fields.where}: rope_theta"
    )
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind == "default":
        return RopeConfig(theta)
    factor = check_number(scaling.get("factor"), f"{fields.where}: rope factor")
    if kind == "linear":
        return RopeConfig(theta, linear_factor=factor)
    if kind == "ntk":
        mixed_b = scaling.get("mixed_b")
        if mixed_b is not None:
            mixed_b = check_number(mixed_b, f"{fields.where}: rope mixed_b")
        if factor < 1:
            raise CheckpointError(f"{fields.where}: rope factor {factor} is below 1")
        return RopeConfig(theta, ntk_factor=factor, ntk_mixed_b=mixed_b)
    raise CheckpointError(
        f"{fields.where}: unknown rope type {kind!r}; known: default, linear, ntk"
    )
