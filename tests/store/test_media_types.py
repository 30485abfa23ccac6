"""Every format that is read has a media type, and the types are those that puts may name."""

import pytest

from indexer.files.media_types import MEDIA_TYPES
from indexer.parse.formats import FORMATS, Format, format_of
from retrieval.store.media_types import media_type


@pytest.mark.parametrize(
    "format", [one for one in FORMATS if not one.is_container], ids=lambda one: one.key
)
def test_every_format_has_a_type(format: Format) -> None:
    for ending in ("", *format.extensions):
        found = media_type(format.key, f"docs/a.b/name{ending}")
        assert found.count("/") == 1
        if found.lower() in MEDIA_TYPES and found != "text/plain":
            assert format_of(f"x{MEDIA_TYPES[found.lower()]}").key == format.key


@pytest.mark.parametrize(
    ("format", "uri", "expected"),
    [
        ("markdown", "docs/a.md", "text/markdown"),
        ("html", "docs/a.md", "text/html"),  # put with a media type of its own
        ("table", "docs/a.TSV", "text/tab-separated-values"),
        ("table", "docs/a.tsv.gz", "text/tab-separated-values"),
        ("image", "docs/scan.jpg", "image/jpeg"),
        ("mail", "docs/a.mbox/0001", "message/rfc822"),
        ("spreadsheet", "b/a.xls", "application/vnd.ms-excel"),
        ("code", ".hidden", "text/plain"),
        ("of-tomorrow", "docs/a.md", ""),
    ],
)
def test_types(format: str, uri: str, expected: str) -> None:
    assert media_type(format, uri) == expected
