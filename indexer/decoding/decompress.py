"""Compressed files: ``.gz``, ``.bz2``, ``.xz`` and ``.zst``, unpacked in memory."""

import bz2
import gzip
import io
import lzma
import sys
import zlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import IO, Final, Protocol, cast

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from indexer.skip import SkipDocument, SkipReason, read_errors_as_skips

MAX_FILE_BYTES: Final = 100 * 1024 * 1024
"""Larger files are skipped, and so are larger members of containers: a parser holds a file in
memory several times over, and a reader process may use 2 GiB."""


class _Decompressor(Protocol):
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


_OPENERS: Final[Mapping[str, Callable[[IO[bytes]], object]]] = MappingProxyType(
    {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open, ".zst": zstd.open}
)
_DECOMPRESSORS: Final[Mapping[str, Callable[[], "_Decompressor"]]] = MappingProxyType(
    {
        ".gz": lambda: zlib.decompressobj(zlib.MAX_WBITS | 16),
        ".bz2": bz2.BZ2Decompressor,
        ".xz": lambda: lzma.LZMADecompressor(memlimit=256 << 20),  # enough for "xz -9"
        ".zst": zstd.ZstdDecompressor,
    }
)
COMPRESSED: Final = tuple(_OPENERS)
"""Extensions that follow a file's own extension if the file is compressed."""


def without_compression(name: str) -> str:
    """Return a file's name without the extension of a compressed file."""
    for extension in COMPRESSED:
        if name.lower().endswith(extension):
            return name[: -len(extension)]
    return name


ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
"""First bytes of a Zstandard frame (RFC 8878)."""


def open_zstd(file: IO[bytes]) -> IO[bytes]:
    """Return a Zstandard file that decompresses as it is read."""
    return cast(IO[bytes], zstd.open(file))


def decompressed_start(name: str, head: bytes, most: int) -> bytes:
    """Return the start of a file without compression.

    Args:
        name: the file's name, whose extension tells the compression.
        head: the start of the file.
        most: maximum number of bytes to return.

    Raises:
        SkipDocument: the data is damaged.
    """
    for extension, decompressor in _DECOMPRESSORS.items():
        if name.lower().endswith(extension):
            with read_errors_as_skips():
                return decompressor().decompress(head, most)
    return head[:most]


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
