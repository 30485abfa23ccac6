"""Counting tokens word by word gives what the tokenizer itself gives."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as FastTokenizer

from retrieval.encoding import tokenizer as module
from retrieval.encoding.tokenizer import Tokenizer

PIECES = [
    "the", "The", "retrieval", "[SEP]", "[SEP", "##ing", "naïve", "e\u0301", "\u0301", "don't",
    "x" * 120, "3.14", "東京", "ｆｕｌｌ", "\u200b", "\ufeff", "\0", "\ufffd", "🙂", "—",
]  # fmt: skip
SPACES = [
    " ",
    "  ",
    "\n",
    "\r\n",
    "\t",
    "\u00a0",
    "\u3000",
    "\u2028",
    "\x0b",
    "\x0c",
    "\x1c",
    "\x85",
]


@pytest.fixture(scope="module")
def ours(minilm_folder: Path) -> Tokenizer:
    return Tokenizer.from_folder(minilm_folder, max_tokens=256)


@pytest.fixture(scope="module")
def real(minilm_folder: Path) -> FastTokenizer:
    tokenizer = FastTokenizer.from_file(str(minilm_folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def counts(real: FastTokenizer, texts: list[str]) -> list[int]:
    return [len(real.encode(text, add_special_tokens=False).ids) for text in texts]


@settings(max_examples=300, deadline=None)
@given(
    texts=st.lists(
        st.one_of(
            st.text(),
            st.lists(st.sampled_from(PIECES + SPACES)).map("".join),
            st.lists(st.sampled_from(PIECES)).map(" ".join),
        ),
        max_size=4,
    )
)
def test_counts_are_the_tokenizers(ours: Tokenizer, real: FastTokenizer, texts: list[str]) -> None:
    assert ours._words is not None
    assert ours.count(texts) == counts(real, texts)


def test_what_is_remembered_is_bounded(
    minilm_folder: Path, real: FastTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_KNOWN_CHARS", 100)
    ours = Tokenizer.from_folder(minilm_folder, max_tokens=256)
    for number in range(50):
        texts = [f"word{number} again", "again and again"]
        assert ours.count(texts) == counts(real, texts)
        assert ours._words is not None
        for memory in (ours._words._words, ours._words._parts):
            assert sum(map(len, memory)) <= 100


def test_other_tokenizers_count_for_themselves(real: FastTokenizer) -> None:
    copy = FastTokenizer.from_str(real.to_str())
    copy.add_tokens(["two words"])
    ours = Tokenizer(copy, max_tokens=256)
    assert ours._words is None
    assert ours.count(["two words"]) == [1]
