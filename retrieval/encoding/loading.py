"""Loading of an encoder's parts: backend, tokenizer, settings, and the model's fingerprint."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrieval.domain.records import ModelIdentity
from retrieval.encoding.backend import DTYPES, Backend, CoreBackend, position_limit
from retrieval.encoding.decoder_backend import DECODER_TYPES, DecoderBackend
from retrieval.encoding.model_folders import ModelFolder
from retrieval.encoding.model_settings import ModelSettings, read_settings
from retrieval.encoding.tokenizer import Tokenizer
from retrieval.errors import CheckpointError, InvalidArgument
from retrieval.gte import EncoderConfig, Workload
from retrieval.gte.encoder_config import MODEL_TYPES
from retrieval.gte.json_files import read_json
from retrieval.gte.weights import weight_files

_DECODER_POSITIONS = 32_768
"""Maximum tokens of a decoder whose configuration has no limit: that of Qwen1.5."""


@dataclass(frozen=True, slots=True)
class Description:
    """What a model's files say, apart from the weights."""

    settings: ModelSettings
    config_key: str
    """The part of the configuration that affects the vectors."""
    causal: bool | None
    """Of a decoder; None for an encoder."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Parts of an encoder."""

    backend: Backend
    tokenizer: Tokenizer
    settings: ModelSettings
    config_key: str
    """The part of the configuration that affects the vectors."""

    def identity(self, folder: ModelFolder, dtype: str) -> ModelIdentity:
        """Return what an index with vectors in ``dtype`` records about the model."""
        return ModelIdentity(
            name=folder.name,
            source=folder.source,
            location=folder.location,
            revision=folder.revision,
            fingerprint=_fingerprint(folder.path, self.config_key, self.settings, dtype),
            dim=self.backend.dim,
            max_tokens=self.settings.max_tokens,
            dtype=dtype,
        )


def assemble(folder: ModelFolder, *, device: str, dtype: str, workload: Workload) -> Parts:
    """Load a model.

    Args:
        folder: where the model is.
        device: ``"cpu"`` or ``"cuda"``.
        dtype: type of the weights, a key of ``DTYPES``.
        workload: what to be fast at.

    Raises:
        InvalidArgument: the dtype is not for this model.
        CheckpointError: the files can't be used.
    """
    description = describe(folder)
    settings = description.settings
    backend = _backend(folder, description, device=device, dtype=dtype, workload=workload)
    tokenizer = Tokenizer.from_folder(
        folder.path, max_tokens=settings.max_tokens, add_eos=settings.add_eos
    )
    return Parts(backend, tokenizer, settings, description.config_key)


def describe(folder: ModelFolder) -> Description:
    """Read a model's files, apart from its weights.

    Raises:
        CheckpointError: the files can't be used.
    """
    raw = read_json(folder.path / "config.json")
    model_type = raw.get("model_type")
    if model_type in DECODER_TYPES:
        return _described_decoder(folder, raw)
    if model_type not in MODEL_TYPES:
        known = ", ".join((*MODEL_TYPES, *DECODER_TYPES))
        raise CheckpointError(f"{folder.path}: unknown model_type {model_type!r}; known: {known}")
    config = EncoderConfig.from_dict(raw, where=str(folder.path / "config.json"))
    settings = read_settings(folder.path, folder.card, position_limit=position_limit(config))
    return Description(settings, _config_key(config), causal=None)


def _described_decoder(folder: ModelFolder, raw: Mapping[str, Any]) -> Description:
    card = folder.card
    limit = int(raw.get("max_position_embeddings", 0)) or _DECODER_POSITIONS
    settings = read_settings(folder.path, card, position_limit=limit)
    causal = bool(raw.get("is_causal", card.causal if card else True))
    key = f"{_file_sha256(folder.path / 'config.json')} causal={causal}"
    return Description(settings, key, causal=causal)


def _backend(
    folder: ModelFolder, description: Description, *, device: str, dtype: str, workload: Workload
) -> Backend:
    """Load the weights."""
    pooling, causal = description.settings.pooling, description.causal
    if causal is None:
        return CoreBackend(
            folder.path, pooling, dtype=DTYPES[dtype], device=device, workload=workload
        )
    if dtype == "int8":
        raise InvalidArgument(
            f"{folder.name} is a decoder, and int8 is for encoders only: use another --dtype"
        )
    return DecoderBackend(folder.path, pooling, causal=causal, dtype=DTYPES[dtype], device=device)


def fingerprint_of(folder: ModelFolder, dtype: str) -> str:
    """Return the fingerprint of a model with vectors in ``dtype``, without loading its weights.

    Raises:
        CheckpointError: the files can't be used.
    """
    description = describe(folder)
    return _fingerprint(folder.path, description.config_key, description.settings, dtype)


def _fingerprint(folder: Path, config_key: str, settings: ModelSettings, dtype: str) -> str:
    """Return the SHA-256 of all that makes vectors comparable: weights, tokenizer, settings."""
    parts = {
        "weights": [_file_sha256(path) for path in weight_files(folder)],
        "tokenizer": _file_sha256(folder / "tokenizer.json"),
        "config": config_key,
        "settings": _settings_key(settings),
        "normalized": True,
        "dtype": dtype,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


# The names below are part of the fingerprint in every index. They must stay even if the fields are
# renamed; otherwise no existing index would match its model.


def _settings_key(settings: ModelSettings) -> dict[str, object]:
    return {
        "pooling": settings.pooling,
        "max_tokens": settings.max_tokens,
        "query_prompt": settings.query_prompt,
        "passage_prompt": settings.passage_prompt,
        "lower_case": settings.lower_case,
        "add_eos": settings.add_eos,
    }


def _config_key(config: EncoderConfig) -> str:
    rope = config.rope
    parts = {
        "model_type": config.model_type,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_layers": config.num_layers,
        "num_heads": config.num_heads,
        "intermediate_size": config.intermediate_size,
        "layer_norm_eps": config.layer_norm_eps,
        "max_positions": config.max_positions,
        "type_vocab_size": config.type_vocab_size,
        "num_labels": config.num_labels,
        "rope": rope
        and {
            "theta": rope.theta,
            "linear_factor": rope.linear_factor,
            "ntk_factor": rope.ntk_factor,
            "ntk_mixed_b": rope.ntk_mixed_b,
        },
        "position_offset": config.position_offset,
        "gated_mlp": config.gated_mlp,
    }
    return json.dumps(parts, sort_keys=True)


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
