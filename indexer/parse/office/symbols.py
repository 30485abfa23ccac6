"""Characters of the fonts Symbol and Wingdings, which have codes of their own."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_LATIN: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_GREEK: Final = "ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖαβχδεφγηιϕκλμνοπθρστυϖωξψζ"
_SYMBOL: Final = MappingProxyType(
    dict(zip(map(ord, _LATIN), _GREEK, strict=True))
    | dict(zip(range(0x30, 0x3A), "0123456789", strict=True))
    | {
        **{0xA3: "≤", 0xA5: "∞", 0xAB: "↔", 0xAC: "←", 0xAD: "↑", 0xAE: "→", 0xAF: "↓"},
        **{0xB0: "°", 0xB1: "±", 0xB3: "≥", 0xB4: "×", 0xB6: "∂", 0xB7: "•", 0xB8: "÷"},
        **{0xB9: "≠", 0xBA: "≡", 0xBB: "≈", 0xBC: "…", 0xC6: "∅", 0xC7: "∩", 0xC8: "∪"},
        **{0xCC: "⊂", 0xCE: "∈", 0xCF: "∉", 0xD1: "∇", 0xD5: "∏", 0xD6: "√", 0xE5: "∑"},
        **{0xF2: "∫", 0x22: "∀", 0x24: "∃", 0x2B: "+", 0x2D: "-", 0x3C: "<", 0x3D: "="},
        **{0x3E: ">", 0x25: "%", 0x28: "(", 0x29: ")", 0x20: " "},
    }
)
"""Codes of the font Symbol."""
_WINGDINGS: Final = MappingProxyType(
    {
        **{0xDF: "←", 0xE0: "→", 0xE1: "↑", 0xE2: "↓", 0xE8: "➔", 0xF0: "⇨", 0xFB: "✗"},
        **{0xFC: "✓", 0xFD: "☒", 0xFE: "☑", 0xA8: "☐", 0x6F: "☐", 0x71: "☐", 0x78: "☒"},
        **{0x6C: "●", 0x6E: "■", 0xA7: "▪", 0x9F: "•", 0x4A: "☺", 0x4C: "☹", 0xD8: "➢"},
    }
)
"""Codes of the font Wingdings that people write texts with."""
_FONTS: Final[Mapping[str, Mapping[int, str]]] = MappingProxyType(
    {
        "symbol": _SYMBOL,
        "wingdings": _WINGDINGS,
        **dict.fromkeys(("wingdings 2", "wingdings 3", "webdings"), MappingProxyType({})),
    }
)
_PRIVATE: Final = range(0xF000, 0xF100)
"""Where Unicode's private area has the codes of these fonts."""


def symbol(font: str, code: str) -> str:
    """Return the character that a font shows for a code; empty if it is only an ornament.

    Args:
        font: name of the font.
        code: in hexadecimal digits.
    """
    try:
        number = int(code, 16)
    except ValueError:
        return ""
    if number in _PRIVATE:
        number -= _PRIVATE.start
    elif number > _PRIVATE.start:
        return ""
    codes = _FONTS.get(font.lower())
    return chr(number) if codes is None else codes.get(number, "")
