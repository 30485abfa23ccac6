"""Passages as they are shown on a terminal."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.commands.render import MAX_TEXT_LINES, passages_as_text
from retrieval.domain.passages import Passage, passage_as_json
from retrieval.domain.wording import printable

PASSAGE = Passage(
    name="documents/1/passages/0",
    document_id=1,
    uri="docs/a.md",
    title="Alpha",
    ordinal=0,
    char_start=0,
    char_end=10,
    line_start=3,
    line_end=7,
    heading_path=("Alpha", "Part", "Detail"),
    text="Some text.",
    token_count=3,
    metadata={},
    score=0.12345,
)


def test_a_passage_shows_title_headings_score_place_and_text() -> None:
    assert passages_as_text([PASSAGE], width=80) == (
        " 1.  0.123  Alpha › Part › Detail\n    docs/a.md:3-7\n    Some text."
    )


def test_no_passages() -> None:
    assert passages_as_text([]) == "no passages found"


def test_hard_wrapped_prose_is_joined_and_code_is_not() -> None:
    prose = "These words were wrapped by hand at a width that is not the terminal's\nand go on."
    code = "```python\nx = 1  # a comment that is long enough to look as if it were wrapped\ny\n```"
    items = "- one item of a list that is long enough to look as if it were wrapped\n- two"
    text = f"{prose}\n\n{code}\n{items}"
    shown = passages_as_text([PASSAGE._replace(text=text)], width=200)
    assert "is not the terminal's and go on.\n\n" in shown
    assert "    y\n" in shown
    assert "    - two" in shown


def test_a_wrapped_list_item_is_joined_and_indented_code_is_not() -> None:
    item = "- An item that was wrapped by hand at some width of the writer's own\n  and goes on."
    code = (
        "This line is long enough to look wrapped, and is followed by code:\n\n    x = 1\n    y = 2"
    )
    shown = passages_as_text([PASSAGE._replace(text=f"{item}\n\n{code}")], width=200)
    assert "writer's own and goes on.\n\n" in shown
    assert "        x = 1\n" in shown


def test_long_texts_are_cut_aloud() -> None:
    lines = [f"- {number}" for number in range(MAX_TEXT_LINES + 5)]
    shown = passages_as_text([PASSAGE._replace(text="\n".join(lines))], width=80)
    assert shown.endswith("    … 5 more lines")


@given(st.text(), st.integers(30, 120))
def test_nothing_that_moves_the_cursor_is_shown(text: str, width: int) -> None:
    passage = PASSAGE._replace(text=text, title=text, heading_path=(text,), uri=text)
    shown = passages_as_text([passage], width=width)
    categories = {unicodedata.category(char) for char in shown if char != "\n"}
    assert not categories & {"Cc", "Cf", "Cs"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\x1b[31mb", "a\\x1b[31mb"), ("\u202egnp", "\\u202egnp"), ("\x07", "\\x07"), ("é", "é")],
)
def test_control_characters_become_escapes(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_titles_and_names_stay_on_one_line() -> None:
    passage = PASSAGE._replace(title="a\nb", heading_path=("c\u2028d",), uri="e\nf", text="g")
    assert len(passages_as_text([passage], width=80).splitlines()) == 3


def test_json_has_null_for_no_score() -> None:
    assert passage_as_json(PASSAGE)["score"] == 0.12345
    assert passage_as_json(PASSAGE._replace(score=float("nan")))["score"] is None
