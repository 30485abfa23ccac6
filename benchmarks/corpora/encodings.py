"""How often the encoding of a file that names none is told, by language, encoding and size.

    python -m benchmarks.corpora.encodings [--samples 12] [--folder FOLDER] [--peers]

Takes texts of 20 to 5,000 bytes out of ``phrases.py``, as prose and as lines of a table, encodes
them by Python's codecs, and counts how many come back as they were. ``--folder`` takes files
instead, from folders that are named after encodings (``KOI8-R`` or ``windows-1250-polish``), such
as those of chardet's tests. ``--peers`` asks other detectors too, if they are installed: chardetng
alone, charset-normalizer, chardet, faust-cchardet, resiliparse.
"""

import argparse
import contextlib
import importlib
import random
import time
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.corpora.phrases import PHRASES
from indexer.decoding.decode import decode
from indexer.decoding.labels import codec_of
from indexer.skip import SkipDocument

SIZES: Final = (20, 60, 200, 1000, 5000)

_WESTERN: Final = "cp1252 iso8859-15 mac-roman cp850 utf-16-le"
_CENTRAL: Final = "cp1250 iso8859-2 utf-16-le"
_BALTIC: Final = "cp1257 iso8859-13"
ENCODINGS: Final = {
    "English": _WESTERN,
    "German": _WESTERN,
    "French": _WESTERN,
    "Spanish": _WESTERN,
    "Portuguese": _WESTERN,
    "Italian": _WESTERN,
    "Swedish": _WESTERN,
    "Danish": _WESTERN,
    "Icelandic": "cp1252",
    "Polish": _CENTRAL,
    "Czech": _CENTRAL,
    "Hungarian": _CENTRAL,
    "Romanian": _CENTRAL,
    "Croatian": _CENTRAL,
    "Turkish": "cp1254 iso8859-9 utf-16-le",
    "Lithuanian": _BALTIC,
    "Latvian": _BALTIC,
    "Estonian": _BALTIC,
    "Russian": "cp1251 koi8-r cp866 iso8859-5 mac-cyrillic utf-16-le utf-16-be",
    "Ukrainian": "cp1251 koi8-u",
    "Bulgarian": "cp1251 iso8859-5",
    "Greek": "cp1253 iso8859-7 utf-16-le",
    "Hebrew": "cp1255 iso8859-8 utf-16-le",
    "Arabic": "cp1256 iso8859-6 utf-16-le",
    "Thai": "cp874 utf-16-le",
    "Vietnamese": "cp1258 utf-16-le",
    "Chinese (simplified)": "gbk gb18030 utf-16-le utf-16-be",
    "Chinese (traditional)": "big5 utf-16-le utf-16-be",
    "Japanese": "shift_jis euc_jp iso2022_jp utf-16-le utf-16-be",
    "Korean": "euc_kr utf-16-le utf-16-be",
}
"""Encodings that texts of each language are found in."""

_PLAIN: Final = str.maketrans("’‘“”–€£șțȘȚё", "''\"\"-EL\u015f\u0163\u015e\u0162е")
"""Characters that an older encoding lacks, and what people wrote instead."""
_TONES: Final = frozenset("\u0300\u0301\u0303\u0309\u0323")
"""Marks that Windows-1258 writes after the vowel."""

Detector = Callable[[bytes], str]
"""Returns the text of some bytes, or raises an exception."""


class Case(NamedTuple):
    """A text in an encoding."""

    language: str
    encoding: str
    size: int
    text: str
    data: bytes


