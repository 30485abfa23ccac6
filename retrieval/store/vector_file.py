"""Vector files: immutable, flat FAISS indexes (inner product), memory-mapped when read.

The file is what ``faiss.write_index`` makes of an ``IndexFlatIP``: a 45-byte header and the float32
rows. Any FAISS can open it. The header is checked here first, so FAISS never parses a file whose
sizes it could not trust.
"""

import hashlib
import os
import secrets
import struct
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from retrieval.errors import IndexDamaged, StorageError

SUFFIX = ".faiss"
_PREFIX = "vectors-"
# fourcc, dim, rows, two unused, is_trained, metric (0 = inner product), number of floats
_HEADER = struct.Struct("<4siqqq?iQ")


@dataclass(frozen=True, slots=True)
class VectorFile:
    """A written vector file, ready to be named in a commit."""

    name: str
    rows: int
    size: int
    """Bytes."""
    sha256: str


def write_vector_file(folder: Path, vectors: NDArray[np.float32]) -> VectorFile:
    """Write vectors under a new name and flush file and folder to the disk.

    Args:
        folder: the index.
        vectors: float32 [n, dim], L2-normalised, n ≥ 1.

    Returns:
        what was written.

    Raises:
        StorageError: the disk refused; a partial file is removed.
    """
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors))
    data = faiss.serialize_index(index).tobytes()
    name = f"{_PREFIX}{secrets.token_hex(8)}{SUFFIX}"
    path = folder / name
    try:
        with path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(folder)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise StorageError(
            f"can't write {path}: {error.strerror}; what was committed before is untouched"
        ) from error
    return VectorFile(name, len(vectors), len(data), hashlib.sha256(data).hexdigest())


def open_vector_file(path: Path, *, rows: int, dim: int) -> faiss.Index:
    """Memory-map a vector file.

    Args:
        path: the file.
        rows: how many vectors it must hold.
        dim: how long each must be.

    Returns:
        a flat FAISS index over the file's own pages.

    Raises:
        FileNotFoundError: no such file.
        IndexDamaged: the file is not what the index recorded.
    """
    with path.open("rb") as file:
        header = file.read(_HEADER.size)
        size = os.fstat(file.fileno()).st_size
    expected = (b"IxFI", dim, rows, True, 0, rows * dim)
    fields = _HEADER.unpack(header) if len(header) == _HEADER.size else ()
    if size != _HEADER.size + 4 * rows * dim or (*fields[:3], *fields[5:]) != expected:
        raise IndexDamaged(
            f"{path} is not the vector file of {rows} rows of {dim} that the index recorded; "
            f"restore it from a backup, or build the index anew",
            file=path.name,
        )
    return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)


def remove_vector_files(folder: Path, *, keep: set[str]) -> list[str]:
    """Delete the vector files that no commit names; the writer's lock must be held.

    Returns:
        the names of the deleted files.
    """
    strays = [path for path in folder.glob(f"{_PREFIX}*{SUFFIX}") if path.name not in keep]
    for path in strays:
        path.unlink(missing_ok=True)
    return sorted(path.name for path in strays)


def sync_folder(folder: Path) -> None:
    """Flush a folder's own entries to the disk, so that a new name survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
