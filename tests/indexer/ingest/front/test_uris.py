"""URIs that clients may give, and those they may not."""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from indexer.ingest.front.limits.uris import MAX_CHARS, check_prefix, check_uri
from retrieval.errors import InvalidArgument

GOOD = (
    "a",
    "notes/a.md",
    "tickets/4711",
    "https://example.com/page",
    "https://example.com//a/?q=1#x",
    "https://example.com/",
    "s3+x://bucket/a b",
    "Straße/Über uns.txt",
    "日本語/東京.txt",
    "فارسی/می\u200cروم",
    "a/..b/...",
    "a\\b",
    "C:/x",
    "%2e%2e/%2f",
    "👩‍👩‍👧/x",
    "x" * MAX_CHARS,
)
BAD = {
    "": "is blank",
    " ": "is blank",
    "/etc/passwd": "empty part",
    "a/": "empty part",
    "a//b": "empty part",
    ".": 'the part "."',
    "..": 'the part ".."',
    "../../etc/passwd": 'the part ".."',
    "a/./b": 'the part "."',
    "https://example.com/../x": 'the part ".."',
    "https://": "nothing after its scheme",
    "https:///x": "nothing after its scheme",
    "a\0b": r"U\+0000",
    "a\nb": r"U\+000A",
    "a\x7fb": r"U\+007F",
    "a\u2028b": r"U\+2028",
    "a\u202egnp.exe": r"U\+202E",
    "x" * (MAX_CHARS + 1): "1025 characters",
}


@pytest.mark.parametrize("uri", GOOD)
def test_names_that_may_be_given(uri: str) -> None:
    check_uri(uri)
    check_prefix(uri)


@pytest.mark.parametrize(("uri", "problem"), BAD.items())
def test_names_that_may_not(uri: str, problem: str) -> None:
    with pytest.raises(InvalidArgument, match=problem) as caught:
        check_uri(uri)
    assert caught.value.metadata == {"field": "uri"}
    assert caught.value.message.isprintable()


@given(st.text(max_size=40))
@example("a/\u0085")
@example("\ud800")
def test_what_is_taken_has_plain_parts(uri: str) -> None:
    try:
        check_uri(uri)
    except InvalidArgument as error:
        assert error.message.isprintable()
        return
    assert 0 < len(uri) <= MAX_CHARS
    assert not any(unicodedata.category(char) in ("Cc", "Cs") for char in uri)
    assert not {".", ".."} & set(uri.split("/"))
    assert "://" in uri or "" not in uri.split("/")
    uri.encode()  # also on the wire, and in SQLite


def test_an_empty_prefix_would_select_everything() -> None:
    with pytest.raises(InvalidArgument, match="would select every document"):
        check_prefix("")
    check_prefix("tickets/")
