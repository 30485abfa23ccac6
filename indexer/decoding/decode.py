"""Decode bytes as text: by byte order mark, as UTF-8, by a name, or by what they look like.

The text never holds a NUL or a lone surrogate, so SQLite, protobuf and JSON all take it.
"""

import codecs
import re
from typing import Final

from indexer.decoding.labels import codec_of, supersets_of
from indexer.skip import SkipDocument, SkipReason

# UTF-32 first: its little-endian mark begins with UTF-16's.
_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

# Control characters that no text format uses: all but NUL, backspace, tab, the line ends, form
# feed, and the escape character, which recorded terminal output is full of.
_CONTROLS: Final = bytes({*range(0x01, 0x08), *range(0x0E, 0x20)} - {0x1B})
_CONTROL_SHARE: Final = 0.01
"""Share of control characters above which data is not text; random bytes have 0.09."""
_NULS: Final = re.compile(rb"\0+")
_NUL_SHARE: Final = 0.1
"""Share of NULs, a run of them counted once, above which data is not text. A log that was cut off
by a power failure has a run at its end; ``printf '%s\\0'`` puts one after each line."""

_NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]+")
_DAMAGED_SHARE: Final = 2
"""Number of valid characters beyond ASCII for each bad byte above which data is damaged UTF-8.
Chinese and Japanese encodings have up to 0.5 by chance, DOS's Cyrillic in 20 bytes 1."""

_ESCAPE: Final = b"\x1b$"
_ESCAPES: Final = (b"\x1b$B", b"\x1b$@", b"\x1b$)C", b"\x1b$(D")
"""What begins Japanese and Korean text in the encodings that switch between sets of characters."""

REPLACED: Final = "+replace"
"""Suffix of the encoding's name if malformed bytes were replaced by U+FFFD, or NULs by spaces."""
GUESSED: Final = "+guessed"
"""Suffix of the encoding's name if it was told by what the bytes look like."""


def decode(data: bytes, encoding: str = "") -> tuple[str, str]:
    """Decode a file's bytes as text.

    A byte order mark decides, and is not part of the text. Data without one is taken for

    - UTF-8 if it is valid;
    - the encoding that the user named, if it is valid in that;
    - UTF-16 or UTF-32 if that gives words, in any script;
    - UTF-8 with a few bad bytes (``+replace``) if most characters that are not ASCII are valid;
    - otherwise the encoding that it looks like; see ``indexer.decoding.detect``.

    UTF-16 and the last are guesses (``+guessed``).

    Args:
        data: the whole file.
        encoding: codec for data that is not UTF-8 and has no mark; empty to guess it.

    Returns:
        the text, and the name of the Python codec that decoded it (``data.decode(name)`` returns
        the same). ``+guessed`` follows if nothing named it, and then ``+replace`` if malformed
        bytes were replaced by U+FFFD or single NULs by spaces.

    Raises:
        SkipDocument: the data is binary.
    """
    for mark, name in _MARKS:
        if data.startswith(mark):
            return _checked(*_decode_or_replace(data, name))
    refusal = decoded = None
    try:
        decoded = _decode_utf8(data)
    except SkipDocument as skip:  # or it is UTF-16
        refusal = skip
    if encoding and (decoded is None or decoded[0].isascii()):
        named = _decode_by(data, codec_of(encoding) or encoding)
        decoded = named if named and (decoded is None or named[0] != decoded[0]) else decoded
    if decoded is None:
        decoded = _guess(data, is_text=refusal is None)
    if decoded is None:
        raise refusal or SkipDocument(SkipReason.BINARY)
    return decoded


def decode_labelled(data: bytes, label: str) -> tuple[str, str] | None:
    """Decode bytes by the encoding that the document itself names.

    Args:
        data: the whole file.
        label: the name of an encoding, as documents write it, or of a Python codec.

    Returns:
        the same as ``decode``, or None if the name means nothing or the data is not in that
        encoding.

    Raises:
        SkipDocument: the data is binary.
    """
    codec = codec_of(label)
    return _decode_by(data, codec) if codec else None


