"""Bytes to text: marks, UTF-8, UTF-16 and the single-byte encodings, and what is no text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.decoding.decode import REPLACED, decode
from indexer.skip import SkipDocument

TEXT = "Grüße, 世界 🦀\r\nline\n"


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (TEXT.encode(), "utf-8"),
        (TEXT.encode("utf-8-sig"), "utf-8-sig"),
        (TEXT.encode("utf-16"), "utf-16"),
        (b"\xfe\xff" + TEXT.encode("utf-16-be"), "utf-16"),
        (TEXT.encode("utf-32"), "utf-32"),
        (b"\x00\x00\xfe\xff" + TEXT.encode("utf-32-be"), "utf-32"),
    ],
)
def test_marks_and_utf8(data: bytes, encoding: str) -> None:
    assert decode(data) == (TEXT, encoding)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark(encoding: str) -> None:
    text = "Plain words, and a few more: déjà vu.\n"
    assert decode(text.encode(encoding)) == (text, encoding)


def test_single_byte_encodings() -> None:
    assert decode("café – “quoted”".encode("cp1252")) == ("café – “quoted”", "cp1252")
    assert decode(b"caf\xe9 \x81") == ("caf\xe9 \x81", "latin-1")


def test_a_bad_byte_in_utf8_does_not_garble_the_rest() -> None:
    data = "Привет, мир".encode()
    assert decode(data[:-1]) == ("Привет, ми\ufffd", "utf-8+replace")


def test_damage_after_a_mark_is_replaced() -> None:
    assert decode(b"\xef\xbb\xbfa\xffb") == ("a\ufffdb", "utf-8-sig+replace")
    assert decode("ab".encode("utf-16") + b"c") == ("ab\ufffd", "utf-16+replace")
    lone_surrogate = b"\xff\xfe" + "a\ud800b".encode("utf-16-le", "surrogatepass")
    assert decode(lone_surrogate)[0] == "a\ufffdb"


@pytest.mark.parametrize(
    "data",
    [
        b"text with a \0 in it, otherwise fine",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        bytes(range(256)),
        bytes(range(1, 256)) * 3,
        b"\x01\x02\x03\x04",
        "a\0b".encode("utf-16"),
        b"\0" * 64,
    ],
)
def test_binary_data_is_skipped(data: bytes) -> None:
    with pytest.raises(SkipDocument) as caught:
        decode(data)
    assert caught.value.reason == "binary"
    assert caught.value.detail


def test_terminal_output_and_form_feeds_are_text() -> None:
    data = b"\x1b[31mred\x1b[0m\x0cN\x08N\n" * 10
    assert decode(data) == (data.decode(), "utf-8")


def test_empty() -> None:
    assert decode(b"") == ("", "utf-8")


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])))
def test_any_text_survives_utf8(text: str) -> None:
    if text[:1] != "\ufeff":
        assert decode(text.encode()) == (text, "utf-8")


@given(st.binary() | st.text().map(lambda text: text.encode("utf-16-le", "surrogatepass")))
def test_any_bytes_give_clean_text_or_a_reason(data: bytes) -> None:
    try:
        text, encoding = decode(data)
    except SkipDocument as skip:
        assert skip.reason == "binary"
        return
    assert "\0" not in text
    text.encode()  # no lone surrogates
    codec = encoding.removesuffix(REPLACED)
    assert data.decode(codec, "replace" if codec != encoding else "strict") == text
