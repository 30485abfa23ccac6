"""Settings of a model: pooling, length limit and prompts, read from its folder.

The folder has the layout of sentence-transformers
(https://sbert.net/docs/package_reference/sentence_transformer/models.html): ``modules.json`` lists
the pipeline, ``1_Pooling/config.json`` has the pooling, ``sentence_bert_config.json`` the length
limit, and ``config_sentence_transformers.json`` the prompts. ``matryoshka_dimensions`` in
``config.json``, as vLLM reads it, has the lengths that vectors can be cut to. The model's card
supplies what they leave out.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrieval.encoding.model_cards import ModelCard
from retrieval.errors import CheckpointError
from retrieval.gte.json_files import load_json, read_json
from retrieval.gte.pooling import Pooling

_POOLING_FLAGS: dict[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "last",
}
_POOLING_NAMES: dict[str, Pooling] = {"cls": "cls", "mean": "mean", "lasttoken": "last"}
_KNOWN_MODULES = {"Transformer", "Pooling", "Normalize"}


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """How texts become vectors, apart from the weights."""

    pooling: Pooling
    max_tokens: int
    """Maximum tokens of one text, special tokens included."""
    query_prompt: str
    passage_prompt: str
    lower_case: bool
    """Whether texts are lower-cased before the tokenizer sees them."""
    add_eos: str
    """Token to append to every text if the tokenizer doesn't; empty for none."""
    dimensions: tuple[int, ...]
    """Numbers of components that vectors can be cut to, apart from the whole vector."""


def read_settings(folder: Path, card: ModelCard | None, *, position_limit: int) -> ModelSettings:
    """Read a folder's settings.

    Args:
        folder: the model's folder.
        card: the model's card, if it is known.
        position_limit: maximum tokens of the network itself.

    Returns:
        the settings; pooling is CLS unless the folder or the card says otherwise.

    Raises:
        CheckpointError: a file is malformed, or asks for something that is not supported: another
            pooling, or a module after it such as Dense.
    """
    _check_modules(folder)
    sentence_bert = _optional_json(folder / "sentence_bert_config.json")
    prompts = _prompts(folder)
    limit = sentence_bert.get("max_seq_length") or (card.max_tokens if card else position_limit)
    if not isinstance(limit, int) or limit < 1:
        raise CheckpointError(f"{folder}: max_seq_length {limit!r} is not a positive whole number")
    return ModelSettings(
        pooling=_pooling(folder, card),
        max_tokens=min(limit, position_limit),
        query_prompt=prompts.get("query", card.query_prompt if card else ""),
        passage_prompt=prompts.get("passage", card.passage_prompt if card else ""),
        lower_case=sentence_bert.get("do_lower_case") is True,
        add_eos=_eos_to_add(folder),
        dimensions=_dimensions(folder, card),
    )


def _optional_json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _check_modules(folder: Path) -> None:
    """Refuse pipelines with other modules than transformer, pooling and normalisation."""
    path = folder / "modules.json"
    if not path.is_file():
        return
    modules = load_json(path)
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise CheckpointError(f"{path} does not hold a list of modules")
    kinds = [str(module.get("type", "")).rsplit(".", 1)[-1] for module in modules]
    unknown = [kind for kind in kinds if kind not in _KNOWN_MODULES]
    if unknown:
        raise CheckpointError(f"{path}: modules {', '.join(unknown)} are not supported")


def _pooling(folder: Path, card: ModelCard | None) -> Pooling:
    path = folder / "1_Pooling" / "config.json"
    if not path.is_file():
        return card.pooling if card else "cls"
    raw = read_json(path)
    if raw.get("include_prompt", True) is not True:
        raise CheckpointError(f"{path}: pooling without the prompt's tokens is not supported")
    named = raw.get("pooling_mode")
    flags = [key for key, on in raw.items() if key.startswith("pooling_mode_") and on is True]
    active = [named] if isinstance(named, str) else named or flags
    known = {**_POOLING_FLAGS, **_POOLING_NAMES}
    if not isinstance(active, list) or len(active) != 1 or active[0] not in known:
        raise CheckpointError(
            f"{path}: pooling {active} is not supported; supported: cls, mean, lasttoken, one alone"
        )
    return known[active[0]]


def _prompts(folder: Path) -> dict[str, str]:
    """Return the prompts that the folder states, by kind of text."""
    raw = _optional_json(folder / "config_sentence_transformers.json")
    stated = raw.get("prompts") or {}
    if not isinstance(stated, dict) or not all(isinstance(p, str) for p in stated.values()):
        raise CheckpointError(f"{folder}: prompts must be an object of texts")
    # Newer files have empty prompts for every model, which mean nothing.
    stated = {name: prompt for name, prompt in stated.items() if prompt}
    default = stated.get(str(raw.get("default_prompt_name")))
    prompts = {
        "query": stated.get("query", default),
        "passage": stated.get("document", stated.get("passage", default)),
    }
    return {kind: prompt for kind, prompt in prompts.items() if prompt is not None}


def _dimensions(folder: Path, card: ModelCard | None) -> tuple[int, ...]:
    """Return what vectors can be cut to."""
    path = folder / "config.json"
    stated = _optional_json(path).get("matryoshka_dimensions")
    if stated is None:
        return card.dimensions if card else ()
    if not isinstance(stated, list) or not all(type(one) is int and one > 0 for one in stated):
        raise CheckpointError(f"{path}: matryoshka_dimensions must be a list of whole numbers")
    return tuple(stated)


def _eos_to_add(folder: Path) -> str:
    raw = _optional_json(folder / "tokenizer_config.json")
    if raw.get("add_eos_token") is not True:
        return ""
    token = raw.get("eos_token")
    return str(token.get("content", "")) if isinstance(token, dict) else str(token or "")