def has_mark(data: bytes) -> bool:
    """Whether the data begins with a byte order mark."""
    return data.startswith(tuple(mark for mark, _ in _MARKS))


def _decode_utf8(data: bytes) -> tuple[str, str] | None:
    """Decode data that is valid UTF-8, or in an encoding that looks like ASCII; None if it isn't.

    Raises:
        SkipDocument: the data is binary, or UTF-16.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    if _ESCAPE in data and any(escape in data for escape in _ESCAPES) and text.isascii():
        for codec in ("iso2022_jp", "iso2022_jp_ext", "iso2022_kr"):
            try:
                return _checked(data.decode(codec), codec + GUESSED)
            except UnicodeDecodeError:
                continue
    return _checked(text, "utf-8", data)


def _decode_by(data: bytes, named: str) -> tuple[str, str] | None:
    """Decode data by a codec, or one that reads more; None if it is not in that encoding."""
    for codec in supersets_of(named):
        try:
            return _checked(data.decode(codec), codec)
        except UnicodeDecodeError:
            continue
    return None


def _decode_or_replace(data: bytes, encoding: str) -> tuple[str, str]:
    """Decode data whose encoding is certain; replace what is malformed."""
    try:
        return data.decode(encoding), encoding
    except UnicodeDecodeError:
        return data.decode(encoding, "replace"), encoding + REPLACED


def _guess(data: bytes, *, is_text: bool) -> tuple[str, str] | None:
    """Decode data by what it looks like; None for data that is neither text nor UTF-16."""
    from indexer.decoding.detect import detect, detect_unicode  # loads chardetng

    if name := detect_unicode(data):
        return _checked(data.decode(name), name + GUESSED)
    if not is_text:
        return None
    _refuse_binary(data, _CONTROL_SHARE)
    if _is_damaged_utf8(data):
        return _checked(data.decode("utf-8", "replace"), "utf-8" + REPLACED)
    return _checked(*_decode_guessed(data, detect(data)))


def _is_damaged_utf8(data: bytes) -> bool:
    """Whether data that is not valid UTF-8 is nevertheless UTF-8 for the most part."""
    text = data.decode("utf-8", "replace")
    bad = text.count("\ufffd")
    good = sum(map(len, _NOT_ASCII.findall(text))) - bad
    return good > _DAMAGED_SHARE * bad


def _decode_guessed(data: bytes, guess: str) -> tuple[str, str]:
    """Decode data by the encoding that its sample looks like."""
    for codec in supersets_of(guess):
        try:
            return data.decode(codec), codec + GUESSED
        except UnicodeDecodeError:
            continue
    if guess == "cp1252":
        return data.decode("latin-1"), "latin-1" + GUESSED
    return data.decode(guess, "replace"), guess + GUESSED + REPLACED


def _checked(text: str, encoding: str, encoded: bytes = b"") -> tuple[str, str]:
    """Return the text without NULs, and its encoding; refuse text with many control characters.

    Args:
        text: what was decoded.
        encoding: what decoded it.
        encoded: the text in UTF-8, if it is at hand.

    Raises:
        SkipDocument: the text is binary.
    """
    _refuse_binary(encoded or text.encode("utf-8", "surrogatepass"), _NUL_SHARE)
    if "\0" in text:
        text, encoding = text.replace("\0", " "), encoding.removesuffix(REPLACED) + REPLACED
    return text, encoding


def _refuse_binary(data: bytes, nul_share: float) -> None:
    """Raise an exception if data in an encoding that extends ASCII is no text.

    Raises:
        SkipDocument: it has too many NULs or other control characters.
    """
    size = len(data)
    if 0 in data:
        runs = _NULS.findall(data)
        size -= sum(map(len, runs)) - len(runs)
        if len(runs) > nul_share * size:
            raise SkipDocument(SkipReason.BINARY, "NUL characters")
    controls = len(data) - len(data.translate(None, _CONTROLS))
    if controls > _CONTROL_SHARE * size:
        raise SkipDocument(SkipReason.BINARY, f"{controls} control characters")
