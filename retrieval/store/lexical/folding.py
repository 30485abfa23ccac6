"""Fold the words of texts and queries into one form, independent of any engine.

``fold`` brings a text into one form. It unifies compatible characters (full width, ligatures: NFKC)
and removes invisible ones (soft hyphens, zero-width spaces and joiners), the vowel points of Arabic
and Hebrew, and the accents of Greek. Everything between words becomes a space. The signs of
Devanagari, Thai and similar scripts remain part of their words.

A text is prepared in three forms, each for its own field:

- ``words_of``: all words; Chinese, Japanese, Korean, Thai and other scripts that put no spaces
  between words become pairs of characters (https://dl.acm.org/doi/10.1145/258525.258531);
- ``plain_of``: all words at their positions, scripts without spaces as single characters; for
  phrases and prefixes;
- ``identifiers_of``: ``get_user``, ``os.path.join``, ``v1.2.3``, ``CVE-2021-44228`` and ``C++``
  unchanged. Their parts are words as well.
"""

import re
import unicodedata
from functools import cache
from itertools import groupby, pairwise
from typing import Final

MAX_TERM_BYTES: Final = 128
"""Maximum length of a term; longer terms, as in encoded data, can't be searched for."""

BREAK: Final = "|"
"""Separator between parts of a plain text. No phrase matches across it, and no word contains it."""

# Scripts without spaces: Thai, Lao; Myanmar; Khmer; Hangul; Kana; Bopomofo; Han.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f\u1780-\u17ff"
    "\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7ff"
    "\u3040-\u30ff\u31f0-\u31ff\U0001aff0-\U0001b16f\u3100-\u312f\u31a0-\u31bf"
    "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
UNSPACED_RUN = re.compile(f"[{_UNSPACED}]+")
TOKEN = re.compile(f"[{_UNSPACED}]+|[^ {_UNSPACED}]+")
"""A run of a script without spaces, or another word, in a folded text."""

# Unicode's Default_Ignorable_Code_Point; U+200B is the zero-width space.
_IGNORABLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_IGNORABLES = re.compile(f"[{_IGNORABLE}]+")

# Marks that most writers leave out: general accents, and the points of Cyrillic, Hebrew, Arabic,
# Syriac and Vedic. Marks of other scripts are vowels and similar signs that distinguish words.
_ACCENTS = re.compile(
    "[\u0300-\u036f\u0483-\u0489\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u0711"
    "\u0730-\u074a\u0898-\u089f\u08ca-\u08ff\u0951-\u0954\u1ab0-\u1aff\u1cd0-\u1cff\u1dc0-\u1dff"
    "\u20d0-\u20ff\ufe20-\ufe2f]"
)
_GREEK = re.compile("[\u0370-\u03ff\u1f00-\u1fff]")
# Final sigma; Cyrillic letters with an accent, but not separate letters such as й; a letter that
# the engine folds to a capital; and tatweel, which only stretches Arabic words.
_LETTERS: Final = {
    **{"ς": "σ", "ё": "е", "Ё": "Е", "ѐ": "е", "Ѐ": "Е", "ѝ": "и", "Ѝ": "И", "ǧ": "g", "Ǧ": "G"},
    "\u0640": "",
}

# Words joined by one or two signs, or ending in one, or containing "_" or "+".
_JOIN = r"(?:::|->|[./:@+#~-])"
IDENTIFIER = re.compile(
    rf"\b\w++(?:(?:{_JOIN}\w++)++(?:\+\+|\#)?|\+\+|\#)|\b[^\W_]*+_(?=\w*[^\W_])\w*+"
)
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[A-Za-z])(?=[0-9])")
_ANY_HUMP = re.compile(r"[a-z0-9][A-Z]|[A-Z]{2}[a-z]")
_HUMPED = re.compile(r"\b\w*[a-z0-9][A-Z]\w*\b|\b[A-Z]{2,}[a-z]\w*\b")


def words_of(text: str) -> str:
    """Return a text's words: unspaced scripts as pairs, with ``camelCase`` parts at the end."""
    words = fold(text)
    parts = parts_of_words(words)
    if not words.isascii():
        words = UNSPACED_RUN.sub(_pairs, words)
    return " ".join([words, *parts]) if parts else words


def plain_of(*texts: str) -> str:
    """Return the words of texts in order, scripts without spaces as single characters.

    The parts of each ``camelCase`` word come after all texts. There is a ``BREAK`` between the
    texts, and before each word's parts.
    """
    words = [fold(text) for text in texts]
    parts = [part for one in words for part in parts_of_words(one)]
    plain = f" {BREAK} ".join([*words, *parts])
    return plain if plain.isascii() else UNSPACED_RUN.sub(_characters, plain)


