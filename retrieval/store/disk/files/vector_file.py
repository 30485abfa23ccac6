"""Vector files: immutable, flat FAISS indexes (inner product), memory-mapped when read.

The file is what ``faiss.write_index`` makes of an ``IndexFlatIP``: a 45-byte header and the float32
rows. Any FAISS can open it. The header is checked here first, so FAISS never parses a file whose
sizes it could not trust.
"""

import errno
import hashlib
import os
import secrets
import shutil
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from retrieval.errors import IndexDamaged, StorageError
from retrieval.store.disk.files.open_files import library_path

SUFFIX = ".faiss"
VECTORS = "vectors-"
ANN = "ann-"
"""Prefixes of the names of vector files, and of approximate indexes beside them."""
LEXICAL = "lexical-"
"""Prefix of the names of the lexical index's files, and of the folder where it is written."""

MAX_SEGMENT_ROWS = 1 << 26
"""Maximum number of rows in a segment. Their ids are one value in the database, 8 bytes a row, and
SQLite takes no value above 1,000,000,000 bytes; half of that leaves room to merge two."""

# fourcc, dim, rows, two unused, is_trained, metric (0 = inner product), number of floats
_HEADER = struct.Struct("<4siqqq?iQ")
_UNUSED = 1 << 20  # what FAISS writes there

_SAMPLE_BLOCKS = 64
_SAMPLE_BYTES = 4096
"""A sample is 64 blocks of 4 KiB, a page of a disk each: 256 KiB in all."""
_WHOLE_BYTES = 16 << 20
"""Files up to this size are read whole when they are opened, which takes up to 20 ms."""


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file of an index that was written whole, as a commit records it."""

    name: str
    size: int
    """Bytes."""
    sha256: str
    sample: str
    """SHA-256 of some blocks of it: see ``sample_sha256``."""


def write_vector_file(
    folder: Path, parts: Iterable[NDArray[np.float32]], *, rows: int, dim: int
) -> WrittenFile:
    """Write vectors under a new name and flush file and folder to the disk.

    Args:
        folder: the index.
        parts: float32 [n, dim] each, L2-normalised; written as they come, so that a large file
            needs little memory.
        rows: how many there are in all, ≥ 1.
        dim: length of a vector.

    Returns:
        what was written.

    Raises:
        StorageError: the disk refused; a partial file is removed.
    """
    header = _HEADER.pack(b"IxFI", dim, rows, _UNUSED, _UNUSED, True, 0, rows * dim)
    little_endian = (np.ascontiguousarray(part, dtype="<f4").data.cast("B") for part in parts)
    return write_file(folder, VECTORS, chain([header], little_endian))


def write_file(folder: Path, prefix: str, blocks: Iterable[bytes | memoryview]) -> WrittenFile:
    """Write a file under a new name and flush file and folder to the disk.

    Args:
        folder: the index.
        prefix: of the name.
        blocks: the content.

    Raises:
        StorageError: the disk refused; a partial file is removed.
    """
    path = folder / f"{prefix}{secrets.token_hex(8)}{SUFFIX}"
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("xb") as file:
            for block in blocks:
                file.write(block)
                digest.update(block)
                size += len(block)
            file.flush()
            os.fsync(file.fileno())
        sync(folder)
        return _described(path, size, digest.hexdigest())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise StorageError(
            f"can't write {path}: {error.strerror}; what was committed before is untouched"
        ) from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def describe_file(path: Path) -> WrittenFile:
    """Return what a commit records of a file that the engine wrote.

    Raises:
        OSError: it can't be read.
    """
    return _described(path, path.stat().st_size, file_sha256(path))


def _described(path: Path, size: int, sha256: str) -> WrittenFile:
    # The sample of a small file is all of it.
    sample = sha256 if size <= _WHOLE_BYTES else sample_sha256(path)
    return WrittenFile(path.name, size, sha256, sample)


def sample_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, or of a sample where it has more than 16 MiB.

    What opening an index checks: cheap at any size, and enough to notice a file that was cut,
    exchanged or overwritten. ``indexer verify`` reads every byte.

    Raises:
        FileNotFoundError: no such file.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size <= _WHOLE_BYTES:
            return hashlib.file_digest(file, "sha256").hexdigest()
        last = max(0, size - _SAMPLE_BYTES)
        for number in range(_SAMPLE_BLOCKS):
            digest.update(
                os.pread(file.fileno(), _SAMPLE_BYTES, last * number // (_SAMPLE_BLOCKS - 1))
            )
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a whole file.

    Raises:
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_vector_file(path: Path, *, rows: int, dim: int, sample: str = "") -> faiss.Index:
    """Memory-map a vector file.

    Args:
        path: the file.
        rows: how many vectors it must hold.
        dim: how long each must be.
        sample: what ``sample_sha256`` must give; empty: that was not recorded.

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
    whole = size == _HEADER.size + 4 * rows * dim and (*fields[:3], *fields[5:]) == expected
    if not whole or (sample and sample_sha256(path) != sample):
        raise IndexDamaged(
            f"{path} is not the vector file of {rows} rows of {dim} that the index recorded; "
            f"restore it from a backup, or build the index anew",
            file=path.name,
        )
    return read_index(path, faiss.IO_FLAG_MMAP_IFC)


def read_index(path: Path, flags: int = 0) -> faiss.Index:
    """Have FAISS open a file that was checked before.

    Raises:
        FileNotFoundError: no such file.
        StorageError: the system refuses, as where memory or open files run out.
    """
    with library_path(path) as name:
        try:
            return faiss.read_index(name, flags)
        except (RuntimeError, MemoryError) as error:
            if not path.exists():
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error
            raise StorageError(f"can't open {path}: {error}") from error


def remove_stray_files(folder: Path, *, keep: set[str]) -> list[str]:
    """Delete the vector files, approximate and lexical indexes that no commit names.

    The writer's lock must be held. A reader that has one open goes on with it: the kernel keeps
    the file until it is closed.

    Returns:
        the names of the deleted files.
    """
    strays = [
        path
        for pattern in (f"{VECTORS}*{SUFFIX}", f"{ANN}*{SUFFIX}", f"{LEXICAL}*")
        for path in folder.glob(pattern)
        if path.name not in keep
    ]
    for path in strays:
        if path.is_dir():  # where a lexical index was being written
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return sorted(path.name for path in strays)


def sync(path: Path) -> None:
    """Flush a file, or a folder's own entries, to the disk, so that it survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def search_rows(
    vectors: faiss.Index, queries: NDArray[np.float32], rows: NDArray[np.int64], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Search some rows exactly; only those are read, and none is copied.

    Args:
        vectors: a flat index.
        queries: float32 [n, dim].
        rows: int64 [m], which may be found.
        k: how many are wanted.

    Returns:
        [n, min(k, m)] inner products and rows, best first.
    """
    parameters = faiss.SearchParameters(sel=faiss.IDSelectorArray(rows))
    found: tuple[NDArray[np.float32], NDArray[np.int64]]
    found = vectors.search(queries, min(k, len(rows)), params=parameters)
    return found


def search_on_one_core() -> None:
    """Have FAISS use no core but the calling thread's own, for searches of this thread.

    Where many threads search, cores that help each other wait for each other.
    """
    faiss.omp_set_num_threads(1)
