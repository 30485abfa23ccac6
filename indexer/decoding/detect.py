"""Tell the encoding of a text that names none, from its bytes.

chardetng, Firefox's detector, tells most. It knows neither the encodings of DOS and of old
Macintoshes nor UTF-16, which files that never were on the web are still found in, and now and then
it takes a short text in one for something else. So its answer is compared with rivals: that one
wins in which the characters stand best in their words.
"""

import codecs
import re
from typing import Final, NamedTuple

from chardetng_py import EncodingDetector

from indexer.decoding.labels import codec_of
from indexer.decoding.plausible import REGIONS, plausibility

_SAMPLE_BYTES: Final = 1 << 16
"""Number of bytes to tell by: those around the bytes beyond ASCII, wherever they are."""
_CONTEXT: Final = 200
"""Number of bytes to take along before the first byte beyond ASCII, and after it."""

_BEYOND_ASCII: Final = re.compile(rb"[\x80-\xff]")
_SEPARATOR: Final = re.compile(rb"[\x09-\x2f]")
"""Bytes that are not part of a character of two or more bytes, in any encoding of East Asia."""

_RIVALS: Final = (
    *("cp1252", "mac-roman", "iso8859-15", "cp850", "cp437", "cp852"),
    *("cp1251", "mac-cyrillic", "koi8-r", "cp866", "iso8859-5", "cp855"),
    "cp874",
    *REGIONS,
)
"""Encodings that chardetng doesn't know, and those that it takes short texts for."""
_MARGIN: Final = 0.25
"""By how much a rival must stand better if a single character tells, as chardetng also knows the
letters of languages; by the square root of their number less if many do."""
_MIN_MARGIN: Final = 0.04

_LATIN: Final = frozenset({"cp1250", "cp1252", "cp1254", "cp1257", "iso8859-4", "iso8859-15"})
_FEW: Final = 3
"""Below this number of characters, what looks Baltic is more often Western."""


class _Language(NamedTuple):
    """A language that chardetng takes for a Western one."""

    codec: str
    letters: frozenset[str]
    """All its letters beyond ASCII."""
    own: tuple[frozenset[str], ...]
    """Letters, one of each set of which stands for a letter that no Western language has as well
    as those of the other sets."""
    pairs: re.Pattern[str]
    """What it is full of, and Western languages are not."""


_LANGUAGES: Final = (
    _Language("cp1250", frozenset("áéíóöőúüű"), (frozenset("őű"),), re.compile("sz|gy|zs|cs|ny")),
    _Language(
        "cp1257",
        frozenset("ąčęėįšųūž"),
        (frozenset("ęįšž"), frozenset("ąčėų")),
        re.compile("[aeiouy]s\\b|a[iu]|ie"),
    ),
)

_USUAL: Final = {"koi8-u": "koi8-r", "gb18030": "gbk", "iso8859-8": "cp1255"}
"""What to call an encoding if the text would be the same in the more usual one."""
_UNICODE: Final = {"utf-16-le": 2, "utf-16-be": 2, "utf-32-le": 4, "utf-32-be": 4}
"""Codecs without a mark, and the width of a character."""
_MIN_CHARACTERS: Final = 4
"""Minimum number of characters to tell UTF-16 by."""
_UNICODE_BYTES: Final = 1024
_MIN_ASCII: Final = 0.7
"""Share of ASCII above which UTF-16 is certain: in other data a NUL in every other byte is rare."""
_MIN_UNICODE: Final = 0.6
"""Least plausibility of UTF-16, and more for a few characters: that of other data is about 0, for
a fourth of all Chinese characters are common ones."""
_UNUSED: Final = re.compile(
    "[\x00-\x08\x0e-\x1a\x1c-\x1f\u0a0a\u0a0d\u0d0d\ud800-\udfff\ufffd-\uffff]"
)
"""Characters that are in no text, and those that two line ends make."""


