"""Escapes of troff (groff(7)): special characters, strings, and changes of font and size."""

import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Final

_ARGUMENT: Final = re.compile(r'"((?:[^"]|"")*+)"?|((?:\\.|[^ \t"])(?:\\.|[^ \t])*+)')
_ESCAPE: Final = re.compile(
    r"""\\(?:
        \((?P<two>..)
      | \[(?P<long>[^\[\]]*+)\]
      | [fF](?:\(..|\[[^\[\]]*+\]|.)
      | \*(?:\((?P<string2>..)|\[(?P<string>[^\[\]]*+)\]|(?P<string1>.))
      | [gkMmnVY](?:\(..|\[[^\[\]]*+\]|[+-]?.)
      | s(?:[+-]?\d|\([+-]?..|[+-]?\[[^\[\]]*+\]|[+-]?'[^']*+')
      | [AbBCDhHlLNoRSvwxXZ]'[^'\n]*+'
      | ["#].*+
      | (?P<one>.)
      | $
    )""",
    re.VERBOSE | re.DOTALL,
)
_ONE: Final = {
    "e": "\\", "\\": "\\", "-": "-", "'": "´", "`": "`", " ": " ", "~": " ", "0": " ", "t": "\t",
    ".": ".", "_": "_",
}  # fmt: skip
"""Escapes of one character that stand for text; all others stand for none."""
_NAMED: Final = {
    "bu": "•", "em": "—", "en": "–", "hy": "-", "aq": "'", "dq": '"', "cq": "’", "oq": "‘",
    "lq": "“", "rq": "”", "co": "©", "rg": "®", "tm": "™", "ti": "~", "ha": "^", "rs": "\\",
    "ga": "`", "aa": "´", "mi": "−", "pl": "+", "mu": "×", "di": "÷", "+-": "±", "<=": "≤",
    ">=": "≥", "!=": "≠", "->": "→", "<-": "←", "==": "≡", "~=": "≈", "de": "°", "sc": "§",
    "sq": "□", "ss": "ß", "ae": "æ", "AE": "Æ", "o/": "ø", "O/": "Ø", "oa": "å", "Fo": "«",
    "Fc": "»", "fo": "‹", "fc": "›", "Po": "£", "Eu": "€", "ct": "¢", "Ye": "¥", "at": "@",
    "sh": "#", "lB": "[", "rB": "]", "lC": "{", "rC": "}", "la": "⟨", "ra": "⟩", "ba": "|",
    "br": "|", "ul": "_", "sl": "/", "ell": "…", "char46": ".", "Lq": "“", "Rq": "”", "Tm": "™",
}  # fmt: skip
"""Special characters, and strings that the macros define."""
_ACCENTS: Final = {
    "'": "\u0301", "`": "\u0300", "^": "\u0302", "~": "\u0303", ":": "\u0308", ",": "\u0327",
    "v": "\u030c", "a": "\u0306",
}  # fmt: skip
_CODE_POINT: Final = re.compile(r"u([0-9A-Fa-f]{4,6})(?:_[0-9A-Fa-f_]++)?")
_MAX_STRINGS: Final = 1_000
"""Number of strings that a page can define; it defines a dozen."""


class Escapes:
    """Replaces the escapes of one page, which may define strings."""

    def __init__(self) -> None:
        self._strings: dict[str, str] = {}

    def define(self, rest: str) -> None:
        """Define a string by the arguments of ``.ds``: its name and its text."""
        name, _, text = rest.partition(" ")
        if len(self._strings) < _MAX_STRINGS:
            self._strings.setdefault(name, self.plain(text.lstrip().removeprefix('"')))

    def arguments(self, rest: str) -> list[str]:
        """Return the arguments of a request, as text."""
        found = []
        for match in _ARGUMENT.finditer(rest.partition(' \\"')[0]):
            quoted, bare = match.groups()
            found.append(self.plain(quoted.replace('""', '"') if bare is None else bare))
        return found

    def plain(self, line: str) -> str:
        """Return a line without escapes."""
        return _ESCAPE.sub(self._meant, line) if "\\" in line else line

    def _meant(self, match: "re.Match[str]") -> str:
        for group, meaning in _MEANINGS.items():
            if (found := match[group]) is not None:
                return meaning(self._strings, found)
        return ""


def _string(strings: Mapping[str, str], name: str) -> str:
    return strings.get(name) or _NAMED.get(name, "")


def _named(_: Mapping[str, str], name: str) -> str:
    if name in _NAMED:
        return _NAMED[name]
    if match := _CODE_POINT.fullmatch(name):
        code = int(match[1], 16)
        return chr(code) if code <= 0x10FFFF else ""  # noqa: PLR2004 -- the last code point
    if name[:1] in _ACCENTS and name[1:].isalpha():
        return unicodedata.normalize("NFC", name[1:] + _ACCENTS[name[0]])
    return ""


_MEANINGS: Final[dict[str, Callable[[Mapping[str, str], str], str]]] = {
    "two": _named,
    "long": _named,
    "string": _string,
    "string1": _string,
    "string2": _string,
    "one": lambda _, char: _ONE.get(char, ""),
}
"""Group of the expression to what it means, given the page's strings."""
