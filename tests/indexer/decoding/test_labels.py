"""Names of encodings in documents, and the codecs that read them."""

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.decoding.decode import decode_labelled
from indexer.decoding.labels import codec_of, codec_of_markup, supersets_of


@pytest.mark.parametrize(
    ("label", "codec"),
    [
        ("UTF-8", "utf-8"),
        ("utf8", "utf-8"),
        ("iso-8859-1", "cp1252"),
        ("Latin1", "cp1252"),
        ("us-ascii", "cp1252"),
        ("GB2312", "gbk"),
        ("shift_jis", "cp932"),
        ("x-sjis", "cp932"),
        ("windows-31j", "cp932"),
        ("EUC-KR", "cp949"),
        ("ks_c_5601-1987", "cp949"),
        ("big5", "big5hkscs"),
        ("iso-8859-9", "cp1254"),
        ("tis-620", "cp874"),
        ("KOI8-R", "koi8-r"),
        ("macintosh", "mac-roman"),
        (' "windows-1251" ', "cp1251"),
        ("ISO_8859-2", "iso8859-2"),
        ("ibm850", "cp850"),
        ("utf-7", "utf-7"),
        ("rot13", ""),
        ("base64", ""),
        ("unicode_escape", ""),
        ("nonsense", ""),
        ("", ""),
        ("\0", ""),
    ],
)
def test_codecs(label: str, codec: str) -> None:
    assert codec_of(label) == codec


def test_markup_that_says_utf16_in_ascii_is_utf8() -> None:
    assert codec_of_markup("utf-16") == "utf-8"
    assert codec_of_markup("gb2312") == "gbk"


@given(st.text(max_size=40))
def test_any_label_gives_a_codec_or_none(label: str) -> None:
    for codec in supersets_of(codec_of(label)):
        assert not codec or codecs.lookup(codec)


def test_characters_beyond_the_label_are_read() -> None:
    assert decode_labelled("镕①".encode("gbk"), "gb2312") == ("镕①", "gbk")
    assert decode_labelled("\u3402水".encode("gb18030"), "gb2312") == ("\u3402水", "gb18030")
    assert decode_labelled("①ポンプ".encode("cp932"), "shift_jis") == ("①ポンプ", "cp932")
    assert decode_labelled("“quoted”".encode("cp1252"), "iso-8859-1") == ("“quoted”", "cp1252")
    assert decode_labelled(b"\xff\xfe\xfd", "euc-jp") is None
    assert decode_labelled(b"text", "nonsense") is None
