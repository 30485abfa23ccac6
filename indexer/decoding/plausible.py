"""Judge whether a text was decoded rightly, by how its characters beyond ASCII stand in words.

Decoded by the wrong table, ``réparée`` becomes ``rŽparŽe`` or ``r‚par‚e``: a capital letter, or a
sign, within a word. Chinese, Japanese and Korean come out as characters that hardly anyone writes.
"""

import re
import unicodedata
from functools import lru_cache
from itertools import islice
from typing import Final

_MAX_JUDGED: Final = 500
"""Number of characters to judge by; a hundred are enough to tell encodings apart."""

_NOT_ASCII: Final = re.compile("[^\x00-\x7f]")
_WESTERN: Final = frozenset("áàâäãåæçéèêëíîïñóòôöõøœúùûüß")
"""Nearly all letters beyond ASCII of the languages of Western Europe."""
_WORDS: Final = frozenset("àáäåèéìíòóöøùâîаивкосуяеіηήοό")
"""Letters that are words by themselves."""
_OPENING: Final = frozenset("“‘„«‚‹¿¡")
_CLOSING: Final = frozenset("”’»›…“")
_DASHES: Final = frozenset("–—•·×−")
_SIGNS: Final = frozenset("°€£§©®™²³ªº±¼½¾µ№¥\xa0")
_RARE_CYRILLIC: Final = frozenset("ђѓљњќћџјѕЂЃЉЊЌЋЏЈЅ")
_CASELESS: Final = "\u0590"
"""First letter of the scripts without capitals; letters below that have none are signs."""
_END_OF_LATIN: Final = "\u0250"
_ASIAN: Final = "\u2e80"
"""First character of the scripts of East Asia; those of all languages west of them are below."""
_BOXES: Final = re.compile("[\u2500-\u259f]")

# The first byte of the characters that are taught at school and make up nearly all of any text:
# level 1 of the standards' tables, in the order of pronunciation or strokes.
_LEVELS: Final = {
    "gbk": ("gb2312", 0xB0, 0xD7),
    "big5hkscs": ("big5", 0xA4, 0xC6),
    "cp932": ("shift_jis", 0x88, 0x98),
    "cp949": ("euc_kr", 0xB0, 0xC8),
}
REGIONS: Final = tuple(_LEVELS)
"""Encodings of East Asia, each of which has the common characters of one language."""
_SAME: Final = {"gb18030": "gbk", "euc_jp": "cp932", "iso2022_jp": "cp932"}
_WESTERN_CODECS: Final = frozenset({"cp1252", "mac-roman", "cp850", "cp437"})


def plausibility(text: str, codec: str = "") -> tuple[float, int]:
    """Return how well the characters beyond ASCII stand in a text, from -1 to 1, and their number.

    Args:
        text: what bytes were decoded to.
        codec: encoding that they were decoded from. Decides which characters are common.
    """
    padded = f" {text} "
    codec = _SAME.get(codec, codec)
    found = islice(_NOT_ASCII.finditer(padded), _MAX_JUDGED)
    places = [match.start() for match in found]
    scores = [_judge(padded[at - 1], padded[at], padded[at + 1], codec) for at in places]
    return sum(scores) / max(1, len(scores)), len(scores)


def _judge(before: str, character: str, after: str, codec: str) -> float:
    """Return how well a character stands between two others."""
    if character >= _ASIAN:
        return _judge_asian(before, character, after, codec)
    if unicodedata.category(character)[0] == "M":  # a vowel or tone, written above a letter
        return 1.0 if before.isalpha() or unicodedata.combining(before) else -1.0
    if not character.isalpha() or character in _SIGNS:
        return _judge_sign(before, character, after)
    if character.lower() != character.upper():
        return _judge_letter(before, character, after, codec)
    if character < _CASELESS or (before.isascii() and before.isalpha()):
        return -0.7
    return 0.0 if before.isascii() and after.isascii() else 1.0


def _judge_letter(before: str, letter: str, after: str, codec: str) -> float:
    """Judge a letter of a script that has capitals."""
    if not before.isalpha() and not after.isalpha():
        return 0.3 if letter.lower() in _WORDS else -0.5
    is_latin = letter < _END_OF_LATIN
    if any(one.isalpha() and (one < _END_OF_LATIN) != is_latin for one in (before, after)):
        return -0.8
    if letter.isupper():
        is_amiss = before.islower() or (after.isupper() and not before.isupper())
        if is_amiss:
            return -1.0 if before.islower() else 0.5
    elif after.isupper():
        return -1.0
    if codec in _WESTERN_CODECS and letter.lower() not in _WESTERN:
        return 0.5
    return 0.5 if letter in _RARE_CYRILLIC else 1.0


def _judge_sign(before: str, sign: str, after: str) -> float:
    """Judge punctuation and other signs."""
    if before.isalpha() and after.isalpha():
        return {"’": 1.0, "—": 0.2, "·": 0.2}.get(sign, -1.0)
    opens = sign in _OPENING and not before.isalnum() and after.isalnum()
    if opens or (sign in _CLOSING and not before.isspace() and not after.isalnum()):
        return 1.0
    if sign in _DASHES:
        return 0.8 if before.isspace() == after.isspace() else 0.3
    if sign in _SIGNS:
        is_unit = before.isdigit() or after.isdigit() or (sign == "°" and after in {"C", "F"})
        return 0.8 if is_unit else 0.3
    if _BOXES.match(sign):
        return 0.5 if _BOXES.match(before) or _BOXES.match(after) else 0.0
    return -0.7


def _judge_asian(before: str, character: str, after: str, codec: str) -> float:
    if any(one.isascii() and one.isalpha() for one in (before, after)):
        return -0.5  # a word of Latin letters with an accent, taken for two bytes
    if codec not in _LEVELS or not is_common(character, codec):
        return -0.5
    return 0.2 if before.isascii() and after.isascii() else 1.0


@lru_cache(maxsize=1 << 14)
def is_common(character: str, region: str) -> bool:
    """Return whether a language of East Asia uses a character in ordinary texts."""
    if character < "\u4e00":
        return "\u3000" <= character < "\u3100"  # punctuation and kana
    if "\uff00" <= character < "\uff61" or "\uffe0" <= character < "\uffe7":
        return True  # wide forms of ASCII
    codec, first, last = _LEVELS[region]
    if "\uac00" <= character < "\ud7a4" and region != "cp949":
        return False
    try:
        return first <= character.encode(codec)[0] <= last
    except UnicodeEncodeError:
        return False
