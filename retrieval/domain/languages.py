"""Languages that texts can be in, for search by words."""

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
"""ISO 639-1 code → Snowball stemmer (https://snowballstem.org)."""

DEFAULT_LANGUAGE: Final = "en"

NO_LANGUAGE: Final = "none"
"""Words are neither stemmed nor left out."""
