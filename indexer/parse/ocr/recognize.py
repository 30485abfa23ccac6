"""Recognise the text of a picture: one interface to the engines that are installed."""

import os
import shutil
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from indexer.parse.base.outline import words
from indexer.skip import SkipDocument, SkipReason

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Picture = NDArray[np.uint8]
    """Pixels: height, width, and red, green and blue."""

MAX_SIDE: Final = 2_000
"""Pictures are made smaller until no side is longer, in pixels. A page of A4 then has 170 pixels an
inch, at which the words of 10-point type are all recognised; the engine makes larger ones smaller
itself. The memory it takes grows with the pixels: 1.1 GB at this size."""
INSTALL: Final = "pip install 'gte-retrieval[ocr]'"

_BUNDLED: Final = words(
    """
    zh ja en af az bs ca cs cy da de es et eu fi fr ga gl hr hu id is it ku la lb lt lv mi ms mt nl
    no oc pi pl pt qu rm ro sk sl sq sr-latn sv sw tl tr uz vi
    chi_sim chi_tra jpn eng afr aze bos cat ces cym dan deu spa est eus fin fra gle glg hrv hun ind
    isl ita kur lat ltz lit lav mri msa mlt nld nor oci pol por que roh ron slk slv sqi swe swa tgl
    tur uzb vie
    """
)
"""Languages that the models in RapidOCR's wheel know, by their codes in ISO 639 and Tesseract."""
_TESSERACT: Final = {
    "ar": "ara", "be": "bel", "bg": "bul", "bn": "ben", "ca": "cat", "cs": "ces", "da": "dan",
    "de": "deu", "el": "ell", "en": "eng", "es": "spa", "et": "est", "fa": "fas", "fi": "fin",
    "fr": "fra", "ga": "gle", "gu": "guj", "he": "heb", "hi": "hin", "hr": "hrv", "hu": "hun",
    "hy": "hye", "id": "ind", "is": "isl", "it": "ita", "ja": "jpn", "ka": "kat", "kk": "kaz",
    "kn": "kan", "ko": "kor", "lt": "lit", "lv": "lav", "mk": "mkd", "ml": "mal", "mr": "mar",
    "ms": "msa", "nl": "nld", "no": "nor", "pa": "pan", "pl": "pol", "pt": "por", "ro": "ron",
    "ru": "rus", "sk": "slk", "sl": "slv", "sq": "sqi", "sr": "srp", "sv": "swe", "ta": "tam",
    "te": "tel", "th": "tha", "tr": "tur", "uk": "ukr", "ur": "urd", "vi": "vie", "zh": "chi_sim",
}  # fmt: skip


class Recognized(NamedTuple):
    """A line of recognised text and where it is, in pixels from the top left."""

    text: str
    left: float
    top: float
    right: float
    bottom: float


class Recognizer(Protocol):
    """An engine that is loaded."""

    def __call__(self, picture: "Picture") -> Sequence[Recognized]:
        """Return the lines of a picture from top to bottom."""
        ...


def is_installed() -> bool:
    """Whether text can be recognised at all."""
    return _has_rapidocr() or _tesseract(os.environ.get("PATH", "")) is not None


def can_read_pictures(_: str) -> bool:
    """Whether files that are pictures can be read."""
    return is_installed() and _is_found("PIL")


@lru_cache(maxsize=2)
def recognizer(languages: tuple[str, ...]) -> Recognizer:
    """Return an engine for languages; it is loaded when it is first called.

    RapidOCR if it is installed and knows the languages, otherwise Tesseract.

    Args:
        languages: codes in ISO 639-1 or of Tesseract; none for the engine's usual ones.

    Raises:
        SkipDocument: no engine for these languages is installed.
    """
    if _has_rapidocr() and all(language.lower() in _BUNDLED for language in languages):
        from indexer.parse.ocr.rapid import RapidRecognizer

        return RapidRecognizer()
    if program := _tesseract(os.environ.get("PATH", "")):
        from indexer.parse.ocr.tesseract import TesseractRecognizer

        codes = [_TESSERACT.get(language.lower(), language) for language in languages]
        return TesseractRecognizer(program, codes)
    if _has_rapidocr():
        unknown = ", ".join(name for name in languages if name.lower() not in _BUNDLED)
        raise SkipDocument(SkipReason.SCANNED, f"recognizing {unknown} needs Tesseract")
    raise SkipDocument(SkipReason.SCANNED, f"needs {INSTALL}")


def _has_rapidocr() -> bool:
    return _is_found("rapidocr") and _is_found("onnxruntime")


# Each picture of a folder asks for these.


@lru_cache
def _is_found(module: str) -> bool:
    return find_spec(module) is not None


@lru_cache(maxsize=1)
def _tesseract(path: str) -> str | None:
    """Return where Tesseract is in the folders of a ``PATH``."""
    return shutil.which("tesseract", path=path)
