"""Long rules are left out; text, short rules and code are not."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.chunking.rules import MIN_RULE_CHARS, rule_ranges
from retrieval.domain.embedded_text import without


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("Title\n" + "=" * 70 + "\n\nText.", "Title\n\n\nText."),
        ("  " + "-" * 70 + "  \nText.", "    \nText."),
        ("|" + "-" * 40 + "|" + ":-:" * 20 + "|\n| a | b |", "\n| a | b |"),
        ("+--------" * 8 + "+\n| a |", "\n| a |"),
        ("==========  " * 7 + "\na  b", "  \na  b"),
        ("Introduction " + "." * 90 + " 5", "Introduction  5"),
        ("." + " ." * 40 + " 5", " 5"),
    ],
)
def test_rules(text: str, rest: str) -> None:
    assert without(text, rule_ranges(text)) == rest


@pytest.mark.parametrize(
    "text",
    [
        "-" * 63,
        " " * 500,
        "|" + " " * 100 + "|",
        "word " * 100,
        "a - b = c + d. " * 20,
        "(" * 100,
        "0" * 100,
        "\n".join(["-" * 40] * 9),
        "++++++++[>++++[>++>+++>+++>+<<<<-]>+>+>->>+[<]<-]>>.>---.+++++++..+++.>>.",
        "。" * 100,
    ],
)
def test_what_is_no_long_rule(text: str) -> None:
    assert list(rule_ranges(text)) == []


@given(
    st.integers(0, 200), st.integers(MIN_RULE_CHARS, 300), st.sampled_from(["word ", "x\n", "a("])
)
def test_the_place_of_a_rule_does_not_matter(before: int, length: int, word: str) -> None:
    text = word * before + "-" * length + "b"
    assert without(text, rule_ranges(text)) == word * before + "b"


@pytest.mark.parametrize("piece", ["-", " ", "- ", "-" * 40 + "\n", " " * 40 + "-", "-" * 70 + "a"])
def test_time_is_linear(piece: str) -> None:
    def seconds(length: int) -> float:
        text = piece * (length // len(piece))
        started = time.process_time()
        assert sum(1 for _ in rule_ranges(text)) <= length
        return time.process_time() - started

    seconds(10_000)
    assert seconds(1_600_000) < 100 * max(seconds(100_000), 0.002)
