"""Checkpoints: whatever a run needs to go on as if it had never been stopped.

A checkpoint is a folder of its own, written under another name and renamed when it is on the disk:
it is whole or not there. Tensors lie in safetensors files of at most 16 MiB; larger ones in parts.
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
from retrieval.store.disk.files.vector_file import sync

FILE_BYTES = 16 << 20
_PREFIX = "step-"
_PART = "@"
_HEADER_BYTES = 1 << 16
"""What a file needs besides its tensors, at most."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    step: int = 0
    """Updates done."""
    tokens: int = 0
    seconds: float = 0.0
    epoch: int = 0
    """Times that all texts were gone through."""
    cursor: int = 0
    """Texts drawn since."""


def save(run: Path, progress: Progress, tensors: Mapping[str, Tensor]) -> Path:
    """Write a checkpoint, and then remove those before it.

    Args:
        run: the run's folder.
        progress: how far it is.
        tensors: weights and whatever else; any device.

    Returns:
        the checkpoint's folder.

    Raises:
        OSError: the disk refused; the checkpoint before is untouched.
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
    """Read the run's last checkpoint; None: it has none.

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
    """The run's checkpoints, oldest first."""
    return sorted(path for path in run.glob(f"{_PREFIX}*") if path.is_dir())


def _files(tensors: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """What goes into each file."""
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
    """Tensors, those too large for a file in parts of some rows."""
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
