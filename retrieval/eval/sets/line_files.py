"""Reading of text files line by line, such that every error can name the file and the line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from retrieval.errors import InvalidArgument

MAX_BYTES: Final = 1 << 30
"""Largest file that is read, since it is read into memory as a whole."""

_BOM: Final = b"\xef\xbb\xbf"


class Line(NamedTuple):
    """A line that is not blank."""

    where: str
    """File and line number, as the beginning of an error."""
    number: int
    """Number of the line, from 1; blank lines count."""
    text: str
    """Text without its line end (LF or CRLF), and without a byte order mark."""

    def as_object(self) -> dict[str, Any]:
        """Parse the line as a JSON object.

        Raises:
            InvalidArgument: it is not one.
        """
        try:
            record = json.loads(self.text)
        except (ValueError, RecursionError) as error:
            raise InvalidArgument(f"{self.where}: not JSON: {error}") from error
        if not isinstance(record, dict):
            raise InvalidArgument(f"{self.where}: not a JSON object")
        return record


def read_lines(path: Path) -> Iterator[Line]:
    """Yield the lines of a UTF-8 file, except blank ones.

    Raises:
        InvalidArgument: the file can't be read, is too large, or a line is not UTF-8.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidArgument(f"{path} has more than {MAX_BYTES} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise InvalidArgument(f"can't read {path}: {error.strerror}") from error
    # str.splitlines() would also split at U+2028 and others, which JSON texts may contain.
    for number, line in enumerate(data.removeprefix(_BOM).split(b"\n"), start=1):
        where = f"{path}, line {number}"
        try:
            text = line.removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            raise InvalidArgument(f"{where}: not UTF-8: {error.reason}") from error
        if text.strip():
            yield Line(where, number, text)
