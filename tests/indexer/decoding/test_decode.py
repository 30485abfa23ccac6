"""Bytes to text: marks, UTF-8, UTF-16 and the single-byte encodings, and what is no text."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.decoding.decode import GUESSED, REPLACED, decode
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
    assert decode(text.encode(encoding)) == (text, encoding + GUESSED)


@pytest.mark.parametrize(
    "text",
    [
        "水泵每月上油，阀门每天检查。水箱有水。",
        "水泵每月上油，閥門每天檢查。",
        "Зажим для чистки каждый месяц. ",
        "ポンプに毎月油を差してください。",
        "펌프에 매달 기름을 치십시오.",
        "Η αντλία θέλει λάδι.",
        "יש לשמן את המשאבה",
        "يجب تزييت المضخة",
        "ต้องหยอดน้ำมันปั๊ม",
        "Čerpadlo běží, ventil je zavřený.",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_utf16_without_a_mark_in_any_script(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding)) == (text, encoding + GUESSED)


LEGACY = {
    "cp1251": "Зажим для чистки каждый месяц. Насос работает со вчерашнего дня.",
    "koi8-r": "Зажим для чистки каждый месяц. Насос работает со вчерашнего дня.",
    "cp866": "Зажим для чистки каждый месяц. Насос работает со вчерашнего дня.",
    "iso8859-5": "Зажим для чистки каждый месяц. Насос работает со вчерашнего дня.",
    "mac-cyrillic": "Зажим для чистки каждый месяц. Насос работает со вчерашнего дня.",
    "gb18030": "名称,数量\n水泵,3\n水管,5\n",
    "big5hkscs": "水泵每月上油，閥門每天檢查。",
    "cp932": "ポンプに毎月油を差してください。",
    "euc_jp": "ポンプに毎月油を差してください。",
    "iso2022_jp": "ポンプに毎月油を差してください。",
    "cp949": "펌프에 매달 기름을 치십시오.",
    "cp1253": "Η αντλία θέλει λάδι, και η βαλβίδα καθάρισμα.",
    "cp1254": "Pompayı her ay yağlayın, vanayı açın.",
    "cp1250": "Zajištění čerpadla: zkontrolujte těsnění.",
    "cp1257": "Siurblį tepkite kas mėnesį, sandarinimą tikrinkite kas savaitę.",
    "cp1255": "יש לשמן את המשאבה בכל חודש",
    "cp1256": "يجب تزييت المضخة كل شهر",
    "cp874": "ต้องหยอดน้ำมันปั๊มทุกเดือน",
    "mac-roman": "Les pièces ont été réparées; où sont les clés?",
    "cp850": "Die Pumpe läuft, aber das Öl wird heiß und trübe.",
}


@pytest.mark.parametrize("codec", LEGACY)
def test_old_encodings_are_guessed(codec: str) -> None:
    text = LEGACY[codec]
    found, encoding = decode(text.encode(codec))
    assert found == text
    assert encoding.endswith(GUESSED)


def test_hungarian_is_not_western() -> None:
    text = "A csőből víz folyik, ezért szűrőt és új tömítést rendelünk."
    assert decode(text.encode("cp1250")) == (text, "cp1250" + GUESSED)


def test_western_texts_with_few_accents() -> None:
    for text in (
        "café – “quoted”",
        "It runs at 20 °C. Don’t oil the valve while it’s warm.",
        "© 2024 The workshop",
        "Größe: 3 cm",
        "naïve",
        "Årsmøte",
        "señor",
    ):
        assert decode(text.encode("cp1252")) == (text, "cp1252" + GUESSED)
    assert decode("œuvre, 40 €".encode("iso8859-15"))[0] == "œuvre, 40 €"
    assert decode(b"caf\xe9 \x81")[0] == "caf\xe9 \x81"


def test_a_large_file_is_told_by_what_is_not_ascii() -> None:
    ascii_, russian = b"# nothing to see here\n" * 40_000, "Насос работает.\n".encode("koi8-r")
    data = ascii_ + russian * 20 + ascii_
    started = time.process_time()
    assert decode(data) == (data.decode("koi8-r"), "koi8-r" + GUESSED)
    assert time.process_time() - started < 2
    one_line = "насос ".encode("cp1251") * 1_000_000
    assert decode(one_line)[0] == "насос " * 1_000_000


def test_the_user_names_the_encoding_of_what_names_none() -> None:
    assert decode("añb".encode("cp850"), "cp850") == ("añb", "cp850")
    assert decode("añb".encode(), "cp850") == ("añb", "utf-8")
    assert decode("añb".encode("utf-8-sig"), "cp850") == ("añb", "utf-8-sig")
    assert decode(b"plain", "cp850") == ("plain", "utf-8")
    assert decode("Насос".encode("utf-16-le"), "utf-16-le") == ("Насос", "utf-16-le")
    assert decode("HELLO, WORLD".encode("cp500"), "cp500") == ("HELLO, WORLD", "cp500")
    # What is not in the named encoding is guessed.
    assert decode("café déjà".encode("cp1252"), "euc_jp") == ("café déjà", "cp1252" + GUESSED)


def test_a_few_nuls_are_text() -> None:
    assert decode(b"text with a \0 in it, otherwise fine") == (
        "text with a   in it, otherwise fine",
        "utf-8" + REPLACED,
    )
    log = "pump started at 10:00, all is well\n" * 20
    assert decode(log.encode() + bytes(500)) == (log + " " * 500, "utf-8" + REPLACED)
    listing = b"docs/a.md\0docs/b.md\0docs/c.md\0"
    assert decode(listing)[0].split() == ["docs/a.md", "docs/b.md", "docs/c.md"]


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
    replaces = encoding.endswith(REPLACED)
    codec = encoding.removesuffix(REPLACED).removesuffix(GUESSED)
    assert data.decode(codec, "replace" if replaces else "strict").replace("\0", " ") == text
