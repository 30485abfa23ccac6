"""Configuration of an encoder, read from ``config.json``; unsupported settings are refused by name.

The supported model types share the post-LN layer: ``new`` (GTE-v1.5 with the hub's remote code) and
its twin ``gte`` (native in transformers 5), ``bert``, and ``xlm-roberta``. Fields mean what they
mean in https://huggingface.co/Alibaba-NLP/new-impl (configuration.py) and in transformers.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from retrieval.errors import CheckpointError
from retrieval.gte.json_files import read_json

HeadKind = Literal["none", "mlm", "sequence_classification", "token_classification"]

_GTE_TYPES = ("new", "gte")
_ABSOLUTE_TYPES = ("bert", "xlm-roberta")
MODEL_TYPES = (*_GTE_TYPES, *_ABSOLUTE_TYPES)
"""Supported values of ``model_type``."""

_MAX_LAYERS = 512
"""Ten times those of the deepest encoder known; more would only exhaust the memory."""
_MAX_SIZE = 1 << 24
"""Above every real size: the largest are vocabularies of 250,000."""


@dataclass(frozen=True, slots=True)
class RopeConfig:
    """Base and scaling of the rotary position embedding; see ``rotary.inverse_frequencies``."""

    theta: float
    linear_factor: float = 1.0
    """Divides all frequencies (position interpolation); 1 changes nothing."""
    ntk_factor: float = 1.0
    """Factor ``s`` of the fixed NTK-aware scaling; 1 changes nothing."""
    ntk_mixed_b: float | None = None
    """Exponent of the "mixed" NTK variant; None for the plain one."""


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """Sizes of an encoder, and which variant of the network it is."""

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
    """Number of token types. With 0 there are none; with 1 every token is of type 0."""
    num_labels: int
    rope: RopeConfig | None
    """Rotary positions; None for learned absolute positions."""
    position_offset: int
    """Row of the position table for a sequence's first token (XLM-R: pad_token_id + 1)."""
    gated_mlp: bool
    """Whether the MLP is ``down(up · gelu(gate))``; otherwise it is ``down(gelu(up))``."""

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_heads

    @property
    def position_limit(self) -> int | None:
        """Longest sequence that absolute positions allow; None with RoPE, which has no limit."""
        return self.max_positions - self.position_offset if self.rope is None else None

    @classmethod
    def from_folder(cls, folder: Path) -> "EncoderConfig":
        """Read ``folder/config.json``.

        Raises:
            CheckpointError: the file is missing or not JSON, or a setting is not supported.
        """
        return cls.from_dict(read_json(folder / "config.json"), where=str(folder / "config.json"))

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], *, where: str = "config.json") -> "EncoderConfig":
        """Check a parsed ``config.json``.

        Raises:
            CheckpointError: settings are not supported; the message names all of them.
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
            num_layers=fields.size("num_hidden_layers", most=_MAX_LAYERS),
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


@dataclass(frozen=True, slots=True)
class _Fields:
    """Typed, bounded access to the raw configuration."""

    raw: Mapping[str, Any]
    where: str

    def size(
        self, key: str, *, least: int = 1, most: int = _MAX_SIZE, default: int | None = None
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
    """Return a finite number above 0 as a float.

    Args:
        value: what the configuration holds.
        what: its name, for the error.

    Raises:
        CheckpointError: the value is anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CheckpointError(f"{what} must be a number, not {value!r}")
    if not (math.isfinite(value) and value > 0):
        raise CheckpointError(f"{what} must be above 0, not {value!r}")
    return float(value)


def _unsupported_settings(raw: Mapping[str, Any], *, is_gte: bool) -> list[str]:
    """List the settings whose values the network would silently compute wrongly."""
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
    """Read ``rope_theta`` and ``rope_scaling`` (hub), or ``rope_parameters`` (native)."""
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
