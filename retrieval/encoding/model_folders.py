"""Finding of a model's files by its name: in a folder, an installed package, or on the hub.

The hub is reached only through ``huggingface_hub``, and only safetensors, JSON settings and the
tokenizer are ever downloaded. A model that was downloaded once is found in the hub's cache, without
a network.
"""

import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from retrieval.domain.arguments import kind_of
from retrieval.domain.records import ModelIdentity
from retrieval.domain.wording import did_you_mean
from retrieval.encoding.model_cards import (
    MODEL_CARDS,
    OFFLINE_EXTRA,
    OFFLINE_MODEL,
    OWN_MODEL,
    RERANKERS,
    ModelCard,
    find_card,
    find_reranker,
)
from retrieval.errors import InvalidArgument, ModelNotFound

Role = Literal["model", "reranker"]
"""What a model is used as; also the name of the command line's option for it."""

SETTINGS_FILES = (
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
    "tokenizer_config.json",
)
"""Optional files of a model."""

FETCHED_FILES = (
    "config.json",
    "tokenizer.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-?????-of-?????.safetensors",
    *SETTINGS_FILES,
)
"""The only files that are downloaded from a model's repository."""


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """Where a model's files are, and where they came from."""

    path: Path
    name: str
    """Short name to show: the card's, the hub id, or the folder's own name."""
    source: Literal["folder", "package", "hub"]
    location: str
    """Where to find it again: an absolute path, a package's name, or a hub id."""
    revision: str
    """Commit hash on the hub, version of the package; empty for a folder."""
    card: ModelCard | None


def find_model(name: str | Path, role: Role = "model") -> ModelFolder:
    """Find a model's files, and download them from the hub if necessary.

    Args:
        name: a local folder; or a known name or hub id, optionally with ``@REVISION`` (branch, tag
            or commit).
        role: ``"model"`` for embeddings, or ``"reranker"``.

    Returns:
        the folder, checked to hold config.json, tokenizer.json and all safetensors files.

    Raises:
        InvalidArgument: the name is not a text.
        ModelNotFound: no such folder or name, or files are missing and can't be downloaded.
    """
    if not isinstance(name, str | Path):
        raise InvalidArgument(f"the {role}'s name is {kind_of(name)}; give a name or a folder")
    given, name = name, str(name)
    if not name:
        raise ModelNotFound(f"--{role} is empty: give a name or a folder")
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _local_folder(folder)
    if isinstance(given, Path) or folder.exists() or name.startswith(("/", "./", "../", "~")):
        raise ModelNotFound(f"no model folder at {name!r}")
    base, _, revision = name.partition("@")
    if role == "reranker":
        return _hub_folder(_reranker_hub_id(base), revision or None, None, role)
    card = find_card(base)
    if card is None and (base.count("/") != 1 or find_reranker(base)):
        raise _unknown(base, role)
    if card is not None and card.package and not revision:
        packaged = _package_folder(card)
        if packaged is not None:
            return packaged
    if card is not None and not card.hub_id:
        raise ModelNotFound(_only_in_package(card, revision))
    return _hub_folder(card.hub_id if card else base, revision or None, card, role)


def recorded_name(model: ModelIdentity | ModelFolder) -> str:
    """Return the name by which ``find_model`` finds a model again."""
    if model.source == "folder":
        return model.location
    if model.source == "hub" and model.revision:
        return f"{model.location}@{model.revision}"
    return model.name


def _reranker_hub_id(name: str) -> str:
    """Return the hub id of a known reranker, or the name itself if it is a hub id."""
    card = find_reranker(name)
    if card is None and (name.count("/") != 1 or find_card(name)):
        raise _unknown(name, "reranker")
    return card.hub_id if card else name


def _unknown(name: str, role: Role) -> ModelNotFound:
    """Return the error for a name that is unknown, or that of a model for the other role."""
    known = tuple(MODEL_CARDS) if role == "model" else tuple(RERANKERS)
    if role == "model" and find_reranker(name):
        return ModelNotFound(
            f"{name!r} reranks passages and makes no embeddings: give it with --reranker"
        )
    if role == "reranker" and find_card(name):
        return ModelNotFound(
            f"{name!r} makes embeddings and can't rerank; rerankers are {', '.join(known)}"
        )
    return ModelNotFound(
        f"unknown {role} {name!r}{did_you_mean(name, known) or ':'} give one of "
        f"{', '.join(known)}; a hub id (organisation/name); or a folder"
    )


