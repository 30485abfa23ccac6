"""Headers of messages as people read them (RFC 2047, RFC 5322), even if they are malformed.

Python's own decoding is not used: it fails on many headers of real mail, and knows only the labels
of encodings that Python has.
"""

import binascii
import email.utils
import re
from collections.abc import Iterator
from email.message import Message
from typing import Final

from indexer.decoding.decode import GUESSED, decode
from indexer.parse.web.html_source import decode_by_label

_WORD: Final = re.compile(r"=\?([^\s?*]++)(?:\*[^\s?]*+)?\?([bBqQ])\?([^?]*+)\?=")
_MAX_HEADER_CHARS: Final = 100_000
"""Longer headers are cut: they take Python's parser quadratic time."""
_MAX_COMMENTS: Final = 100
"""Python's parser of addresses calls itself for each comment in a comment."""
_SPECIAL: Final = re.compile(r'[()<>@,:;".\[\]\\]')
"""Characters that a name must be quoted for."""
_BLANKS: Final = re.compile(r"\s++")
_HEX: Final = re.compile(rb"=([0-9A-Fa-f]{2})")


class Decoder:
    """Decodes the texts of one message, and keeps how."""

    def __init__(self, encoding: str = "") -> None:
        """Set how to decode what names no encoding.

        Args:
            encoding: codec of text that is not UTF-8; empty to guess it.
        """
        self._default = encoding
        self._encodings: list[str] = []

    @property
    def encoding(self) -> str:
        """What decoded the message: a guess if there is any, else the first that is not UTF-8."""
        guesses = (name for name in self._encodings if GUESSED in name)
        others = (name for name in self._encodings if name != "utf-8")
        return next(guesses, None) or next(others, "utf-8")

    def decode(self, data: bytes, label: str = "") -> str:
        """Decode the bytes of a text.

        Args:
            data: the bytes.
            label: what the message says about their encoding; may be empty, unknown or wrong.

        Raises:
            SkipDocument: the data is binary.
        """
        decoded = decode_by_label(data, label) if label else None
        text, encoding = decoded or decode(data, self._default)
        if not text.isascii():
            self._encodings.append(encoding)
        return text

    def note(self, encoding: str) -> None:
        """Note how a text was decoded elsewhere."""
        self._encodings.append(encoding)

    def words(self, raw: str) -> str:
        """Return a header, or a part of one, with its encoded words decoded, on one line."""
        parts: list[tuple[bytes, str]] = []
        end = 0
        for word in _WORD.finditer(raw):
            between = raw[end : word.start()]
            follows = end > 0 and (not between or between.isspace())
            if not follows:
                parts.append((_raw_bytes(between), ""))
            data, label = _word_bytes(word), word[1].lower()
            if follows and parts[-1][1] == label:
                # Words next to each other may share a character.
                parts[-1] = (parts[-1][0] + data, label)
            else:
                parts.append((data, label))
            end = word.end()
        parts.append((_raw_bytes(raw[end:]), ""))
        texts = (self.decode(data, label) for data, label in parts if data)
        return _BLANKS.sub(" ", "".join(texts)).strip()

    def header(self, message: Message, name: str) -> str:
        """Return the text of a header; empty if the message has none."""
        return self.words(raw_header(message, name))

    def addresses(self, message: Message, name: str) -> list[str]:
        """Return the addresses of a header, each with its name; the whole header if none is."""
        raw = _BLANKS.sub(" ", raw_header(message, name))
        is_plain = raw.count("(") <= _MAX_COMMENTS
        pairs = email.utils.getaddresses([raw]) if raw and is_plain else []
        found = [self._address(*pair) for pair in pairs if any(pair)]
        return found if all("@" in one for one in found) and found else [self.words(raw)]

    def _address(self, name: str, address: str) -> str:
        name, address = self.words(name), self.words(address)
        if not name or not address:
            return name or address
        quoted = name.replace("\\", r"\\").replace('"', r"\"")
        return f'"{quoted}" <{address}>' if _SPECIAL.search(name) else f"{name} <{address}>"


def raw_header(message: Message, name: str) -> str:
    """Return a header as it is in the message; bytes that are not ASCII are surrogates."""
    wanted = name.lower()
    values = (str(value) for key, value in message.raw_items() if key.lower() == wanted)
    return next(values, "")[:_MAX_HEADER_CHARS]


def date_of(raw: str) -> str:
    """Return a date as ``2024-05-01T10:00:00+00:00``, or as it is if it is malformed."""
    try:
        return email.utils.parsedate_to_datetime(raw).isoformat()
    except (ValueError, OverflowError):
        return raw


def parameters(message: Message) -> Iterator[str]:
    """Yield the names that a part gives its file, the best first."""
    for key, name in (("content-disposition", "filename"), ("content-type", "name")):
        raw = raw_header(message, key)
        if raw.isascii():
            value = message.get_param(name, header=key)
        else:  # bytes as they came, which the message itself would replace
            readable = Message()
            readable[key] = Decoder().decode(_raw_bytes(raw))
            value = readable.get_param(name, header=key)
        if value is not None:
            yield email.utils.collapse_rfc2231_value(value)


def _raw_bytes(text: str) -> bytes:
    """Return the bytes of a text in which those that are not ASCII are surrogates."""
    try:
        return text.encode("ascii", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape")


def _word_bytes(word: re.Match[str]) -> bytes:
    """Return the bytes of an encoded word; those of the word itself if it is malformed."""
    data = _raw_bytes(word[3])
    if word[2] in "qQ":
        return _HEX.sub(lambda match: bytes.fromhex(match[1].decode()), data.replace(b"_", b" "))
    try:
        return binascii.a2b_base64(data + b"=" * (-len(data) % 4))
    except binascii.Error:
        return _raw_bytes(word[0])
