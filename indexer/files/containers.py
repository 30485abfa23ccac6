"""What lies in a container: the members of an archive, a mailbox, a file of JSON lines.

Members are read one after the other, into memory; nothing is written to a disk.
"""

import math
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from types import MappingProxyType
from typing import IO, Final

from indexer.decoding.decompress import MAX_FILE_BYTES, open_decompressed, without_compression
from indexer.skip import SkipReason

MAX_CONTAINER_BYTES: Final = 4 << 30
"""Larger containers are skipped."""
MAX_LINE_BYTES: Final = 16 << 20
"""Longer lines of a file of JSON lines are skipped."""

_PERMISSIONS_SHIFT: Final = 16
"""Where a ZIP file of Unix keeps the type of a file, in its external attributes."""
_ENCRYPTED_FLAG: Final = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """A member, before it is read."""

    name: str
    """Its path in the container, as the container has it: not to be trusted."""
    size: int
    """Bytes, as the container says; ``read`` may give more."""
    mtime_ns: int
    """Modification time, nanoseconds since the epoch; 0 if the container has none."""
    read: Callable[[], bytes]
    """Its bytes, or one more than ``MAX_FILE_BYTES``; to be called before the next entry is asked
    for."""
    problem: tuple[SkipReason, str] | None = None
    """Why it can't be read, where that shows without reading it."""


def container_kind(name: str) -> str:
    """Which kind of container a file of that name is; empty if it is none."""
    lower = name.lower()
    for suffix, kind in _SUFFIXES.items():
        if lower.endswith(suffix):
            return kind
    bare = without_compression(lower)
    return next((kind for suffix, kind in _WRAPPED.items() if bare.endswith(suffix)), "")


def entries(name: str, file: IO[bytes]) -> Iterator[Entry]:
    """Yield a container's members, folders left out.

    Args:
        name: the container's; tells its kind.
        file: the container, open for reading.

    Raises:
        OSError: the disk refuses.
        Exception: the container is damaged: one of ``DAMAGE``, or what ``decompress.as_skips``
            takes for damage.
    """
    kind = container_kind(name)
    yield from _OPENERS[kind](file if kind in _UNPACK_THEMSELVES else open_decompressed(name, file))


DAMAGE: Final = (
    zipfile.BadZipFile,
    tarfile.TarError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)
"""What reading a damaged archive raises, beside what reading a damaged stream does."""


def _zip(file: IO[bytes]) -> Iterator[Entry]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                read = partial(_read_zipped, archive, info)
                yield Entry(
                    info.filename, info.file_size, _zip_time(info), read, _zip_problem(info)
                )


def _read_zipped(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with archive.open(info) as member:
        return member.read(MAX_FILE_BYTES + 1)


def _zip_time(info: zipfile.ZipInfo) -> int:
    """ZIP has local times without a zone: read as UTC."""
    try:
        return int(datetime(*info.date_time, tzinfo=UTC).timestamp()) * 10**9
    except ValueError:
        return 0


def _zip_problem(info: zipfile.ZipInfo) -> tuple[SkipReason, str] | None:
    if info.flag_bits & _ENCRYPTED_FLAG:
        return SkipReason.ENCRYPTED, ""
    if stat.S_ISLNK(info.external_attr >> _PERMISSIONS_SHIFT):
        return SkipReason.NOT_REGULAR, "a link"
    return None


def _tar(file: IO[bytes]) -> Iterator[Entry]:
    with tarfile.open(fileobj=file, mode="r|*") as archive:
        for info in archive:
            if info.isdir():
                continue
            problem = None if info.isreg() else (SkipReason.NOT_REGULAR, "a link or a device")
            read = partial(_read_tarred, archive, info)
            yield Entry(info.name, info.size, _tar_time(info), read, problem)


def _tar_time(info: tarfile.TarInfo) -> int:
    """Return the time in nanoseconds; 0 where an extended header says that it is infinite."""
    return int(info.mtime) * 10**9 if math.isfinite(info.mtime) else 0


def _read_tarred(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    member = archive.extractfile(info)
    return member.read(MAX_FILE_BYTES + 1) if member else b""


def _mailbox(file: IO[bytes]) -> Iterator[Entry]:
    """Messages of an mbox file (RFC 4155): each begins with a ``From `` line after a blank one."""
    message, number, after_blank = bytearray(), 0, True
    for line in iter(partial(file.readline, MAX_FILE_BYTES), b""):
        if after_blank and line.startswith(b"From "):
            if number:
                yield _in_memory(f"{number}.eml", bytes(message))
            message, number = bytearray(), number + 1
        elif number and len(message) <= MAX_FILE_BYTES:
            quoted = line.startswith(b">") and line.lstrip(b">").startswith(b"From ")
            message += line[1:] if quoted else line
        after_blank = not line.strip(b"\r\n")
    if number:
        yield _in_memory(f"{number}.eml", bytes(message))
    else:
        raise ValueError("no message in it")


def _lines(file: IO[bytes]) -> Iterator[Entry]:
    """Records of a file of JSON lines (https://jsonlines.org), named after their lines' numbers."""
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        problem = None
        if len(line) > MAX_LINE_BYTES:
            problem = (SkipReason.TOO_LARGE, f"a line of more than {MAX_LINE_BYTES} bytes")
            rest = line
            while rest and not rest.endswith(b"\n"):
                rest = file.readline(MAX_LINE_BYTES)
        if line.strip():
            yield _in_memory(f"{number}.json", line, problem)


def _in_memory(name: str, data: bytes, problem: tuple[SkipReason, str] | None = None) -> Entry:
    return Entry(name, len(data), 0, lambda: data, problem)


_SUFFIXES: Final[Mapping[str, str]] = MappingProxyType(
    {
        ".zip": "zip",
        ".tar": "tar",
        **dict.fromkeys((".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz"), "tar"),
    }
)
_WRAPPED: Final[Mapping[str, str]] = MappingProxyType(
    {".mbox": "mailbox", ".jsonl": "lines", ".ndjson": "lines"}
)
"""Those that may be compressed as a whole."""

CONTAINER_EXTENSIONS: Final = (*_SUFFIXES, *_WRAPPED)

_OPENERS: Final = MappingProxyType({"zip": _zip, "tar": _tar, "mailbox": _mailbox, "lines": _lines})
_UNPACK_THEMSELVES: Final = frozenset({"zip", "tar"})