def missing_files(folder: Path) -> list[str]:
    """Return the required files that a model folder lacks."""
    missing = [name for name in ("config.json", "tokenizer.json") if not (folder / name).is_file()]
    if not (folder / "model.safetensors").is_file():
        shards = sorted(folder.glob("model-?????-of-?????.safetensors"))
        whole = shards and len(shards) == int(shards[0].stem.rsplit("-", 1)[1])
        if not ((folder / "model.safetensors.index.json").is_file() and whole):
            missing.append("model.safetensors (or all its shards and their index)")
    return missing


def _local_folder(folder: Path) -> ModelFolder:
    path = folder.resolve()
    missing = missing_files(path)
    if missing:
        raise ModelNotFound(f"the model folder {path} lacks {', '.join(missing)}")
    card = next((card for name in _names_of(path) if (card := find_card(name))), None)
    return ModelFolder(path, card.name if card else path.name, "folder", str(path), "", card)


def _names_of(path: Path) -> list[str]:
    """Return the possible names of a folder's model: its own, and in the hub's cache the hub id.

    The cache keeps ``organisation/name`` in ``models--organisation--name/snapshots/COMMIT``.
    """
    names = [path.name]
    if path.parent.name == "snapshots":
        names.append(path.parent.parent.name.removeprefix("models--").replace("--", "/", 1))
    return names


def _package_folder(card: ModelCard) -> ModelFolder | None:
    """Return the files in an installed package, found without importing (and running) it."""
    spec = importlib.util.find_spec(card.package)
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / card.package_folder
    if missing_files(path):
        return None
    version = importlib.metadata.version(card.distribution or card.package)
    return ModelFolder(path, card.name, "package", card.package, version, card)


def _only_in_package(card: ModelCard, revision: str) -> str:
    package = card.distribution or card.package
    if revision:
        return (
            f"model {card.name!r} has no revisions, it is part of {package}: leave @{revision} out"
        )
    return (
        f"model {card.name!r} is part of {package}, and its files are missing: reinstall {package}"
    )


def _hub_folder(
    hub_id: str, revision: str | None, card: ModelCard | None, role: Role
) -> ModelFolder:
    # Imported here because most runs find their model without the hub.
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined,unused-ignore]  # exported lazily

    name = card.name if card else hub_id
    wanted = f"{hub_id}@{revision}" if revision else hub_id
    try:
        path = Path(
            snapshot_download(hub_id, revision=revision, allow_patterns=list(FETCHED_FILES))
        )
    except HFValidationError as error:
        raise ModelNotFound(f"{hub_id!r} is not a hub id: {error}") from error
    except (httpx.HTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModelNotFound(_unreachable(name, role, wanted, HF_HUB_CACHE, error)) from error
    missing = missing_files(path)
    if missing:
        # Offline, the hub's library returns an incomplete download as well.
        raise ModelNotFound(
            _unreachable(name, role, wanted, HF_HUB_CACHE, f"{path} lacks {', '.join(missing)}")
        )
    return ModelFolder(path, name, "hub", hub_id, path.name, card)


def is_packaged(card: ModelCard) -> bool:
    """Return whether an installed package holds the model's files."""
    return bool(card.package) and _package_folder(card) is not None


def _unreachable(name: str, role: Role, wanted: str, cache: str, cause: object) -> str:
    """Return the error's line: what is missing, where, and what works without a network."""
    reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0].rstrip(". ")
    instead = (
        f"use --model {OWN_MODEL} (in this package) or {OFFLINE_MODEL} "
        f"({OFFLINE_EXTRA}), which work offline"
        if role == "model"
        else "search without reranking"
    )
    return (
        f"{role} {name!r}: config.json, tokenizer.json and model.safetensors of {wanted} "
        f"are not in the hub cache ({cache}) and can't be fetched ({reason}); give --{role} a "
        f"local folder that holds them, or {instead}"
    )
