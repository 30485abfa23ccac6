"""Media types of the formats that are read, such as ``text/markdown``.

Servers and mail programs name types, not extensions. The table gives each type the extension by
which ``indexer.parse.formats`` knows the format.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_OFFICE: Final = "application/vnd.openxmlformats-officedocument"
_OPEN: Final = "application/vnd.oasis.opendocument"

MEDIA_TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "application/atom+xml": ".atom",
        "application/epub+zip": ".epub",
        "application/geo+json": ".geojson",
        "application/javascript": ".js",
        "application/json": ".json",
        "application/json5": ".json5",
        "application/jsonl": ".jsonl",
        "application/ld+json": ".json",
        "application/mbox": ".mbox",
        "application/msword": ".doc",
        "application/pdf": ".pdf",
        "application/rss+xml": ".xml",
        "application/rtf": ".rtf",
        "application/sql": ".sql",
        "application/toml": ".toml",
        "application/vnd.ms-excel": ".xls",
        "application/vnd.ms-excel.sheet.binary.macroenabled.12": ".xlsb",
        "application/vnd.ms-excel.sheet.macroenabled.12": ".xlsm",
        "application/vnd.ms-outlook": ".msg",
        "application/vnd.ms-powerpoint": ".ppt",
        "application/vnd.ms-powerpoint.presentation.macroenabled.12": ".pptm",
        "application/vnd.ms-word.document.macroenabled.12": ".docm",
        f"{_OPEN}.graphics": ".odg",
        f"{_OPEN}.presentation": ".odp",
        f"{_OPEN}.presentation-template": ".otp",
        f"{_OPEN}.spreadsheet": ".ods",
        f"{_OPEN}.spreadsheet-template": ".ots",
        f"{_OPEN}.text": ".odt",
        f"{_OPEN}.text-template": ".ott",
        f"{_OFFICE}.presentationml.presentation": ".pptx",
        f"{_OFFICE}.presentationml.slideshow": ".ppsx",
        f"{_OFFICE}.presentationml.template": ".potx",
        f"{_OFFICE}.spreadsheetml.sheet": ".xlsx",
        f"{_OFFICE}.spreadsheetml.template": ".xltx",
        f"{_OFFICE}.wordprocessingml.document": ".docx",
        f"{_OFFICE}.wordprocessingml.template": ".dotx",
        "application/x-7z-compressed": ".7z",
        "application/x-fictionbook+xml": ".fb2",
        "application/x-ipynb+json": ".ipynb",
        "application/x-javascript": ".js",
        "application/x-ndjson": ".ndjson",
        "application/x-sh": ".sh",
        "application/x-subrip": ".srt",
        "application/x-tar": ".tar",
        "application/x-tex": ".tex",
        "application/x-yaml": ".yaml",
        "application/xhtml+xml": ".xhtml",
        "application/xml": ".xml",
        "application/yaml": ".yaml",
        "application/zip": ".zip",
        "image/jpeg": ".jpg",
        "image/png": ".png",
        "image/svg+xml": ".svg",
        "image/tiff": ".tiff",
        "message/rfc822": ".eml",
        "multipart/related": ".mhtml",
        "text/asciidoc": ".adoc",
        "text/css": ".css",
        "text/csv": ".csv",
        "text/html": ".html",
        "text/javascript": ".js",
        "text/markdown": ".md",
        "text/org": ".org",
        "text/plain": ".txt",
        "text/prs.fallenstein.rst": ".rst",
        "text/rtf": ".rtf",
        "text/tab-separated-values": ".tsv",
        "text/troff": ".man",
        "text/vtt": ".vtt",
        "text/x-c": ".c",
        "text/x-go": ".go",
        "text/x-java": ".java",
        "text/x-java-source": ".java",
        "text/x-markdown": ".md",
        "text/x-python": ".py",
        "text/x-rst": ".rst",
        "text/x-rust": ".rs",
        "text/x-script.python": ".py",
        "text/x-sh": ".sh",
        "text/x-tex": ".tex",
        "text/x-typescript": ".ts",
        "text/x-web-markdown": ".md",
        "text/x-yaml": ".yaml",
        "text/xml": ".xml",
        "text/yaml": ".yaml",
    }
)
"""Media type in lower case → extension."""

UNKNOWN_TYPES: Final = frozenset(
    {"application/gzip", "application/octet-stream", "application/x-gzip", "binary/octet-stream"}
)
"""Types that say nothing about the format."""
