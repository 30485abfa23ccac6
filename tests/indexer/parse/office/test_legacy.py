"""DOC, PPT and XLS: formats of Office before 2007, made byte by byte."""

import random
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.parse.formats import parse
from indexer.skip import SkipDocument
from tests.indexer import make_compound as make
from tests.indexer.make_compound import PICTURE, make_compound, make_doc, make_ppt, make_xls
from tests.indexer.parse.test_formats import paths, refused

N = b""
BEFORE_NOTE = len(
    "Of Ducks\rCare\rT\rhey are über—hidgonewet\x0band \x13 HYPERLINK x \x14linked\x15"
)


def doc() -> bytes:
    return make_doc(
        [
            ("Of Ducks\r", make.TITLE, N, N),
            ("Care\r", make.HEADING_1, N, N),
            ("T\r", 0, make.DROP_CAP, N),
            ("hey are \u00fcber\u2014", 0, N, N),
            ("hid", 0, N, make.HIDDEN),
            ("gone", 0, N, make.DELETED),
            ("wet\x0band \x13 HYPERLINK x \x14linked\x15\x02.\r", 0, N, N),
            ("by style\r", make.GHOST, N, N),
            ("white\r", 0, make.ITEM, N),
            ("brown\r", 0, make.ITEM, N),
            ("Kind\x07", 0, make.IN_TABLE, N),
            ("Weight\x07", 0, make.IN_TABLE, N),
            ("\x07", 0, make.ROW_END, N),
            ("Mallard\r", 0, make.IN_TABLE, N),
            ("drake\x07", 0, make.IN_TABLE, N),
            ("1100\x07", 0, make.IN_TABLE, N),
            ("\x07", 0, make.ROW_END, N),
            ("\U0001f986 end.\r", 0, N, N),
        ],
        notes=["Seldom."],
        places=[BEFORE_NOTE],
    )


def test_doc() -> None:
    document = parse("x/a.doc", doc())
    assert (document.title, document.format) == ("Of Ducks", "doc")
    assert document.text == (
        "Of Ducks\n\nCare\n\nThey are über—wet\nand linked[1].\n\n  - white\n  - brown\n\n"
        "Kind | Weight\nMallard drake | 1100\n\n\U0001f986 end.\n\n[1] Seldom."
    )
    assert paths(document) == ["Of Ducks", "Of Ducks > Care"]
    assert document.tables[0].header == "Kind | Weight"


def test_doc_of_one_byte_a_character() -> None:
    data = make_doc([("caf\xe9 \u2013 x\r", 0, N, N)], eight_bit=True)
    assert parse("x/a.doc", data).text == "café – x"


def test_doc_that_can_not_be_read() -> None:
    part = ("text\r", 0, N, N)
    assert refused("a.doc", make_doc([part], flags=0x0100)) == "encrypted"
    assert refused("a.doc", make_compound({"Contents": b"x"})).startswith("damaged: no document")
    assert refused("a.doc", make_compound({"WordDocument": b"x"})).startswith("damaged: ")
    assert refused("a.doc", b"\xdb\xa5" + bytes(90)).startswith("damaged: a format of Word 2")


def test_ppt() -> None:
    document = parse(
        "x/a.ppt",
        make_ppt(
            [
                [
                    ("low", 4, 900, 10),
                    ("Why ducks", 0, 10, 10),
                    ("left\rleft too", 1, 300, 10),
                    ("right", 4, 310, 900),
                ],
                [("caf\xe9 \u2013", 4, 0, 0)],
            ],
            notes=["Speak slowly."],
        ),
    )
    assert (document.title, document.format) == ("Why ducks", "ppt")
    assert document.text == (
        "Why ducks\n\nleft\nleft too\n\nright\n\nlow\n\nNotes: Speak slowly.\n\ncafé –"
    )
    assert paths(document) == ["Why ducks", "Slide 2"]
    assert len(document.page_starts) == 2


def test_alternative_text_in_ppt() -> None:
    file = "C:\\Users\\A User\\duck[1].wmf"
    boxes = [("A duck on a pond", PICTURE, 500, 0), (file, PICTURE, 600, 0), ("above", 4, 0, 0)]
    assert parse("a.ppt", make_ppt([boxes])).text == "above\n\nA duck on a pond"


def test_ppt_that_can_not_be_read() -> None:
    assert refused("a.ppt", make_ppt([[("x", 4, 0, 0)]], encrypted=True)) == "encrypted"
    assert refused("a.ppt", make_compound({"PowerPoint Document": b"x"})).startswith(
        "damaged: no slides"
    )


@pytest.mark.parametrize("row", [1, 65_535])
def test_xls_with_a_stray_cell(row: int) -> None:
    start = time.process_time()
    document = parse("x/a.xls", make_xls([(0, 0, 7), (0, 255, 8), (row, 255, 9)]))
    assert document.text.replace(" | ", "").split() == ["S", "78", "9"]
    assert time.process_time() - start < 2


def test_xls_with_a_password() -> None:
    assert refused("a.xls", make_xls([(0, 0, 1)], password=True)) == "encrypted"


def test_old_names_of_new_files_and_new_names_of_old_files() -> None:
    assert parse("a.docx", doc()).format == "doc"
    assert parse("a.xlsx", make_xls([(0, 0, 1)])).format == "spreadsheet"
    assert parse("a.doc", b"<html><body><h1>One</h1><p>Two").format == "html"
    assert parse("a.doc", b"only text").format == "text"
    page = (
        b"MIME-Version: 1.0\r\nContent-Type: multipart/related; boundary=x\r\n\r\n--x\r\n"
        b"Content-Type: text/html\r\n\r\n<h1>One</h1><p>Two\r\n--x--\r\n"
    )
    assert "Two" in parse("a.doc", page).text


@given(st.integers(0, 2**32), st.sampled_from(["doc", "ppt", "xls"]))
def test_damaged_bytes_are_read_or_refused(seed: int, kind: str) -> None:
    made = {"doc": doc(), "ppt": make_ppt([[("x", 4, 0, 0)]], ["y"]), "xls": make_xls([(0, 0, 1)])}
    data = bytearray(made[kind])
    draw = random.Random(seed)
    for _ in range(draw.randrange(1, 30)):
        data[draw.randrange(len(data))] = draw.randrange(256)
    with suppress(SkipDocument):
        parse(f"a.{kind}", bytes(data))
