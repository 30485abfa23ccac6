"""Texts from a stream, one per line, in batches as they arrive."""

import os
from collections.abc import Iterator
from typing import BinaryIO

from retrieval.errors import InvalidArgument

_TEXTS_AT_ONCE = 64
"""Lines of a batch at most: enough to be embedded at full speed, few enough to be printed soon."""
_READ_BYTES = 1 << 16
"""Bytes read at a time: the capacity of a pipe on Linux."""


def text_batches(stream: BinaryIO) -> Iterator[list[str]]:
    """Yield the lines of a stream without their ends, as many together as have arrived.

    Args:
        stream: UTF-8; read through its file descriptor, so it must not have buffered anything.

    Yields:
        1 to 64 lines; the last line of the stream may lack its line end.

    Raises:
        InvalidArgument: a line is not UTF-8.
    """
    read = 0
    for lines in _line_batches(stream):
        for start in range(0, len(lines), _TEXTS_AT_ONCE):
            batch = lines[start : start + _TEXTS_AT_ONCE]
            yield [_decode(line, read + i) for i, line in enumerate(batch, start=1)]
            read += len(batch)


def _line_batches(stream: BinaryIO) -> Iterator[list[bytes]]:
    unfinished: list[bytes] = []
    # The stream's own readline can't tell which lines have arrived without waiting for more.
    while block := os.read(stream.fileno(), _READ_BYTES):
        *lines, rest = block.split(b"\n")
        if lines:
            lines[0] = b"".join([*unfinished, lines[0]])
            unfinished.clear()
            yield lines
        unfinished.append(rest)
    if any(unfinished):
        yield [b"".join(unfinished)]


def _decode(line: bytes, number: int) -> str:
    try:
        return line.decode("utf-8").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"line {number} of the input is not UTF-8: {error.reason}") from error
