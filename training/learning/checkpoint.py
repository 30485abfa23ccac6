"""Checkpoints: all that a run needs to resume as if it had never been stopped.

A checkpoint is a folder. It is written under another name and renamed once it is on the disk, so it
is either complete or absent. Tensors are in safetensors files of at most 16 MiB; larger tensors are
split.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from retrieval.errors import CheckpointError
from retrieval.store.durable_files import sync

FILE_BYTES = 16 << 20
"""Largest file, small enough to be copied or uploaded piece by piece."""
_PREFIX = "step-"
_PART = "@"
_HEADER_BYTES = 1 << 16
"""Bytes of a file's header at most."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a run."""

    step: int = 0
    """Number of updates."""
    tokens: int = 0
    seconds: float = 0.0
    epoch: int = 0
    """Number of times that all texts were drawn."""
    cursor: int = 0
    """Texts drawn in the current epoch."""


def save(run: Path, progress: Progress, tensors: Mapping[str, Tensor]) -> Path:
    """Write a checkpoint, then remove the earlier ones.

    Args:
        run: the run's folder.
        progress: the run's progress.
        tensors: weights and optimizer state, on any device.

    Returns:
        the checkpoint's folder.

    Raises:
        OSError: the disk refuses; the earlier checkpoint is unaffected.
    """
    folder = run / f"{_PREFIX}{progress.step:08d}"
    writing = run / f".{folder.name}"
    shutil.rmtree(writing, ignore_errors=True)
    writing.mkdir(parents=True)
    for number, part in enumerate(_files(tensors)):
        save_file(part, writing / f"state-{number:03d}.safetensors")
    (writing / "progress.json").write_text(json.dumps(asdict(progress)) + "\n")
    for path in (*writing.iterdir(), writing):
        sync(path)
    if folder.exists():
        shutil.rmtree(folder)
    writing.rename(folder)
    sync(run)
    for older in _folders(run):
        if older != folder:
            shutil.rmtree(older)
    return folder


def load(run: Path) -> tuple[Progress, dict[str, Tensor]] | None:
    """Read the run's last checkpoint, if there is one.

    Raises:
        CheckpointError: it is damaged.
    """
    folders = _folders(run)
    if not folders:
        return None
    try:
        progress = Progress(**json.loads((folders[-1] / "progress.json").read_text()))
        parts: dict[str, Tensor] = {}
        for path in sorted(folders[-1].glob("*.safetensors")):
            parts.update(load_file(path))
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise CheckpointError(f"the checkpoint {folders[-1]} is damaged: {error}") from error
    return progress, _joined(parts)


def _folders(run: Path) -> list[Path]:
    """Return the folders of the run's checkpoints, oldest first."""
    return sorted(path for path in run.glob(f"{_PREFIX}*") if path.is_dir())


def _files(tensors: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Yield the tensors of each file."""
    part: dict[str, Tensor] = {}
    size = 0
    for name, tensor in _small(tensors):
        bytes_here = tensor.nbytes
        if part and size + bytes_here > FILE_BYTES - _HEADER_BYTES:
            yield part
            part, size = {}, 0
        part[name] = tensor
        size += bytes_here
    yield part


def _small(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yield tensors; split those that are too large for a file by rows."""
    for name, tensor in tensors.items():
        whole = tensor.detach().cpu().contiguous()
        if whole.nbytes <= FILE_BYTES - _HEADER_BYTES:
            yield name, whole
            continue
        rows = max(1, (FILE_BYTES - _HEADER_BYTES) // whole[0].nbytes)
        for number, part in enumerate(torch.split(whole, rows)):
            yield f"{name}{_PART}{number:04d}", part.clone()


def _joined(parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    whole: dict[str, list[Tensor]] = {}
    for name in sorted(parts):
        whole.setdefault(name.partition(_PART)[0], []).append(parts[name])
    return {name: torch.cat(some) if len(some) > 1 else some[0] for name, some in whole.items()}
