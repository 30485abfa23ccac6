"""Texts from a stream, one a line, as they arrive."""

import os
from collections.abc import Iterator
from typing import BinaryIO

from retrieval.errors import InvalidArgument

_TEXTS_AT_ONCE = 64
_READ_BYTES = 1 << 16


def text_batches(stream: BinaryIO) -> Iterator[list[str]]:
    """Lines of a stream without their ends, as many at once as have arrived.

    Args:
        stream: of UTF-8; read through its file descriptor, so nothing may be buffered in it yet.

    Yields:
        1 to 64 lines; the last may lack its line end.

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
    # Not the stream's own readline: it can't say which lines are there without waiting for more.
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
