"""The thread that embeds: the same vectors as the model, fair shares, and errors for one put."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from indexer.ingest.writer.embedding import Embedding, Vector
from retrieval.encoding.encoder import Embedded, Encoder
from retrieval.errors import NotServing

Result = Future[Mapping[str, Vector]]


@pytest.fixture
def embedding() -> Iterator[Embedding]:
    some = Embedding(slice_tokens=64)
    yield some
    some.close()


class Recording:
    """The encoder, which notes the slices, and fails for a text with ``poison`` in it."""

    def __init__(self, encoder: Encoder) -> None:
        self.identity = encoder.identity
        self.slices: list[list[str]] = []
        self._encoder = encoder

    def embed(self, texts: Sequence[str], kind: str) -> Embedded:
        self.slices.append(list(texts))
        if any("poison" in text for text in texts):
            raise ValueError("poison")
        return self._encoder.embed(texts, "passage")


def together(embedding: Embedding, start: Callable[[], list[Result]]) -> list[Result]:
    """Start embedding several puts before the first slice is taken."""
    with embedding._changed:
        return start()


def texts(name: str, count: int) -> dict[str, int]:
    return {f"{name} number {n}": 20 for n in range(count)}


def test_the_vectors_are_those_of_the_model(embedding: Embedding, encoder: Encoder) -> None:
    wanted = {**texts("bread", 9), "word " * 400: 400}
    vectors = embedding.embed(encoder, wanted).result(60)
    expected = encoder.embed(list(wanted), "passage")
    for text, vector, tokens, cut in zip(
        wanted, expected.vectors, expected.token_counts, expected.truncated, strict=True
    ):
        np.testing.assert_allclose(vectors[text].vector, vector, atol=1e-5)
        assert (vectors[text].tokens, vectors[text].truncated) == (tokens, cut)
    assert embedding.embed(encoder, {}).result(60) == {}


def test_each_put_gets_its_share(embedding: Embedding, encoder: Encoder) -> None:
    model: Any = Recording(encoder)
    long, short = together(
        embedding,
        lambda: [
            embedding.embed(model, texts("long", 400)),
            embedding.embed(model, texts("short", 2)),
        ],
    )
    assert len(short.result(60)) == 2
    assert not long.done()
    assert len(long.result(60)) == 400
    assert sum(map(len, model.slices)) == 402


def test_a_stream_holds_up_no_other_request(embedding: Embedding, encoder: Encoder) -> None:
    model: Any = Recording(encoder)
    *stream, single = together(
        embedding,
        lambda: [
            *(embedding.embed(model, texts(f"{n}", 30), "stream") for n in range(40)),
            embedding.embed(model, texts("single", 2), "single"),
        ],
    )
    assert len(single.result(60)) == 2
    assert all(len(one.result(60)) == 30 for one in stream)
    first = next(n for n, one in enumerate(model.slices) if "single number 0" in one)
    assert first <= 1


def test_a_text_of_two_puts_is_embedded_once(embedding: Embedding, encoder: Encoder) -> None:
    model: Any = Recording(encoder)
    first, second = together(
        embedding,
        lambda: [
            embedding.embed(model, texts("same", 5)),
            embedding.embed(model, texts("same", 7)),
        ],
    )
    assert first.result(60).keys() < second.result(60).keys()
    assert sum(map(len, model.slices)) == 7


def test_a_poisoned_text_fails_its_own_put(embedding: Embedding, encoder: Encoder) -> None:
    model: Any = Recording(encoder)
    good, bad, other = together(
        embedding,
        lambda: [
            embedding.embed(model, {"good": 1}),
            embedding.embed(model, {"some poison": 1, "shared": 1}),
            embedding.embed(model, {"shared": 1}),
        ],
    )
    assert good.result(60).keys() == {"good"}
    assert other.result(60).keys() == {"shared"}
    assert isinstance(bad.exception(60), ValueError)
    assert embedding.embed(model, {"good": 1}).result(60)


def test_what_is_cancelled_is_not_embedded(embedding: Embedding, encoder: Encoder) -> None:
    model: Any = Recording(encoder)
    dropped, kept = together(
        embedding,
        lambda: [embedding.embed(model, texts("a", 9)), embedding.embed(model, texts("a", 3))],
    )
    assert dropped.cancel() or dropped.done()
    assert len(kept.result(60)) == 3
    assert sum(map(len, model.slices)) in (3, 9)


def test_models_take_turns(embedding: Embedding, encoder: Encoder) -> None:
    one, two = Recording(encoder), Recording(encoder)
    results = together(
        embedding,
        lambda: [
            embedding.embed(model, texts(name, 20))  # type: ignore[arg-type]
            for name, model in (("a", one), ("b", two), ("c", one))
        ],
    )
    assert all(len(result.result(60)) == 20 for result in results)
    assert {text[0] for part in one.slices for text in part} == {"a", "c"}
    assert {text[0] for part in two.slices for text in part} == {"b"}


def test_closing_fails_what_waits(encoder: Encoder) -> None:
    embedding = Embedding(slice_tokens=64)
    waiting = embedding.embed(encoder, texts("long", 5_000))
    embedding.close()
    assert isinstance(waiting.exception(60), NotServing)
    assert isinstance(embedding.embed(encoder, {"a": 1}).exception(60), NotServing)
