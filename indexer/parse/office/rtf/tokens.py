"""Split RTF into groups, control words and bytes of text, and decode those bytes."""

import re
from collections.abc import Iterator
from types import MappingProxyType
from typing import Final, NamedTuple

from indexer.parse.office.legacy.compound import code_page

_TOKEN: Final = re.compile(
    rb"(?P<text>[^\\{}]++)|(?P<brace>[{}])|\\(?:(?P<word>[A-Za-z]{1,32}+)(?P<number>-?\d{1,10}+)? ?"
    rb"|'(?P<hex>[0-9A-Fa-f]{2})|(?P<symbol>.))",
    re.DOTALL,
)
_LINE_ENDS: Final = b"\r\n\0"
"""Bytes that are no part of a text; some writers pad files with NULs."""
_SYMBOLS: Final = MappingProxyType(
    {b"\n": "par", b"\r": "par", b"~": "nbsp", b"_": "nbhyphen", b"-": "shy", b"\t": "tab"}
)
"""Control symbols that stand for control words, or are named like words here."""


class Token(NamedTuple):
    """A part of an RTF file: exactly one of the first three is set."""

    brace: str = ""
    """Start or end of a group."""
    word: str = ""
    """A control word, or the character of a control symbol, such as ``*``."""
    data: bytes = b""
    """Bytes of text."""
    number: int | None = None
    """What follows a control word."""


def tokens(data: bytes) -> Iterator[Token]:
    """Yield the parts of an RTF file; binary data in it is left out."""
    at = 0
    while match := _TOKEN.match(data, at):
        at = match.end()
        kind = match.lastgroup
        if match["text"] is not None:
            if text := match["text"].translate(None, _LINE_ENDS):
                yield Token(data=text)
        elif kind == "brace":
            yield Token(brace=match["brace"].decode())
        elif match["word"] is not None:
            number = None if match["number"] is None else int(match["number"])
            word = match["word"].decode()
            if word == "bin":
                at += max(number or 0, 0)
            yield Token(word=word, number=number)
        elif kind == "hex":
            yield Token(data=bytes([int(match["hex"], 16)]))
        elif match["symbol"] in b"\\{}":
            yield Token(data=match["symbol"])
        else:
            symbol = match["symbol"]
            yield Token(word=_SYMBOLS.get(symbol, symbol.decode("latin-1")))


SYMBOL: Final = "symbol"
"""Stands for the encoding of fonts whose codes are symbols."""
_OF_CHARSET: Final = MappingProxyType(
    {
        **{0: 1252, 77: 10000, 128: 932, 129: 949, 130: 1361, 134: 936, 136: 950, 161: 1253},
        **{162: 1254, 163: 1258, 177: 1255, 178: 1256, 186: 1257, 204: 1251, 222: 874, 238: 1250},
        **{254: 437, 255: 437},
    }
)
"""Character set of a font to its code page."""


def encoding_of_charset(charset: int, default: str) -> str:
    """Return the encoding of a font's character set."""
    if charset == 2:  # noqa: PLR2004  (the number that stands for symbols)
        return SYMBOL
    page = _OF_CHARSET.get(charset)
    return default if page is None else code_page(page)
