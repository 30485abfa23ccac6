"""Vector files: immutable flat FAISS indexes (inner product), memory-mapped for reading.

The file has the format that ``faiss.write_index`` gives an ``IndexFlatIP``: a 45-byte header and
the float32 rows. Any version of FAISS can open it. The header is checked here first, so FAISS never
parses a file with wrong sizes.
"""

import errno
import hashlib
import os
import secrets
import shutil
import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from retrieval.errors import IndexDamaged, StorageError
from retrieval.store.disk.files.open_files import library_path
from retrieval.store.durable_files import flush, storage_error, sync

SUFFIX = ".faiss"
VECTORS = "vectors-"
ANN = "ann-"
"""Name prefixes of vector files and of the approximate indexes beside them."""
LEXICAL = "lexical-"
"""Name prefix of the lexical index's files, and of the folder where they are written."""

PENDING = ".pending"
"""Suffix of files that maintenance writes outside commits; a commit removes it."""

MAX_SEGMENT_ROWS = 1 << 26
"""Maximum number of rows in a segment. The database stores their ids as one value of 8 bytes a row,
and SQLite takes at most 1,000,000,000 bytes; about half of that leaves room to merge two."""

# fourcc, dim, rows, two unused fields, is_trained, metric (0 = inner product), number of floats
_HEADER = struct.Struct("<4siqqq?iQ")
_UNUSED = 1 << 20  # the value that FAISS writes into unused fields

_SAMPLE_BLOCKS = 64
_SAMPLE_BYTES = 4096
"""Size of a sample: 64 blocks of 4 KiB, which is one page of a disk, so 256 KiB in all."""
_WHOLE_BYTES = 16 << 20
"""Files up to this size are checked completely when opened, which takes up to 20 ms."""


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A completely written file of an index, as a commit records it."""

    name: str
    size: int
    """Bytes."""
    sha256: str
    sample: str
    """SHA-256 of some blocks of the file; see ``sample_sha256``."""


def write_vector_file(
    folder: Path,
    parts: Iterable[NDArray[np.float32]],
    *,
    rows: int,
    dim: int,
    pending: bool = False,
) -> WrittenFile:
    """Write vectors under a new name and flush file and folder to the disk.

    Args:
        folder: the index.
        parts: L2-normalised vectors, float32 [n, dim] each. Parts are written one by one, so a
            large file needs little memory.
        rows: total number of vectors, ≥ 1.
        dim: length of a vector.
        pending: see ``write_file``.

    Returns:
        name, size and hashes of the file.

    Raises:
        StorageError: the file can't be written; a partial file is removed.
    """
    header = _HEADER.pack(b"IxFI", dim, rows, _UNUSED, _UNUSED, True, 0, rows * dim)
    little_endian = (np.ascontiguousarray(part, dtype="<f4").data.cast("B") for part in parts)
    return write_file(folder, VECTORS, chain([header], little_endian), pending=pending)


def write_file(
    folder: Path, prefix: str, blocks: Iterable[bytes | memoryview], *, pending: bool = False
) -> WrittenFile:
    """Write a file under a new name and flush file and folder to the disk.

    Args:
        folder: the index.
        prefix: start of the new file's name.
        blocks: content of the file.
        pending: whether the file is written outside a commit; see ``PENDING`` and ``adopt``.

    Raises:
        StorageError: the file can't be written; a partial file is removed.
    """
    path = folder / f"{prefix}{secrets.token_hex(8)}{SUFFIX}{PENDING if pending else ''}"
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("xb") as file:
            for block in blocks:
                file.write(block)
                digest.update(block)
                size += len(block)
            flush(file)
        sync(folder)
        return _described(path, size, digest.hexdigest())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise storage_error(
            f"can't write {path}: {error.strerror}; what was committed before is untouched", error
        ) from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def adopt(folder: Path, pending: WrittenFile) -> WrittenFile:
    """Give a pending file its final name, within the commit that names it.

    Raises:
        StorageError: the file can't be renamed.
    """
    name = pending.name.removesuffix(PENDING)
    try:
        (folder / pending.name).rename(folder / name)
        sync(folder)
    except OSError as error:
        raise StorageError(f"can't rename {folder / pending.name}: {error.strerror}") from error
    return replace(pending, name=name)


def remove_pending_files(folder: Path) -> None:
    """Delete files that an interrupted maintenance left; the caller holds its lock."""
    for path in folder.glob(f"*{PENDING}"):
        try:
            path.unlink(missing_ok=True)
        except OSError:
            shutil.rmtree(path, ignore_errors=True)  # a folder in which lexical files were merged


def describe_file(path: Path) -> WrittenFile:
    """Return the record of a file that the lexical engine wrote.

    Raises:
        OSError: the file can't be read.
    """
    return _described(path, path.stat().st_size, file_sha256(path))


def _described(path: Path, size: int, sha256: str) -> WrittenFile:
    # The sample of a small file is the whole file.
    sample = sha256 if size <= _WHOLE_BYTES else sample_sha256(path)
    return WrittenFile(path.name, size, sha256, sample)


def sample_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, or of a sample if it is larger than 16 MiB.

    Opening an index checks this hash. It is cheap at any size, and enough to notice a file that was
    truncated, replaced or overwritten. ``indexer verify`` reads every byte.

    Raises:
        FileNotFoundError: there is no file.
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
        OSError: the file can't be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_vector_file(path: Path, *, rows: int, dim: int, sample: str = "") -> faiss.Index:
    """Memory-map a vector file.

    Args:
        path: the file.
        rows: expected number of vectors.
        dim: expected length of a vector.
        sample: expected ``sample_sha256``; empty if the index recorded none.

    Returns:
        a flat FAISS index over the file's own pages.

    Raises:
        FileNotFoundError: there is no file.
        IndexDamaged: the file does not match the index's record.
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
    """Let FAISS open a file that was checked before.

    Raises:
        FileNotFoundError: there is no file.
        StorageError: the file can't be opened, for example because memory has run out.
    """
    with library_path(path) as name:
        try:
            return faiss.read_index(name, flags)
        except (RuntimeError, MemoryError) as error:
            if not path.exists():
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error
            raise StorageError(f"can't open {path}: {error}") from error