def detect(data: bytes) -> str:
    """Return the Python codec that data is most likely encoded in.

    Args:
        data: a text with bytes beyond ASCII, neither UTF-8 nor UTF-16.
    """
    sample = _sample(data)
    detector = EncodingDetector()
    detector.feed(sample, last=False)
    best = codec_of(detector.guess(tld=None, allow_utf8=False)) or "cp1252"
    best_score, characters = _score(sample, best)
    if best == "iso8859-4":  # hardly a file is, of any language
        best = "cp1252" if characters < _FEW else "cp1257"
    best_score += max(_MARGIN / max(1, characters) ** 0.5, _MIN_MARGIN)
    for codec in _RIVALS if best_score < 1 else ():
        if codec != best and (score := _score(sample, codec)[0]) > best_score:
            best, best_score = codec, score
    if best in _LATIN:
        return next((one.codec for one in _LANGUAGES if _is_in(one, sample)), best)
    usual = _USUAL.get(best, best)
    return usual if _decoded(sample, usual) == _decoded(sample, best) else best


def _is_in(language: _Language, sample: bytes) -> bool:
    """Whether all letters of a sample are those of a language, and some only it has."""
    text = _decoded(sample, language.codec).lower()
    letters = {one for one in text if one > "\x7f" and one.isalpha()}
    return (
        letters <= language.letters
        and all(letters & own for own in language.own)
        and language.pairs.search(text) is not None
    )


def detect_unicode(data: bytes) -> str:
    """Return the codec of UTF-16 or UTF-32 that plainly fits data without a mark; empty if none.

    Bytes are taken for UTF-16 if that makes words, of characters that one script or one language
    of East Asia uses.
    """
    best, best_score = "", 0.0
    for codec, width in _UNICODE.items():
        if len(data) % width or len(data) < _MIN_CHARACTERS * width:
            continue
        if codec.startswith("utf-32") and 2 * data.count(0) < len(data):
            continue
        score = _unicode_score(data[:_UNICODE_BYTES], codec)
        if score > best_score and _is_valid(data, codec):
            best, best_score = codec, score
    return best


def _unicode_score(sample: bytes, codec: str) -> float:
    """Return how much a sample looks like words in UTF-16 or UTF-32; 0 for too little."""
    text = codecs.getincrementaldecoder(codec)("replace").decode(sample)
    if _UNUSED.search(text):
        return 0.0
    ascii_share = sum(map(str.isascii, text)) / len(text)
    if ascii_share > _MIN_ASCII:
        return 1.0 + ascii_share
    score, judged = max(plausibility(text, region) for region in ("", *REGIONS))
    return score if judged and score >= _MIN_UNICODE + 1 / judged else 0.0


def _is_valid(data: bytes, codec: str) -> bool:
    try:
        data.decode(codec)
    except UnicodeDecodeError:
        return False
    return True


def _sample(data: bytes) -> bytes:
    """Return what is around the bytes beyond ASCII, from the start until it is enough."""
    if len(data) <= _SAMPLE_BYTES:
        return data
    parts: list[bytes] = []
    size = position = 0
    while size < _SAMPLE_BYTES and (found := _BEYOND_ASCII.search(data, position)):
        start = max(position, found.start() - _CONTEXT)
        separator = _SEPARATOR.search(data, found.end() + _CONTEXT, start + _SAMPLE_BYTES)
        position = separator.end() if separator else start + _SAMPLE_BYTES
        parts.append(data[start:position])
        size += position - start
    return b"".join(parts)[:_SAMPLE_BYTES]


def _score(sample: bytes, codec: str) -> tuple[float, int]:
    """Return how well the text is one in an encoding, as ``plausibility`` does."""
    decoder = codecs.getincrementaldecoder(codec)()  # a character may be torn at the end
    try:
        return plausibility(decoder.decode(sample), codec)
    except UnicodeDecodeError:
        return -1.0, 0


def _decoded(sample: bytes, codec: str) -> str:
    return sample.decode(codec, "replace")
