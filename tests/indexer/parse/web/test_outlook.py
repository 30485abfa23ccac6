"""Messages of Outlook: made property by property, with attachments and messages in them."""

import struct
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.parse.formats import parse
from indexer.parse.mail.mail import attached_files
from indexer.parse.mail.outlook import decompress_rtf
from indexer.skip import SkipDocument
from tests.indexer.make_compound import make_compound, make_msg

SENT = (datetime(2024, 5, 1, 10, tzinfo=UTC) - datetime(1601, 1, 1, tzinfo=UTC)).total_seconds()
TEXTS = {
    "0037": "Waschküche",
    "0C1A": "Kim",
    "5D01": "kim@example.com",
    "0E04": "Lee; Robin",
    "1000": "The kettle needs descaling.",
}
NOTE = {
    "__properties_version1.0": bytes(8),
    "__substg1.0_3707001F": 'Prüfung "1".txt'.encode("utf-16-le"),
    "__substg1.0_37010102": b"Valve seven. " * 400,
}


def message(texts=TEXTS, numbers={0x0039: int(SENT * 1e7)}, attachments=()) -> bytes:  # noqa: ANN001, B006
    return make_compound(make_msg(texts, numbers, attachments))


def test_a_message() -> None:
    document = parse("x/a.msg", message())
    assert document.title == "Waschküche"
    assert document.text == (
        "Waschküche\nFrom: Kim <kim@example.com>\nTo: Lee; Robin\n"
        "Date: Wed, 01 May 2024 10:00:00 +0000\n\nThe kettle needs descaling."
    )
    assert document.metadata["from"] == "Kim <kim@example.com>"
    assert document.metadata["date"] == "2024-05-01T10:00:00+00:00"


def test_headers_of_the_internet_count_more() -> None:
    came = (
        "From: =?utf-8?q?K=C3=BCm?= <k@example.com>\r\n"
        "To: a@x.org, b@x.org\r\nMessage-ID: <1@x>\r\n"
    )
    document = parse("x/a.msg", message({**TEXTS, "007D": came}))
    assert document.metadata["from"] == "Küm <k@example.com>"
    assert document.metadata["to"] == ["a@x.org", "b@x.org"]
    assert document.metadata["message-id"] == "<1@x>"
    assert document.metadata["date"] == "2024-05-01T10:00:00+00:00"


def test_attachments_and_messages_in_messages() -> None:
    inner = make_msg({"0037": "Inner", "1000": "Deep words."}, header=24)
    held = {f"__substg1.0_3701000D/{name}": data for name, data in inner.items()}
    data = message(attachments=[NOTE, {"__properties_version1.0": bytes(8), **held}])
    document = parse("x/a.msg", data)
    assert "Deep words." in document.text
    assert [part.heading_path[-1] for part in document.sections] == ["Waschküche", "Inner"]
    assert document.metadata["attachments"] == ['Prüfung "1".txt']
    ((name, content),) = attached_files(data)
    assert (name, content) == ('Prüfung "1".txt', b"Valve seven. " * 400)


@pytest.mark.parametrize(
    ("numbers", "encoding"), [({0x3FFD: 1251, 0x3FDE: 65001}, "cp1251"), ({}, "utf-8")]
)
def test_texts_that_are_not_unicode(numbers: dict[int, int], encoding: str) -> None:
    texts = {"0037001E": "Чайник".encode(encoding), "1000001E": "пора чистить".encode(encoding)}
    document = parse("x/a.msg", message(texts, numbers))
    assert (document.title, document.text) == ("Чайник", "Чайник\n\nпора чистить")


def test_html_is_read_if_there_is_no_plain_text() -> None:
    texts = {"0037": "T", "1013": "<p>Of <b>ducks</b></p><p hidden>not seen</p>"}
    assert parse("x/a.msg", message(texts, {})).text == "T\n\nOf ducks"


def test_a_body_in_compressed_rtf() -> None:
    rtf = rb"{\rtf1\ansi Of \b ducks\b0  and pumps.}"
    stored = struct.pack("<III4s", len(rtf) + 12, len(rtf), 0x414C454D, b"") + rtf
    assert parse("x/a.msg", message({"0037": "T", "10090102": stored}, {})).text == (
        "T\n\nOf ducks and pumps."
    )


def test_the_example_of_the_specification_is_decompressed() -> None:
    # [MS-OXRTFCP] 3.1.1: a reference into the dictionary, and the end mark.
    packed = bytes.fromhex(
        "2d0000002b0000004c5a4675f1c5c7a703000a007263706731323542320af32068656c090020627705b06c647d0a800fa0"
    )
    assert decompress_rtf(packed) == rb"{\rtf1\ansi\ansicpg1252\pard hello world}" + b"\r\n"


def test_what_is_no_message_is_refused() -> None:
    with pytest.raises(SkipDocument, match="not a message of Outlook"):
        parse("x/a.msg", make_compound({"Workbook": b"x"}))


@given(st.data())
def test_damaged_messages_are_refused_or_read(data: st.DataObject) -> None:
    whole = bytearray(message(attachments=[NOTE]))
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with suppress(SkipDocument):
        parse("x/a.msg", bytes(whole))


@given(st.binary(max_size=300))
def test_any_compressed_body_ends(data: bytes) -> None:
    try:
        made = decompress_rtf(b"\xff\xff\0\0\xff\xff\0\0LZFu\0\0\0\0" + data)
    except IndexError:
        return
    assert len(made) <= 17 * 8 * (len(data) + 1)
