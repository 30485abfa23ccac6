"""RTF: encodings, what is hidden, lists, tables, notes, and hostile files."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.parse.formats import parse
from indexer.skip import SkipDocument
from tests.indexer import make_files
from tests.indexer.parse.test_formats import paths, refused


def rtf(body: str, head: str = r"\ansi\ansicpg1252") -> str:
    data = ("{\\rtf1" + head + "\n" + body + "}").encode("latin-1")
    return parse("x/a.rtf", data).text


def test_document() -> None:
    document = parse("docs/a.rtf", make_files.make_rtf())
    assert (document.title, document.format) == ("Of Ducks", "rtf")
    assert document.metadata == {"author": "A. Author", "date": "2024-05-01"}
    assert document.text == (
        "Of Ducks\n\nThey are waterproof.[1]\n\n- white\n- brown\n\nSizes\n\n"
        "Kind | Weight\nMallard | 1.1 kg\nSwan | 11 kg\n\nThe end.\n\n[1] Seldom wet."
    )
    assert paths(document) == ["Of Ducks", "Of Ducks > Sizes"]
    assert document.tables[0].header == "Kind | Weight"


@pytest.mark.parametrize(
    ("head", "body", "text"),
    [
        (r"\ansi\ansicpg1252", r"gr\'f6\'dfer", "größer"),
        (r"\ansi\ansicpg1251", r"\'cf\'f0\'e8\'e2\'e5\'f2", "Привет"),
        (r"\ansi{\fonttbl{\f1\fcharset204 Arial;}}", r"\f1 \'cf\'f0\'e8", "При"),
        (r"\ansi\ansicpg932", r"\'83^\'83\'43", "タイ"),
        (r"\mac", r"\'9f", "ü"),
        (r"\ansi", r"\u1055 ?\u1088\'3f\uc0\u1080\uc2\u1074 ab.", "Прив."),
        (r"\ansi", r"\u-10179\'3f\u-8704\'3f", "\U0001f600"),
        (r"\ansi", r"{\upr{a?}{\*\ud{\u1055?}}}", "П"),
        (
            r"\ansi{\fonttbl{\f1\fcharset2 Symbol;}{\f2\fcharset2 Wingdings;}}",
            r"\f1 a\f2\u-3872 ?",
            "α→",
        ),
        (r"\ansi", r"a\~b\_c\-d\emdash e\tab f\line g \{h\}\\", "a b-cd—e\tf\ng {h}\\"),
        (r"\ansi", "\xe9t\xe9", "été"),
    ],
)
def test_characters(head: str, body: str, text: str) -> None:
    assert rtf(body, head) == text


def test_what_a_reader_does_not_see_is_left_out() -> None:
    body = (
        r"seen{\v hid}{\deleted gone}{\*\unknown word}{\header page header\par}{\pict 00ff}"
        r"{\*\annotation comment}{\field{\*\fldinst HYPERLINK x}{\fldrslt  link}}"
        r"{\object{\*\objdata 00}{\result  object}}{\xe entry}\v more\v0  end"
    )
    assert rtf(body) == "seen link object end"


def test_binary_data_is_left_out() -> None:
    assert rtf("a{\\pict\\bin4 }}}}}b") == "ab"


def test_merged_cells_repeat_their_value() -> None:
    def row(cells: str, *definitions: str) -> str:
        return r"\trowd" + "".join(rf"{one}\cellx1" for one in definitions) + cells + r"\row "

    body = (
        row(r"\intbl Kind\cell Size\cell\cell", "", r"\clmgf", r"\clmrg")
        + r"\pard"
        + row(r"\intbl Duck\cell 1\cell 2\cell", r"\clvmgf", "", "")
    )
    body += r"\pard" + row(r"\intbl\cell 3\cell 4\cell", r"\clvmrg", "", "") + r"\pard after"
    assert rtf(body) == "Kind | Size | Size\nDuck | 1 | 2\nDuck | 3 | 4\n\nafter"


def test_text_boxes_follow_their_paragraph() -> None:
    body = r"before{\shp{\*\shpinst{\sp{\sn name}{\sv value}}{\shptxt boxed\par}}} it\par after"
    assert rtf(body) == "before it\n\nboxed\n\nafter"


def test_drop_caps_and_descriptions_of_pictures() -> None:
    body = r"\pard\dropcapli3\dropcapt1 O\par\pard nce upon\par "
    body += r"{\shp{\*\shpinst{\sp{\sn wzName}{\sv x}}{\sp{\sn wzDescription}{\sv A duck}}}}\par"
    assert rtf(body) == "Once upon\n\nA duck"


def test_titles() -> None:
    junk = rb"{\rtf1{\info{\title Microsoft Word - x.doc}}text}"
    assert parse("x/a.rtf", junk).title == "a"
    assert parse("x/a.rtf", rb"{\rtf1{\info{\title Of Ducks}}text}").title == "Of Ducks"


def test_what_is_named_otherwise_is_read_as_rtf() -> None:
    assert parse("a.docx", rb"{\rtf1 text}").format == "rtf"
    assert parse("a.rtf", make_files.make_docx()).format == "docx"
    assert parse("a.rtf", b"only text").format == "text"


def test_a_file_without_an_end_is_read() -> None:
    assert parse("a.rtf", rb"{\rtf1 one\par {\b two").text == "one\n\ntwo"
    assert parse("a.rtf", rb"{\rtf1 one}}}}} two").text == "one two"
    assert parse("a.rtf", rb"{\rtf1 \trowd\cellx1\intbl one\cell two").text == "one | two"


@given(
    st.lists(
        st.sampled_from(
            [
                *r"{}\ ",
                r"\par",
                r"\cell",
                r"\row",
                r"\trowd",
                r"\clvmrg",
                "a",
                r"\cellx1",
                r"\intbl",
                r"\u99",
                r"\'e4",
                r"\*",
                r"{\footnote",
                r"{\shptxt",
                r"{\info",
                r"\bin",
                r"{\stylesheet",
                r"{\listtext",
                r"\pard",
                r"\uc3",
                r"\v",
            ]
        ),
        max_size=40,
    )
)
def test_any_order_of_control_words_is_read_or_refused(parts: list[str]) -> None:
    try:
        parse("a.rtf", ("{\\rtf1" + "".join(parts)).encode())
    except SkipDocument as skip:
        assert str(skip).startswith("no text")


def test_hostile_files_cost_little() -> None:
    start = time.process_time()
    assert refused("a.rtf", b"{\\rtf1" + b"{" * 1_000_000) == (
        "damaged: groups nested more than 10000 deep"
    )
    for piece in (rb"\cell ", rb"\row ", rb"{\footnote a}", rb"{\shptxt a}", rb"\u1?", rb"\'41"):
        parse("a.rtf", b"{\\rtf1 a" + piece * 30_000)
    assert time.process_time() - start < 20
