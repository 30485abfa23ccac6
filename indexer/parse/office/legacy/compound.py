"""Compound files ([MS-CFB]), which hold the streams of an Office file before 2007."""

import io
import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

import olefile

from indexer.parse.base.fields import with_lists
from indexer.parse.base.titles import is_junk_title
from indexer.skip import SkipDocument, SkipReason

MAGIC: Final = bytes.fromhex("d0cf11e0a1b11ae1")
"""First bytes of a compound file: a format of Office before 2007, or an encrypted new one."""
_ENCRYPTED: Final = "EncryptedPackage"

_SUMMARY: Final = "\x05SummaryInformation"
_CODE_PAGE, _TITLE = 1, 2
"""Numbers of properties in the summary ([MS-OLEPS] 3.1)."""
_METADATA: Final = {4: "author", 5: "keywords", 3: "subject", 12: "date"}
"""Numbers of further properties to the names of the fields."""
_TEXT, _WIDE_TEXT, _TIME = 30, 31, 64
"""Types of properties."""
_MAX_PROPERTIES: Final = 1000
_MAX_TEXT: Final = 10_000
"""Longer texts are cut."""
_UTF_8: Final = 65001


class Compound:
    """An open compound file."""

    def __init__(self, data: bytes) -> None:
        """Open a file.

        Raises:
            SkipDocument: it holds an encrypted file.
            Exception: it is damaged.
        """
        try:
            self._file = olefile.OleFileIO(io.BytesIO(data))
        except Exception:  # whatever olefile raises for a damaged file
            if _ENCRYPTED.encode("utf-16-le") in data:
                raise SkipDocument(SkipReason.ENCRYPTED) from None
            raise
        if self.has(_ENCRYPTED):
            raise SkipDocument(SkipReason.ENCRYPTED)

    def has(self, stream: str) -> bool:
        """Whether there is a stream of this name, in any case."""
        return bool(self._file.get_type(stream) == olefile.STGTY_STREAM)

    def names(self) -> Iterator[str]:
        """Yield the names of all streams, with slashes between their folders."""
        return map("/".join, self._file.listdir())

    def read(self, stream: str) -> bytes:
        """Return the bytes of a stream.

        Raises:
            OSError: there is no such stream, or it is damaged.
        """
        return bytes(self._file.openstream(stream).read())

    def about(self) -> tuple[str, list[tuple[str, object]]]:
        """Return the title of the file's properties, and its metadata.

        The title is empty if a program wrote it. Damaged properties count as none.
        """
        try:
            said = _properties(self.read(_SUMMARY))
        except (OSError, ValueError, struct.error):
            said = {}
        title = said.get(_TITLE, "")
        fields = [(key, said.get(number, "")) for number, key in _METADATA.items()]
        return "" if is_junk_title(title) else title, list(with_lists(fields))


def _properties(data: bytes) -> dict[int, str]:
    """Return the properties that are texts and times ([MS-OLEPS] 2.20).

    olefile reads them, too, but counts on as long as a damaged file says.

    Raises:
        struct.error: the data is damaged.
    """
    start = struct.unpack_from("<I", data, 44)[0]
    count = min(struct.unpack_from("<I", data, start + 4)[0], _MAX_PROPERTIES)
    places = dict(struct.unpack_from("<II", data, start + 8 + 8 * n) for n in range(count))
    encoding = "cp1252"
    if _CODE_PAGE in places:
        encoding = code_page(struct.unpack_from("<H", data, start + places[_CODE_PAGE] + 4)[0])
    found: dict[int, str] = {}
    for number in (_TITLE, *_METADATA):
        if number in places:
            at = start + places[number]
            kind, size = struct.unpack_from("<II", data, at)
            text = data[at + 8 : at + 8 + min(size, _MAX_TEXT)]
            if kind == _TEXT:
                found[number] = _ended(text.decode(encoding, "replace"))
            elif kind == _WIDE_TEXT:
                wide = data[at + 8 : at + 8 + 2 * min(size, _MAX_TEXT)]
                found[number] = _ended(wide.decode("utf-16-le", "replace"))
            elif kind == _TIME:
                ticks = struct.unpack_from("<Q", data, at + 4)[0]
                found[number] = _date(ticks) if ticks else ""
    return found


def _ended(text: str) -> str:
    # Some programs leave what was in the buffer before after the end of the text.
    return text.partition("\0")[0].strip()


def filetime(ticks: int) -> datetime | None:
    """Return a time, which is in tenths of a microsecond since 1601; None if it is no time."""
    try:
        return datetime(1601, 1, 1, tzinfo=UTC) + timedelta(microseconds=ticks // 10)
    except OverflowError:
        return None


def _date(ticks: int) -> str:
    when = filetime(ticks)
    return when.replace(tzinfo=None).isoformat() + "Z" if when else ""


def code_page(number: int) -> str:
    """Return the name of Python's codec for a code page of Windows; cp1252 if there is none."""
    name = "utf-8" if number == _UTF_8 else f"cp{number}"
    try:
        "".encode(name)
    except LookupError:
        return {10000: "mac_roman", 20127: "ascii", 28591: "latin-1"}.get(number, "cp1252")
    return name


def western(raw: bytes) -> str:
    """Return text of one byte a character: cp1252, with what that leaves undefined as it is."""
    return raw.decode() if raw.isascii() else "".join(_CP1252[byte] for byte in raw)


_CP1252: Final = tuple(bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in range(256))
