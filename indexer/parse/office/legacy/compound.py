"""Compound files ([MS-CFB]), which hold the streams of an Office file before 2007."""

import io
from datetime import datetime
from typing import Any, Final

import olefile

from indexer.parse.base.fields import with_lists
from indexer.parse.base.titles import is_junk_title
from indexer.skip import SkipDocument, SkipReason

MAGIC: Final = bytes.fromhex("d0cf11e0a1b11ae1")
"""First bytes of a compound file: a format of Office before 2007, or an encrypted new one."""
_ENCRYPTED: Final = "EncryptedPackage"

_SUMMARY: Final = "\x05SummaryInformation"
_CODE_PAGE, _TITLE, _SUBJECT, _AUTHOR, _KEYWORDS, _CREATED = 1, 2, 3, 4, 5, 12
"""Numbers of properties in the summary ([MS-OLEPS] 3.1)."""
_UTF_8: Final = 65001


class Compound:
    """An open compound file."""

    def __init__(self, data: bytes) -> None:
        """Open a file.

        Raises:
            SkipDocument: it holds an encrypted file.
            Exception: it is damaged.
        """
        self._data = data
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

    def read(self, stream: str) -> bytes:
        """Return the bytes of a stream.

        Raises:
            OSError: there is no such stream, or it is damaged.
        """
        return bytes(self._file.openstream(stream).read())

    def with_stream(self, stream: str, data: bytes) -> bytes:
        """Return the file with other bytes of the same number in a stream."""
        copy = io.BytesIO(self._data)
        with olefile.OleFileIO(copy, write_mode=True) as file:
            file.write_stream(stream, data)
            return copy.getvalue()

    def about(self) -> tuple[str, list[tuple[str, object]]]:
        """Return the title of the file's properties, and its metadata.

        The title is empty if a program wrote it. Damaged properties count as none.
        """
        if not self.has(_SUMMARY):
            return "", []
        # olefile logs what is damaged, and returns the other properties.
        properties = self._file.getproperties(_SUMMARY, convert_time=True, no_conversion=[10])
        encoding = _encoding(properties.get(_CODE_PAGE))
        title = _text(properties.get(_TITLE), encoding)
        metadata = [
            ("author", _text(properties.get(_AUTHOR), encoding)),
            ("keywords", _text(properties.get(_KEYWORDS), encoding)),
            ("subject", _text(properties.get(_SUBJECT), encoding)),
        ]
        created = properties.get(_CREATED)
        date = created.isoformat() + "Z" if isinstance(created, datetime) else ""
        return "" if is_junk_title(title) else title, [*with_lists(metadata), ("date", date)]


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


def _encoding(page: Any) -> str:  # noqa: ANN401  (whatever type the property has)
    # The property is a signed number of 16 bits.
    return code_page(page & 0xFFFF) if isinstance(page, int) else "cp1252"


def _text(value: Any, encoding: str) -> str:  # noqa: ANN401  (as above)
    if isinstance(value, bytes):
        value = value.decode(encoding, "replace")
    # Some programs leave what was in the buffer before after the end of the text.
    return str(value).partition("\0")[0].strip() if value else ""
