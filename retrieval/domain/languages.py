"""Languages of indexed texts, for lexical search."""

from typing import Final

LANGUAGES: Final = {
    "ar": "arabic",
    "da": "danish",
    "de": "german",
    "el": "greek",
    "en": "english",
    "es": "spanish",
    "fi": "finnish",
    "fr": "french",
    "hu": "hungarian",
    "it": "italian",
    "nl": "dutch",
    "no": "norwegian",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sv": "swedish",
    "ta": "tamil",
    "tr": "turkish",
}
"""Snowball stemmer (https://snowballstem.org) by ISO 639-1 code."""

DEFAULT_LANGUAGE: Final = "en"

NO_LANGUAGE: Final = "none"
"""Stands for no language: words are not stemmed, and stop words are kept."""