def remove_stray_files(folder: Path, *, keep: set[str]) -> list[str]:
    """Delete vector files, approximate indexes and lexical files that no commit names.

    The caller must hold the commit lock. A reader that has such a file open can still use it: the
    kernel keeps the file until it is closed. A file that can't be deleted is left for the next
    call.

    Returns:
        the names of the deleted files.
    """
    with os.scandir(folder) as entries:
        names = {entry.name for entry in entries if _belongs_to_a_commit(entry.name)}
    strays = sorted(names - keep)
    for name in strays:
        path = folder / name
        try:
            path.unlink(missing_ok=True)
        except OSError:
            # It is a folder of links to lexical files.
            shutil.rmtree(path, ignore_errors=True)
    return strays


def _belongs_to_a_commit(name: str) -> bool:
    """Whether a file of this name is there only for a commit that names it."""
    return name.startswith(LEXICAL) or (name.startswith((VECTORS, ANN)) and name.endswith(SUFFIX))


def search_rows(
    vectors: faiss.Index, queries: NDArray[np.float32], rows: NDArray[np.int64], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Search some rows exactly, reading only those and copying none.

    Args:
        vectors: flat index.
        queries: float32 [n, dim].
        rows: rows to search, int64 [m].
        k: maximum number of results.

    Returns:
        inner products and rows, [n, min(k, m)] each, best first.
    """
    parameters = faiss.SearchParameters(sel=faiss.IDSelectorArray(rows))
    found: tuple[NDArray[np.float32], NDArray[np.int64]]
    found = vectors.search(queries, min(k, len(rows)), params=parameters)
    return found


def search_on_one_core() -> None:
    """Make FAISS use a single core for searches of the calling thread.

    When many threads search at once, spreading each search over several cores makes them wait for
    each other.
    """
    faiss.omp_set_num_threads(1)
