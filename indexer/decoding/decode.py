"""Decode bytes as text: by byte order mark, or as UTF-8, UTF-16 or an old single-byte encoding.

The text never holds a NUL or a lone surrogate, so SQLite, protobuf and JSON all take it.
"""

import codecs
import re
from typing import Final

from indexer.skip import SkipDocument, SkipReason

# UTF-32 first: its little-endian mark begins with UTF-16's.
_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

# Control characters that no text format uses: all but backspace, tab, the line ends, form feed,
# and the escape character, which recorded terminal output is full of.
_CONTROLS: Final = bytes({*range(0x01, 0x08), *range(0x0E, 0x20)} - {0x1B})
_CONTROL_SHARE: Final = 0.01
"""Share of control characters above which data is not text; random bytes have 0.09."""

_NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]+")

_WESTERN_SHARE: Final = 0.7
"""Share of characters below U+0100 above which data without a mark is taken for UTF-16: Western
text has nearly 1, and in binary data a NUL in every other byte is rare."""
_MIN_WESTERN: Final = 4
"""Minimum number of characters to tell by."""

REPLACED: Final = "+replace"
"""Suffix of the encoding's name if malformed bytes were replaced by U+FFFD."""


def decode(data: bytes) -> tuple[str, str]:
    """Decode a file's bytes as text.

    A byte order mark decides, and is not part of the text. Data without one is taken for

    - UTF-16 if every other byte is NUL, as in Western text;
    - UTF-8 if it is valid;
    - UTF-8 with a few bad bytes (``+replace``) if most characters that are not ASCII are valid;
    - otherwise Windows-1252, or Latin-1 if it has bytes that Windows-1252 leaves undefined.

    Args:
        data: the whole file.

    Returns:
        the text, and the name of the Python codec that decoded it (``data.decode(name)`` returns
        the same), followed by ``+replace`` if malformed bytes were replaced by U+FFFD.

    Raises:
        SkipDocument: the data is binary.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _checked(*_decode_or_replace(data, encoding))
    if encoding := _unmarked_utf16(data):
        return _checked(data.decode(encoding), encoding)
    if 0 in data:
        raise SkipDocument(SkipReason.BINARY, "NUL bytes")
    try:
        return _checked(data.decode("utf-8"), "utf-8")
    except UnicodeDecodeError:
        return _checked(*_decode_damaged(data))


def decode_labelled(data: bytes, encoding: str) -> tuple[str, str] | None:
    """Decode bytes by the encoding that the document itself names.

    Args:
        data: the whole file.
        encoding: name of a Python codec.

    Returns:
        the same as ``decode``, or None if the data is not in that encoding.

    Raises:
        SkipDocument: the data is binary.
    """
    try:
        return _checked(data.decode(encoding), encoding)
    except UnicodeDecodeError:
        return None


def has_mark(data: bytes) -> bool:
    """Whether the data begins with a byte order mark."""
    return data.startswith(tuple(mark for mark, _ in _MARKS))


def _decode_or_replace(data: bytes, encoding: str) -> tuple[str, str]:
    """Decode data whose encoding is certain; replace what is malformed."""
    try:
        return data.decode(encoding), encoding
    except UnicodeDecodeError:
        return data.decode(encoding, "replace"), encoding + REPLACED


def _unmarked_utf16(data: bytes) -> str:
    """Return the UTF-16 codec that plainly fits data without a mark; empty if none does."""
    characters, odd = divmod(len(data), 2)
    if odd or characters < _MIN_WESTERN or 0 not in data:
        return ""
    even, uneven = data[::2], data[1::2]
    for encoding, high, low in (("utf-16-le", uneven, even), ("utf-16-be", even, uneven)):
        if high.count(0) >= _WESTERN_SHARE * characters and 0 not in low:
            try:
                data.decode(encoding)
            except UnicodeDecodeError:
                continue
            return encoding
    return ""


def _decode_damaged(data: bytes) -> tuple[str, str]:
    """Decode data that is not valid UTF-8: damaged UTF-8, or a single-byte encoding."""
    text = data.decode("utf-8", "replace")
    bad = text.count("\ufffd")
    good = sum(map(len, _NOT_ASCII.findall(text))) - bad
    if good > bad:
        return text, "utf-8" + REPLACED
    try:
        return data.decode("cp1252"), "cp1252"
    except UnicodeDecodeError:
        return data.decode("latin-1"), "latin-1"


def _checked(text: str, encoding: str) -> tuple[str, str]:
    """Return the text and its encoding, or refuse text with NULs or many control characters."""
    if "\0" in text:
        raise SkipDocument(SkipReason.BINARY, "NUL characters")
    encoded = text.encode("utf-8", "surrogatepass")
    controls = len(encoded) - len(encoded.translate(None, _CONTROLS))
    if controls > _CONTROL_SHARE * len(text):
        raise SkipDocument(SkipReason.BINARY, f"{controls} control characters")
    return text, encoding
