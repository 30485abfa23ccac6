"""JSON that is not one value: JSON lines under any name, comments, and damage."""

import json
import time

import pytest

from indexer.parse.formats import parse
from indexer.skip import SkipDocument

RECORDS = [{"title": "One", "text": "Kettles need descaling."}, {"title": "Two", "text": "Oil."}]


@pytest.mark.parametrize(
    "between", ["\n", "\r\n\r\n", "", ",\n"], ids=["lines", "blank", "none", "comma"]
)
def test_records_that_follow_each_other(between: str) -> None:
    document = parse("a.json", between.join(map(json.dumps, RECORDS)).encode())
    assert [section.heading_path for section in document.sections] == [("One",), ("Two",)]
    assert document.text == "One\n\nKettles need descaling.\n\nTwo\n\nOil."


def test_records_over_several_lines() -> None:
    text = "\n".join(json.dumps(record, indent=2) for record in RECORDS)
    assert len(parse("a.json", text.encode()).sections) == 2


def test_a_bad_line_is_named() -> None:
    lines = [json.dumps(record) for record in RECORDS]
    text = f'{lines[0]}\n{lines[1]}\n{{"title": "Thr\n{lines[0]}\n'
    document = parse("a.json", text.encode())
    assert len(document.sections) == 3
    assert document.metadata == {"unread": ["line 3"]}


@pytest.mark.parametrize(
    "text",
    [
        '{\n  // settings of the pump\n  "speed": 3,\n}\n',
        "/* settings */ [1, 2]",
        "{speed: 3, mode: 'slow'}",
        '{"title": "cut off he',
        "<html><p>not found</p></html>",
    ],
)
def test_what_is_not_json_is_text(text: str) -> None:
    document = parse("docs/tsconfig.json", text.encode())
    assert (document.text, document.title, document.format) == (text, "tsconfig", "json")


def test_json_without_words_is_damaged() -> None:
    with pytest.raises(SkipDocument) as caught:
        parse("a.json", b"{,}")
    assert str(caught.value).startswith("damaged: JSONDecodeError")


@pytest.mark.parametrize(
    "text",
    [
        "[1,\n" * 100_000,
        '{"a": 1}\n' + "[\n" * 900 + "x\n" * 100_000,
        '{"a": 1}\n' * 100_000 + "x",
        '{"a": "\n' * 100_000,
        "{" + ", ".join(f'"k{n}": {n}' for n in range(100_000)) + "}",
        '{"a": ' * 900 + "1" + "}" * 900,
    ],
    ids=lambda text: repr(text[:12]),
)
def test_json_takes_linear_time(text: str) -> None:
    started = time.process_time()
    parse("a.json", text.encode())
    assert time.process_time() - started < 5
