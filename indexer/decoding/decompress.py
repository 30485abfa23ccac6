"""Compressed files: ``.gz``, ``.bz2`` and ``.xz``, unpacked in memory."""

import bz2
import gzip
import io
import lzma
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import IO, Final, cast

from indexer.skip import SkipDocument, SkipReason, read_errors_as_skips

MAX_FILE_BYTES: Final = 100 * 1024 * 1024
"""Larger files are skipped, and so are larger members of containers: a parser holds a file in
memory several times over, and a reader process may use 2 GiB."""

_OPENERS: Final[Mapping[str, Callable[[IO[bytes]], object]]] = MappingProxyType(
    {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
)
COMPRESSED: Final = tuple(_OPENERS)
"""Extensions that follow a file's own extension if the file is compressed."""


def without_compression(name: str) -> str:
    """Return a file's name without the extension of a compressed file."""
    for extension in COMPRESSED:
        if name.lower().endswith(extension):
            return name[: -len(extension)]
    return name


def open_decompressed(name: str, file: IO[bytes]) -> IO[bytes]:
    """Return a file that decompresses as it is read; the same file if its name has no extension.

    Args:
        name: the file's name, whose extension tells the compression.
        file: open for reading.
    """
    for extension, opener in _OPENERS.items():
        if name.lower().endswith(extension):
            return cast(IO[bytes], opener(file))
    return file


def decompress(name: str, data: bytes) -> bytes:
    """Return a file's bytes, decompressed if its name says that they are compressed.

    Raises:
        SkipDocument: the data is damaged, or more than ``MAX_FILE_BYTES`` when decompressed.
    """
    with read_errors_as_skips():
        unpacked = open_decompressed(name, io.BytesIO(data)).read(MAX_FILE_BYTES + 1)
    if len(unpacked) > MAX_FILE_BYTES:
        raise SkipDocument(SkipReason.TOO_LARGE, f"more than {MAX_FILE_BYTES} bytes unpacked")
    return unpacked
