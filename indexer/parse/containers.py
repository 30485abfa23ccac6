"""Files that hold other files: ZIP and tar archives, mailboxes, and files of JSON lines.

Members are read into memory, one after the other. Nothing is written to a disk.
"""

import math
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import IO, Final

from indexer.decoding.decompress import MAX_FILE_BYTES, ZSTD_MAGIC, open_zstd
from indexer.parse.base.unknown import SNIFFED_BYTES
from indexer.skip import SkipDocument, SkipReason, parser_errors_as_damage

MAX_LINE_BYTES: Final = 16 << 20
"""Longer lines of a file of JSON lines are skipped: a line is held in memory whole, and even a long
article with its metadata has less than 1 MB."""

MAX_UNPACKED_BYTES: Final = 16 << 30
"""Maximum number of bytes of all members of a container, inner containers included. Stops a small
file that unpacks without end; it is four times the size of the largest container, because text
rarely packs to less than a quarter."""

DAMAGE: Final = (
    zipfile.BadZipFile,
    tarfile.TarError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)
"""Exceptions that a damaged container raises, besides those of a damaged compressed stream."""

_PERMISSIONS_SHIFT: Final = 16
"""A ZIP file written on Unix keeps the mode of a file above this bit of its external attributes."""
_ENCRYPTED_FLAG: Final = 1
"""Bit of a ZIP entry's general-purpose flags (APPNOTE.TXT, 4.4.4)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A member of a container, before it is read."""

    name: str
    """Path within the container, as the container gives it: not to be trusted."""
    size: int
    """Size in bytes, as the container gives it; ``read`` may return more."""
    mtime_ns: int
    """Modification time in nanoseconds since the epoch; 0 if the container has none."""
    read: Callable[[], bytes]
    """Return the member's bytes, at most ``MAX_FILE_BYTES + 1`` of them. Call it before asking for
    the next entry."""
    head: Callable[[], bytes] | None = None
    """Return the member's first ``SNIFFED_BYTES``, if that can be done without reading it all. Call
    it before ``read``."""
    problem: tuple[SkipReason, str] | None = None
    """Reason and detail if it is clear without reading that the member can't be indexed."""


def zip_entries(file: IO[bytes]) -> Iterator[Entry]:
    """Yield the files of a ZIP archive.

    Args:
        file: the archive, seekable.

    Raises:
        Exception: one of ``DAMAGE``, or what ``indexer.skip.read_errors_as_skips`` knows; so do
            the functions below.
    """
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                read = partial(_read_zipped, archive, info)
                head = partial(_read_zipped, archive, info, SNIFFED_BYTES)
                problem = _zip_problem(info)
                yield Entry(info.filename, info.file_size, _zip_time(info), read, head, problem)


def _read_zipped(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, most: int = MAX_FILE_BYTES + 1
) -> bytes:
    with archive.open(info) as member:
        return member.read(most)


def _zip_time(info: zipfile.ZipInfo) -> int:
    """Return the modification time in nanoseconds; ZIP's local times have no zone: take UTC."""
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


def tar_entries(file: IO[bytes]) -> Iterator[Entry]:
    """Yield the files of a tar archive, compressed with gzip, bzip2, xz or Zstandard or not."""
    is_zstd = file.read(len(ZSTD_MAGIC)) == ZSTD_MAGIC
    file.seek(0)
    # Before Python 3.14, tarfile does not know Zstandard.
    source = open_zstd(file) if is_zstd else file
    with tarfile.open(fileobj=source, mode="r|" if is_zstd else "r|*") as archive:
        for info in archive:
            if info.isdir():
                continue
            problem = None if info.isreg() else (SkipReason.NOT_REGULAR, "a link or a device")
            read = partial(_read_tarred, archive, info)
            yield Entry(info.name, info.size, _tar_time(info), read, problem=problem)


def _tar_time(info: tarfile.TarInfo) -> int:
    """Return the modification time in nanoseconds; 0 if an extended header makes it infinite."""
    return int(info.mtime) * 10**9 if math.isfinite(info.mtime) else 0


def _read_tarred(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    member = archive.extractfile(info)
    return member.read(MAX_FILE_BYTES + 1) if member else b""


def mailbox_entries(file: IO[bytes]) -> Iterator[Entry]:
    """Yield the messages of an mbox file (RFC 4155), named ``1.eml``, ``2.eml`` and so on.

    A message begins with a ``From `` line at the start of the file or after a blank line.
    """
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


def mail_entries(file: IO[bytes]) -> Iterator[Entry]:
    """Yield the files attached to a message; nothing if it is not one, which its document says."""
    from indexer.parse.mail.mail import attached_files

    with suppress(SkipDocument), parser_errors_as_damage():
        for name, data in attached_files(file.read(MAX_FILE_BYTES)):
            yield _in_memory(name, data)


def json_line_entries(file: IO[bytes]) -> Iterator[Entry]:
    """Yield the records of a file of JSON lines (https://jsonlines.org).

    A record is named after the number of its line, from 1: ``7.json``.
    """
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
    return Entry(name, len(data), 0, lambda: data, problem=problem)