def plain_text(text: str) -> str:
    """Return the words of a text in order, without ``camelCase`` parts."""
    return UNSPACED_RUN.sub(_characters, fold(text))


def word_count(text: str) -> int:
    """Count the words of ``plain_text`` that are short enough to be searched for."""
    words = plain_text(text).split(" ")
    return sum(0 < len(word.encode()) <= MAX_TERM_BYTES for word in words)


def identifiers_of(text: str) -> str:
    """Return the identifiers in a text, separated by spaces."""
    return " ".join(IDENTIFIER.findall(compatible(text)))


def parts_of_words(words: str) -> list[str]:
    """Return the parts of each ``camelCase`` word, separated by spaces.

    Args:
        words: folded words.
    """
    if not _ANY_HUMP.search(words):  # most texts have none, and this test is the faster one
        return []
    return [_apart(word) for word in _HUMPED.finditer(words)]


def in_parts(words: str) -> str:
    """Replace each ``camelCase`` word by its parts.

    Args:
        words: folded words.
    """
    return _HUMPED.sub(_apart, words)


def _apart(word: re.Match[str]) -> str:
    return _HUMP.sub(" ", word.group())


def is_character(term: str) -> bool:
    """Whether a term is a single character of a script without spaces."""
    return len(term) == 1 and UNSPACED_RUN.match(term) is not None


def compatible(text: str) -> str:
    """Return a text in NFKC without invisible characters; keep punctuation, accents and case."""
    if text.isascii():
        return text
    visible = _IGNORABLES.sub("", text).translate(_APART)
    return unicodedata.normalize("NFKC", visible)


def fold(text: str) -> str:
    """Return the words of a text in one form; replace all other characters by spaces.

    Case is kept because it shows the parts of ``camelCase``. Latin accents are kept because the
    lists of stop words have them. The analyzers remove both.
    """
    return compatible(text).translate(_FOLDED)


_MAX_KNOWN: Final = 65_536
"""Maximum number of characters to cache, so a text with all of Unicode can't fill the memory."""


class _Apart(dict[int, str]):
    """Replacement of each character before NFKC.

    Signs made of letters (™, ㎏) and fractions get spaces around them. NFKC alone would turn Java™
    into one word, and 1½ into 11/2.
    """

    def __missing__(self, point: int) -> str:
        character = chr(point)
        replaced = character
        if character == "İ":  # its lower case has two characters, "i" and a dot
            replaced = "I"
        elif unicodedata.category(character) in ("So", "No"):
            letters = unicodedata.normalize("NFKC", character)
            is_sign = unicodedata.category(character) == "So" and any(map(str.isalnum, letters))
            if is_sign or "\N{FRACTION SLASH}" in letters:
                replaced = f" {letters} "
        if len(self) < _MAX_KNOWN:
            self[point] = replaced
        return replaced


class _Folded(dict[int, str]):
    """Replacement of each character after NFKC."""

    def __missing__(self, point: int) -> str:
        replaced = _folded(chr(point))
        if len(self) < _MAX_KNOWN:
            self[point] = replaced
        return replaced


_APART: Final = _Apart()
_FOLDED: Final = _Folded()


def _folded(character: str) -> str:
    if (replaced := _LETTERS.get(character)) is not None:
        return replaced
    if _is_mark(character):
        return "" if _ACCENTS.match(character) else character
    if not character.isalnum():
        return "" if _IGNORABLES.match(character) else " "
    if _GREEK.match(character):
        return "".join(one for one in unicodedata.normalize("NFD", character) if not _is_mark(one))
    return character


def _is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("M")


def _pairs(run: re.Match[str]) -> str:
    """Return the pairs of adjacent characters; a single character is left unchanged."""
    text = run.group()
    return f" {' '.join(a + b for a, b in pairwise(text)) or text} "


def _characters(run: re.Match[str]) -> str:
    return f" {' '.join(run.group())} "


def clusters(text: str) -> list[str]:
    """Split a text into characters, each with the marks that NFKC may compose with it."""
    found: list[str] = _cluster().findall(text)
    return found


@cache
def _cluster() -> re.Pattern[str]:
    points = [point for point in range(0x300, 0x1E950) if _is_mark(chr(point))]
    marks = "".join(
        f"{chr(group[0])}-{chr(group[-1])}"
        for _, pairs in groupby(enumerate(points), lambda pair: pair[1] - pair[0])
        if (group := [point for _, point in pairs])
    )
    # In addition, match parts of Hangul syllables and the half-width signs of Kana.
    return re.compile(f"(?s).[{marks}{_IGNORABLE}\u1160-\u11ff\ud7b0-\ud7ff\uff9e\uff9f]*")
