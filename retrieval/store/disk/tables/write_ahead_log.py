"""Read a SQLite database together with its write-ahead log, without SQLite's shared memory.

The format is SQLite's (https://www.sqlite.org/fileformat2.html#the_write_ahead_log): a header of 32
bytes, then frames of 24 bytes and a page each. A frame counts if its salts are the header's, its
checksum continues that of the frame before, and a frame at or after it ends a transaction. SQLite
itself reads a log this way after a crash.
"""

import os
import struct
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

_HEADER = struct.Struct(">8I")
_FRAME = struct.Struct(">6I")
_MAGIC_LITTLE, _MAGIC_BIG = 0x377F0682, 0x377F0683
_VERSION = 3007000
_CHECKED_HEADER_BYTES, _CHECKED_FRAME_BYTES = 24, 8
_MASK = 0xFFFFFFFF

_WRITE_VERSION = 18
"""Offset in a database of the two bytes that say whether it has a log: 2 if it has one, else 1."""


_SHARED = struct.Struct("=16x I 76x I")
"""The start of SQLite's shared memory (https://www.sqlite.org/walformat.html): the number of frames
in the log, and how many of them were copied into the database."""


_kept: Final[dict[tuple[int, int], int]] = {}
"""Open files of shared memory, by device and inode."""
_opening: Final = Lock()


def is_copied(database: Path) -> bool:
    """Whether all commits in the log of a database were copied into the database.

    Only snapshots that begin then leave the log free: once all others have ended, the next commit
    begins the log anew instead of making it longer.
    """
    try:
        frames, copied = _SHARED.unpack(_start_of(database.with_name(f"{database.name}-shm")))
    except (OSError, struct.error):
        return True  # nothing has the log open
    return bool(frames == copied)


def _start_of(shared: Path) -> bytes:
    """Return the start of SQLite's shared memory.

    The file stays open. To close it would release the locks that SQLite holds on it in this
    process, as POSIX has it, and writers would overwrite what readers here still read.
    """
    with _opening:
        status = shared.stat()
        descriptor = _kept.get((status.st_dev, status.st_ino))
        if descriptor is None:
            for place, open_one in list(_kept.items()):
                if not os.fstat(open_one).st_nlink:  # deleted, so nothing is locked by it
                    os.close(_kept.pop(place))
            descriptor = os.open(shared, os.O_RDONLY | os.O_CLOEXEC)
            status = os.fstat(descriptor)
            _kept[status.st_dev, status.st_ino] = descriptor
        return os.pread(descriptor, _SHARED.size, 0)


class _Frame(NamedTuple):
    page: int
    """Number of the page, from 1."""
    pages: int
    """Number of pages in the database after the transaction that this frame ends; 0 if the frame
    does not end a transaction."""
    start: int
    """Offset of the page's bytes in the log."""


def with_log(database: bytes, log: bytes) -> bytes:
    """Return a database with all commits of its log applied, marked as having no log.

    Args:
        database: content of the database file.
        log: content of its write-ahead log; may be empty or end in the middle of a commit.
    """
    image = bytearray(database)
    page_size = _HEADER.unpack_from(log)[2] if len(log) >= _HEADER.size else 0
    begun: list[_Frame] = []
    for frame in _frames(log):
        begun.append(frame)
        if not frame.pages:
            continue
        size = frame.pages * page_size
        if len(image) < size:
            image.extend(bytes(size - len(image)))
        del image[size:]
        for page, _, start in begun:
            # Skip pages that the end of the transaction has cut off.
            if page <= frame.pages:
                at = (page - 1) * page_size
                image[at : at + page_size] = log[start : start + page_size]
        begun.clear()
    return without_log(image)


def without_log(database: bytes | bytearray) -> bytes:
    """Return the bytes of a database file, marked as having no log."""
    return bytes(database[:_WRITE_VERSION]) + b"\x01\x01" + bytes(database[_WRITE_VERSION + 2 :])


def _frames(log: bytes) -> Iterator[_Frame]:
    """Yield the valid frames in order, including those of an unfinished last transaction."""
    if len(log) < _HEADER.size:
        return
    magic, version, page_size, _, *salts, sum1, sum2 = _HEADER.unpack_from(log)
    if magic not in (_MAGIC_LITTLE, _MAGIC_BIG) or version != _VERSION or not page_size:
        return
    order = ">" if magic == _MAGIC_BIG else "<"
    sums = _checksum(order, log[:_CHECKED_HEADER_BYTES], (0, 0))
    if sums != (sum1, sum2):
        return
    step = _FRAME.size + page_size
    for at in range(_HEADER.size, len(log) - step + 1, step):
        page, pages, *frame_salts, sum1, sum2 = _FRAME.unpack_from(log, at)
        start = at + _FRAME.size
        sums = _checksum(order, log[at : at + _CHECKED_FRAME_BYTES], sums)
        sums = _checksum(order, log[start : start + page_size], sums)
        if frame_salts != salts or sums != (sum1, sum2) or not page:
            return
        yield _Frame(page, pages, start)


def _checksum(order: str, data: bytes, sums: tuple[int, int]) -> tuple[int, int]:
    """Return SQLite's checksum of some bytes, continuing from an earlier one.

    SQLite takes the words in pairs: ``first += even + second; second += odd + first``. The sums are
    linear, so each word has a weight that depends only on its position.

    Args:
        order: byte order of the words, ``">"`` or ``"<"``.
        data: bytes to sum; their number is a multiple of 8.
        sums: checksum of the bytes before ``data``.
    """
    words = np.frombuffer(data, f"{order}u4").astype(np.uint64)
    weights, carried = _weights(len(words))
    added = weights @ words  # modulo 2**64, so right modulo 2**32
    first = int(added[0]) + carried[0] * sums[0] + carried[1] * sums[1]
    second = int(added[1]) + carried[1] * sums[0] + (carried[0] + carried[1]) * sums[1]
    return first & _MASK, second & _MASK


@lru_cache(maxsize=8)
def _weights(count: int) -> tuple[NDArray[np.uint64], tuple[int, int]]:
    """Return the weights of ``count`` words in the two sums, [2, count], and of the old sums.

    The weights are Fibonacci numbers F(n), modulo 2**32.
    """
    weights = np.zeros((2, count), np.uint64)
    one, two = 1, 1  # F(2n - 1) and F(2n) for the n-th pair from the end
    for even in range(count - 2, -1, -2):
        weights[:, even] = one, two
        weights[:, even + 1] = (two - one) & _MASK, one
        one, two = (one + two) & _MASK, (one + 2 * two) & _MASK
    return weights, ((2 * one - two) & _MASK, (two - one) & _MASK)
