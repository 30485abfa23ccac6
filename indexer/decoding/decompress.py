"""Compressed files: ``.gz``, ``.bz2`` and ``.xz``, unpacked in memory."""

import bz2
import errno
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import IO, Final, cast

from indexer.skip import SkipDocument, SkipReason

MAX_FILE_BYTES: Final = 100 * 1024 * 1024
"""Larger files are skipped, and larger members of archives: parsing holds a file in memory several
times over."""

_OPENERS: Final[Mapping[str, Callable[[IO[bytes]], object]]] = MappingProxyType(
    {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
)
COMPRESSED: Final = tuple(_OPENERS)
"""Extensions that come after a file's own."""

_DAMAGE: Final[tuple[type[Exception], ...]] = (
    EOFError,
    zlib.error,
    lzma.LZMAError,
    gzip.BadGzipFile,
)
"""What reading a damaged stream raises, beside ``OSError`` without a number."""


def without_compression(name: str) -> str:
    """A file's name without the extension that says how it is compressed."""
    for extension in COMPRESSED:
        if name.lower().endswith(extension):
            return name[: -len(extension)]
    return name


def open_decompressed(name: str, file: IO[bytes]) -> IO[bytes]:
    """A file whose bytes are unpacked as they are read.

    Args:
        name: tells how it is compressed; one that is not comes back as it is.
        file: open for reading.
    """
    for extension, opener in _OPENERS.items():
        if name.lower().endswith(extension):
            return cast(IO[bytes], opener(file))
    return file


def decompress(name: str, data: bytes) -> bytes:
    """A file's bytes, unpacked if its name says that they are packed.

    Raises:
        SkipDocument: they are damaged, or too many.
    """
    with as_skips():
        unpacked = open_decompressed(name, io.BytesIO(data)).read(MAX_FILE_BYTES + 1)
    if len(unpacked) > MAX_FILE_BYTES:
        raise SkipDocument(SkipReason.TOO_LARGE, f"more than {MAX_FILE_BYTES} bytes unpacked")
    return unpacked


@contextmanager
def as_skips(damage: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn what reading a file or a stream raises into the reason to skip it.

    Args:
        damage: what else is raised by what is damaged.

    Raises:
        SkipDocument: the disk refused, or the stream is damaged.
    """
    try:
        yield
    except (*_DAMAGE, *damage) as error:
        raise SkipDocument(SkipReason.DAMAGED, str(error)) from error
    except OSError as error:
        # bz2 raises the first for what is no bz2; a damaged archive sends its reader to places
        # before the file.
        if error.errno in (None, errno.EINVAL):
            raise SkipDocument(SkipReason.DAMAGED, str(error)) from error
        raise SkipDocument(SkipReason.UNREADABLE, error.strerror or str(error)) from error
