"""What is passed to the models: one text, many, a generator, and what is no text at all."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.domain.arguments import text_list
from retrieval.domain.wording import counted, did_you_mean
from retrieval.encoding.encoder import Encoder
from retrieval.encoding.reranker import Reranker
from retrieval.errors import InvalidArgument
from tests.tiny_model import make_tiny_reranker

NO_TEXTS = [
    (None, "texts is None"),
    (3, "texts is of type int"),
    (b"text", "texts is of type bytes"),
    ({"a": "b"}, "texts is of type dict"),
    ({"a", "b"}, "texts is of type set"),
    (np.array("text"), "texts is of type ndarray"),
    (np.ones(3), "texts[0] is of type float64"),
    (["a", 3], "texts[1] is of type int"),
    (["a", None, "b"], "texts[1] is None"),
    (["a", float("nan")], "texts[1] is of type float"),
    ([b"a"], "texts[0] is of type bytes"),
    ([["a"]], "texts[0] is of type list"),
    ((("a", "b"),), "texts[0] is of type tuple"),
    (["a", "b\ud800"], "texts[1] is not valid Unicode (character 2)"),
]


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Reranker:
    return Reranker.load(make_tiny_reranker(tmp_path_factory.mktemp("reranker")))


@given(st.lists(st.text()))
def test_texts_come_back_as_they_are(texts: list[str]) -> None:
    assert text_list(texts) == texts
    assert text_list(text for text in texts) == texts
    assert text_list(tuple(texts)) == texts


@pytest.mark.parametrize(("texts", "message"), [*NO_TEXTS, ("text", "texts is one text")])
def test_what_is_no_list_of_texts(texts: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^{re.escape(message)}"):
        text_list(texts)


@pytest.mark.parametrize("text", ["how do bees find nectar?", "", "日本語", "\x00"])
def test_one_text_gives_one_vector(encoder: Encoder, text: str) -> None:
    one = encoder.encode(text)
    assert one.shape == (encoder.dim,)
    assert one.dtype == np.float32
    np.testing.assert_array_equal(one, encoder.encode([text])[0])


@pytest.mark.parametrize("kind", [tuple, iter, np.array, lambda texts: (x for x in texts)])
def test_texts_from_anywhere(encoder: Encoder, kind: Callable[[list[str]], Any]) -> None:
    texts = ["a", "b"]
    np.testing.assert_array_equal(encoder.encode(kind(texts)), encoder.encode(texts))


@pytest.mark.parametrize(("texts", "message"), NO_TEXTS)
def test_the_encoder_names_what_is_no_text(encoder: Encoder, texts: Any, message: str) -> None:
    for method in (encoder.encode, encoder.embed):
        with pytest.raises(InvalidArgument, match=re.escape(message)):
            method(texts)


def test_embed_wants_a_list(encoder: Encoder) -> None:
    with pytest.raises(InvalidArgument, match=r"texts is one text; give a list of texts: \[text\]"):
        encoder.embed("text")
    for method in (encoder.tokenizer.count, encoder.tokenizer.encode):
        with pytest.raises(InvalidArgument, match="texts is one text"):
            method("text")


@pytest.mark.parametrize("size", [0, -1, 1.5, "64"])
def test_batches_of_a_wrong_size(encoder: Encoder, size: Any) -> None:
    with pytest.raises(InvalidArgument, match="batch_tokens is "):
        encoder.encode(["a"], batch_tokens=size)


def test_an_unknown_workload_is_refused() -> None:
    workload: Any = "quick"
    with pytest.raises(InvalidArgument, match="workload must be throughput or latency"):
        Encoder.load("mini-gte-en-v1", workload=workload)


def test_a_model_shows_what_it_is(encoder: Encoder, reranker: Reranker) -> None:
    assert repr(encoder) == (
        "Encoder('tiny-words', dim=64, max_tokens=256, dtype='float32', device='cpu')"
    )
    assert re.fullmatch(r"Reranker\('.+', max_tokens=\d+, device='(cpu|cuda)'\)", repr(reranker))


def test_a_reranker_takes_several_passages(reranker: Reranker) -> None:
    scores = reranker.score("a boat", (text for text in ("ferry", "bread")))
    np.testing.assert_array_equal(
        scores.probabilities, reranker.score("a boat", ["ferry", "bread"]).probabilities
    )
    wrong: list[tuple[Any, Any, str]] = [
        ("a boat", "ferry", "passages is one text"),
        (["a boat"], ["ferry"], "query is of type list"),
        ("a boat", ["ferry", None], r"passages\[1\] is None"),
    ]
    for query, passages, message in wrong:
        with pytest.raises(InvalidArgument, match=message):
            reranker.score(query, passages)


def test_a_number_and_its_noun() -> None:
    assert [counted(n, "chunk") for n in (0, 1, 2)] == ["0 chunks", "1 chunk", "2 chunks"]
    assert counted(2, "query", "queries") == "2 queries"
    assert counted(1, "query", "queries") == "1 query"


def test_the_name_that_was_meant() -> None:
    known = ["hybrid", "dense", "lexical"]
    assert did_you_mean("hybird", known) == "; did you mean 'hybrid'?"
    assert did_you_mean("LEX", known) == "; did you mean 'lexical'?"
    assert did_you_mean("teapot", known) == ""
    assert did_you_mean("", known) == ""