def cases(samples: int) -> Iterator[Case]:
    """Yield texts that have a character beyond ASCII."""
    random_ = random.Random(0)
    for language, encodings in ENCODINGS.items():
        for encoding in encodings.split():
            for size in SIZES:
                for number in range(samples):
                    text = _in_encoding(_text(random_, language, size, number), encoding)
                    data = text.encode(encoding)
                    # Cut at a character: no byte sequence may be torn.
                    while len(data) > size:
                        text = text[: -max(1, (len(data) - size) // 4)]
                        data = text.encode(encoding)
                    if not text.isascii():
                        yield Case(language, encoding, size, text, data)


def files(folder: Path) -> Iterator[Case]:
    """Yield the files in folders that are named after their encoding."""
    for file in sorted(folder.glob("*/*")):
        name = file.parent.name
        codec = codec_of(name) or codec_of(name.rpartition("-")[0])
        data = file.read_bytes()
        if codec:
            with contextlib.suppress(UnicodeDecodeError):
                yield Case(name, codec, len(data), data.decode(codec).lstrip("\ufeff"), data)


def _text(random_: random.Random, language: str, size: int, number: int) -> str:
    """Return at least ``size`` characters of prose, or in every fourth text, of a table."""
    words = " ".join(PHRASES[language].split())
    spaced = words.split(" ")
    if len(spaced) < 20:  # written without spaces
        start = random_.randrange(len(words))
        words = words[start:] + words[:start]
        parts = [words[at : at + 4] for at in range(0, len(words), 4)]
    else:
        start = random_.randrange(len(spaced))
        parts = spaced[start:] + spaced[:start]
        words = " ".join(parts)
    if number % 4 == 3:
        words = "\r\n".join(f"{index};{part.strip('.,')};" for index, part in enumerate(parts, 1))
    return (words + " ") * (size // len(words) + 1)


def _in_encoding(text: str, encoding: str) -> str:
    """Return a text as it is written in an encoding: what that lacks is replaced or left out."""
    if encoding == "cp1258":
        text = "".join(_vietnamese(character) for character in text)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(_PLAIN)
    return text.encode(encoding, "ignore").decode(encoding)


def _vietnamese(character: str) -> str:
    """Return a letter as Windows-1258 writes it: the tone is a character of its own."""
    marks = unicodedata.normalize("NFD", character)
    tones = "".join(mark for mark in marks if mark in _TONES)
    rest = "".join(mark for mark in marks if mark not in _TONES)
    return unicodedata.normalize("NFC", rest) + tones


def ours(data: bytes) -> str:
    """Decode as the indexer does."""
    return decode(data)[0]


def _charset_normalizer(module: Any) -> Detector:
    def read(data: bytes) -> str:
        best = module.from_bytes(data).best()
        return str(best) if best else ""

    return read


def _detector(detect: Callable[[bytes], str | None]) -> Detector:
    return lambda data: data.decode(detect(data) or "cp1252", "replace")


def _chardetng(module: Any) -> Detector:
    return _detector(lambda data: str(module.detect(data)))


def peers() -> dict[str, Detector]:
    """Return the other detectors that are installed."""
    made: dict[str, Callable[[Any], Detector]] = {
        "chardetng_py": _chardetng,
        "charset_normalizer": _charset_normalizer,
        "chardet": lambda module: _detector(lambda data: module.detect(data)["encoding"]),
        "cchardet": lambda module: _detector(lambda data: module.detect(data)["encoding"]),
        "resiliparse.parse.encoding": lambda module: _detector(module.detect_encoding),
    }
    return {
        name.partition(".")[0]: make(importlib.import_module(name))
        for name, make in made.items()
        if find_spec(name.partition(".")[0])
    }


def _is_right(detector: Detector, case: Case) -> bool:
    try:
        text = detector(case.data)
    except (LookupError, ValueError, SkipDocument):
        return False
    return unicodedata.normalize("NFC", text) == unicodedata.normalize("NFC", case.text)


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--samples", type=int, default=12)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    detectors = {"indexer": ours} | (peers() if options.peers else {})
    if options.folder:
        found = list(files(options.folder))
        for name, detector in detectors.items():
            print(f"{name:<22}{sum(_is_right(detector, case) for case in found)} of {len(found)}")
        return
    all_cases = list(cases(options.samples))
    by_size: dict[tuple[str, int], list[bool]] = defaultdict(list)
    by_encoding: dict[tuple[str, str, str], list[bool]] = defaultdict(list)
    seconds: dict[str, float] = defaultdict(float)
    for name, detector in detectors.items():
        for case in all_cases:
            started = time.perf_counter()
            right = _is_right(detector, case)
            seconds[name] += time.perf_counter() - started
            by_size[name, case.size].append(right)
            by_encoding[name, case.language, case.encoding].append(right)
    print(f"{len(all_cases)} texts\n")
    print(f"{'right, %':<22}" + "".join(f"{size:>8}" for size in SIZES) + "     all  ms/text")
    for name in detectors:
        shares = [_percent(by_size[name, size]) for size in SIZES]
        everything = _percent([one for size in SIZES for one in by_size[name, size]])
        each = 1000 * seconds[name] / len(all_cases)
        row = "".join(f"{share:>8.1f}" for share in (*shares, everything))
        print(f"{name:<22}{row}{each:>9.2f}")
    print("\n" + f"{'right, %':<36}" + "".join(f"{name[:12]:>14}" for name in detectors))
    for language, encodings in ENCODINGS.items():
        for encoding in encodings.split():
            shares = [_percent(by_encoding[name, language, encoding]) for name in detectors]
            print(f"{language + ', ' + encoding:<36}" + "".join(f"{s:>14.1f}" for s in shares))


def _percent(right: list[bool]) -> float:
    return 100 * sum(right) / max(1, len(right))


if __name__ == "__main__":
    main()
