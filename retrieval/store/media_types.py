"""Media types of documents, from their format and their name.

An index does not record the type that a document was sent with, because most documents are files
and have none.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Final

_OFFICE: Final = "application/vnd.openxmlformats-officedocument"
_OPEN: Final = "application/vnd.oasis.opendocument"
_MACROS: Final = "macroEnabled.12"
_EXCEL: Final = "application/vnd.ms-excel"
_SLIDES: Final = "application/vnd.ms-powerpoint"
_WORD: Final = "application/vnd.ms-word"
_COMPRESSIONS: Final = frozenset({".bz2", ".gz", ".lz4", ".xz", ".zst"})

_FORMATS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "asciidoc": {"": "text/asciidoc"},
        "code": {
            "": "text/plain",
            ".c": "text/x-c",
            ".cjs": "text/javascript",
            ".css": "text/css",
            ".go": "text/x-go",
            ".java": "text/x-java",
            ".js": "text/javascript",
            ".mjs": "text/javascript",
            ".py": "text/x-python",
            ".rs": "text/x-rust",
            ".sh": "text/x-sh",
            ".sql": "application/sql",
            ".ts": "text/x-typescript",
        },
        "config": {
            "": "text/plain",
            ".toml": "application/toml",
            ".yaml": "application/yaml",
            ".yml": "application/yaml",
        },
        "doc": {"": "application/msword"},
        "docx": {
            "": f"{_OFFICE}.wordprocessingml.document",
            ".docm": f"{_WORD}.document.{_MACROS}",
            ".dotm": f"{_WORD}.template.{_MACROS}",
            ".dotx": f"{_OFFICE}.wordprocessingml.template",
        },
        "epub": {"": "application/epub+zip"},
        "fb2": {"": "application/x-fictionbook+xml"},
        "html": {"": "text/html", ".xhtml": "application/xhtml+xml"},
        "image": {"": "image/png", ".jpeg": "image/jpeg", ".jpg": "image/jpeg"}
        | {".tif": "image/tiff", ".tiff": "image/tiff"},
        "json": {"": "application/json", ".geojson": "application/geo+json"}
        | {".json5": "application/json5"},
        "latex": {"": "text/x-tex"},
        "mail": {"": "message/rfc822", ".msg": "application/vnd.ms-outlook"},
        "man": {"": "text/troff"},
        "markdown": {"": "text/markdown"},
        "mediawiki": {"": "text/plain"},
        "mhtml": {"": "multipart/related"},
        "notebook": {"": "application/x-ipynb+json"},
        "odp": {
            "": f"{_OPEN}.presentation",
            ".odg": f"{_OPEN}.graphics",
            ".otp": f"{_OPEN}.presentation-template",
        },
        "odt": {"": f"{_OPEN}.text", ".ott": f"{_OPEN}.text-template"},
        "org": {"": "text/org"},
        "pdf": {"": "application/pdf"},
        "ppt": {"": _SLIDES},
        "pptx": {
            "": f"{_OFFICE}.presentationml.presentation",
            ".potm": f"{_SLIDES}.template.{_MACROS}",
            ".potx": f"{_OFFICE}.presentationml.template",
            ".ppsm": f"{_SLIDES}.slideshow.{_MACROS}",
            ".ppsx": f"{_OFFICE}.presentationml.slideshow",
            ".pptm": f"{_SLIDES}.presentation.{_MACROS}",
        },
        "rst": {"": "text/x-rst"},
        "rtf": {"": "application/rtf"},
        "spreadsheet": {
            "": f"{_OFFICE}.spreadsheetml.sheet",
            ".fods": f"{_OPEN}.spreadsheet",
            ".ods": f"{_OPEN}.spreadsheet",
            ".ots": f"{_OPEN}.spreadsheet-template",
            ".xls": _EXCEL,
            ".xlsb": f"{_EXCEL}.sheet.binary.{_MACROS}",
            ".xlsm": f"{_EXCEL}.sheet.{_MACROS}",
            ".xltm": f"{_EXCEL}.template.{_MACROS}",
            ".xltx": f"{_OFFICE}.spreadsheetml.template",
        },
        "subtitles": {"": "application/x-subrip", ".vtt": "text/vtt"},
        "table": {"": "text/csv", ".tsv": "text/tab-separated-values"},
        "text": {"": "text/plain"},
        "typst": {"": "text/plain"},
        "xml": {"": "application/xml", ".atom": "application/atom+xml", ".svg": "image/svg+xml"},
    }
)
"""Format → ending of the file's name → media type; the empty ending stands for all others."""


def media_type(format: str, uri: str) -> str:
    """Return the media type of a document.

    Args:
        format: key of its format.
        uri: of the document; its ending chooses among the types of the format.

    Returns:
        the type, such as ``text/markdown``; empty if the format is unknown.
    """
    path = PurePosixPath(uri.rpartition("/")[2].lower())
    return _type(format, PurePosixPath(path.stem).suffix if _is_compressed(path) else path.suffix)


def _is_compressed(path: PurePosixPath) -> bool:
    return path.suffix in _COMPRESSIONS


@lru_cache(maxsize=1024)
def _type(format: str, ending: str) -> str:
    types = _FORMATS.get(format, {})
    return types.get(ending) or types.get("", "")
