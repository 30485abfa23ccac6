"""Counts of word pieces are those of the tokenizer itself."""

import string
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from retrieval.encoding.model_cards import OFFLINE_MODEL
from retrieval.encoding.model_folders import find_model
from retrieval.encoding.word_pieces import WordPieces, word_pieces_of


@cache
def tokenizer() -> Tokenizer:
    path = find_model(OFFLINE_MODEL).path / "tokenizer.json"
    loaded = Tokenizer.from_file(str(path))
    loaded.no_truncation()
    loaded.no_padding()
    return loaded


@cache
def pieces() -> WordPieces:
    found = word_pieces_of(tokenizer())
    assert found is not None
    return found


WORDS = st.text(string.ascii_letters + string.digits, min_size=1, max_size=120)
HASHES = st.text("0123456789abcdef", min_size=1, max_size=120)


@given(WORDS | HASHES | st.text("aeinrst", min_size=1, max_size=30))
def test_counts_are_those_of_the_tokenizer(word: str) -> None:
    assert pieces().count(word) == len(tokenizer().encode(word, add_special_tokens=False))


@pytest.mark.parametrize("size", [1, 99, 100, 101, 1000])
def test_long_words(size: int) -> None:
    word = "7" * size
    assert pieces().count(word) == len(tokenizer().encode(word, add_special_tokens=False))


def test_every_piece_of_the_vocabulary() -> None:
    words = [piece.removeprefix("##") for piece in tokenizer().get_vocab()]
    words = [f"{word}{other}" for word, other in zip(words, reversed(words), strict=True)]
    words = [word for word in words if word.isascii() and word.isalnum()]
    found = tokenizer().encode_batch_fast(words, add_special_tokens=False)
    assert [pieces().count(word) for word in words] == [len(one) for one in found]
