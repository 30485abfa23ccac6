"""Texts → terms: how words are cut, folded and stemmed, in passages and queries alike.

A text goes through three analyses, each into a field of its own:

- words: what Unicode calls a word, lower case, without accents, without stop words, stemmed;
  Chinese, Japanese, Korean, Thai and the like, which put no spaces between words, as pairs of
  characters (https://dl.acm.org/doi/10.1145/258525.258531);
- identifiers: ``get_user``, ``os.path.join``, ``v1.2.3``, ``CVE-2021-44228`` and ``C++`` as they
  stand, lower case, nothing stemmed; their parts are words besides.
"""

import re
import unicodedata
from functools import cache
from itertools import pairwise
from typing import Final

import tantivy

from retrieval.languages import LANGUAGES

VERSION: Final = 2
"""Of the analysis: a lexical index that was made by another is made anew by the next build."""

_WITHOUT_STOP_WORDS: Final = frozenset({"ar", "el", "ro", "ta", "tr"})
"""Languages that the engine has a stemmer for, but no list of stop words."""

MAX_TERM_BYTES: Final = 128
"""A longer term, as in encoded data, can't be searched for."""

# Scripts without spaces: Thai, Lao, Myanmar, Khmer; Hangul; Kana; Han, with its extensions.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1100-\u11ff\u3040-\u30ff\u3130-\u318f\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
UNSPACED_RUN = re.compile(f"[{_UNSPACED}]+")

# Words that a sign or two hold together, or that end in one; or with "_" or "+" in them.
_JOIN = r"(?:::|->|[./:@+#~-])"
IDENTIFIER = re.compile(
    rf"\b\w++(?:(?:{_JOIN}\w++)++(?:\+\+|\#)?|\+\+|\#)|\b[^\W_]*+_(?=\w*[^\W_])\w*+"
)
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[A-Za-z])(?=[0-9])")
_ANY_HUMP = re.compile(r"[a-z0-9][A-Z]|[A-Z]{2}[a-z]")
_HUMPED = re.compile(r"\b\w*[a-z0-9][A-Z]\w*\b|\b[A-Z]{2,}[a-z]\w*\b")


@cache
def words_analyzer(language: str) -> tantivy.TextAnalyzer:
    """Cuts ``words_of`` a text into terms.

    Args:
        language: a key of ``LANGUAGES``, or ``NO_LANGUAGE``.
    """
    builder = (
        tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
        .filter(tantivy.Filter.remove_long(MAX_TERM_BYTES))
        .filter(tantivy.Filter.lowercase())
    )
    if language in LANGUAGES and language not in _WITHOUT_STOP_WORDS:
        builder = builder.filter(tantivy.Filter.stopword(LANGUAGES[language]))
    builder = builder.filter(tantivy.Filter.ascii_fold())
    if language in LANGUAGES:
        builder = builder.filter(tantivy.Filter.stemmer(LANGUAGES[language]))
    return builder.build()


@cache
def identifiers_analyzer() -> tantivy.TextAnalyzer:
    """Cuts ``identifiers_of`` a text into terms."""
    return (
        tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace())
        .filter(tantivy.Filter.remove_long(MAX_TERM_BYTES))
        .filter(tantivy.Filter.lowercase())
        .build()
    )


def words_of(text: str) -> str:
    """A text made ready to be cut at what is no letter and no digit.

    Compatible characters are made one (full width, ligatures: NFKC), runs of scripts without
    spaces become pairs of characters, and the parts of ``camelCase`` come after the text.
    """
    parts = []
    if _ANY_HUMP.search(text):  # most texts have none, which is seen sooner than where words end
        parts = [_HUMP.sub(" ", word) for word in _HUMPED.findall(text)]
    if not text.isascii():
        text = UNSPACED_RUN.sub(_pairs, unicodedata.normalize("NFKC", text))
    return f"{text}\n{' '.join(parts)}" if parts else text


def identifiers_of(text: str) -> str:
    """The identifiers in a text, with spaces between them."""
    return " ".join(IDENTIFIER.findall(text))


def _pairs(run: re.Match[str]) -> str:
    """Every two characters that stand together; one that stands alone, alone."""
    text = run.group()
    return f" {' '.join(a + b for a, b in pairwise(text)) or text} "
