"""Corpora that no ranking was made for: every mode answers, with finite scores in their range."""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from retrieval.domain.passages import Passage
from retrieval.search import EmbeddedText, Query, Searcher
from retrieval.store import open_reader
from tests.store.test_store import key, new_writer, staged, unit_vectors

WORDS = ("the", "a", "ticket", "cat", "7", "x")


def make(folder: Path, texts: Sequence[str], vectors: NDArray[np.float32]) -> Searcher:
    """Documents of up to 1,000 passages; a text that repeats has the vector of its first."""
    distinct = list(dict.fromkeys(texts))
    with new_writer(folder) as writer, writer.commit() as commit:
        ids = commit.add_vectors(
            [key(text) for text in distinct], vectors[: len(distinct)], [False] * len(distinct)
        )
        known = dict(zip(distinct, ids, strict=True))
        for start in range(0, len(texts), 1_000):
            part = list(texts[start : start + 1_000])
            commit.put_document(staged(f"d/{start}", part, [known[text] for text in part]))
    return Searcher(open_reader(folder))


def ask(searcher: Searcher, query: Query, vector: NDArray[np.float32]) -> tuple[Passage, ...]:
    embedded = EmbeddedText(vector, 3, truncated=False) if query.needs_embedding else None
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a division by zero is one
        return searcher.search(query, embedded).passages


@pytest.fixture(scope="module")
def tickets(tmp_path_factory: pytest.TempPathFactory) -> Searcher:
    """One word everywhere: its BM25 is next to nothing. All but equal vectors."""
    count = 12_000
    vectors = unit_vectors(1, 1) + 1e-3 * unit_vectors(count, 2)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    texts = [f"ticket {number}" for number in range(count)]
    return make(tmp_path_factory.mktemp("tickets") / "index", texts, vectors)


@pytest.mark.parametrize("fusion", ["weighted", "rrf"])
@pytest.mark.parametrize("text", ["ticket", "ticket xyzzy", "xyzzy", "the", "ticket 7 ticket"])
def test_a_word_that_every_passage_has(tickets: Searcher, text: str, fusion: str) -> None:
    vector = unit_vectors(1, 1)[0]
    query = Query(text=text, mode="hybrid", fusion=fusion, k=20)  # type: ignore[arg-type]
    found = ask(tickets, query, vector)
    assert len(found) == 20
    assert all(math.isfinite(passage.score) for passage in found)
    words = ask(tickets, Query(text=text, mode="lexical", k=20), vector)
    assert all(passage.score > 0 for passage in words)
    if text == "ticket" and fusion == "weighted":  # each has it alike, so the vectors decide
        dense = ask(tickets, Query(text=text, mode="dense", k=20), vector)
        assert [p.name for p in found[:5]] == [p.name for p in dense[:5]]


def test_the_score_of_a_passage_does_not_depend_on_how_many_are_asked_for(
    tickets: Searcher,
) -> None:
    vector = unit_vectors(1, 5)[0]
    whole = ask(tickets, Query(text="ticket 7", mode="hybrid", k=300), vector)
    for k in (1, 3, 10, 17, 100):
        some = ask(tickets, Query(text="ticket 7", mode="hybrid", k=k), vector)
        assert [(p.name, p.score) for p in some] == [(p.name, p.score) for p in whole[:k]]


corpora = st.lists(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join), min_size=1, max_size=30
)


@given(
    texts=corpora,
    query=st.lists(st.sampled_from([*WORDS, "xyzzy", '"the a"', "tick*"]), min_size=1, max_size=4),
    alike=st.sampled_from([0.0, 1e-6, 0.1, 1.0]),
    own=st.booleans(),
    weight=st.sampled_from([0.01, 0.6, 0.99]),
    k=st.integers(1, 40),
)
@example(["x"], ["x"], 0.0, True, 0.6, 1)
@example(["the"] * 30, ["the"], 1.0, False, 0.6, 40)
@example(["ticket x"] * 9, ["ticket"], 0.0, True, 0.6, 9)
@settings(max_examples=40, deadline=None)
def test_hybrid_never_answers_fewer_than_there_are(  # noqa: PLR0917
    tmp_path_factory: pytest.TempPathFactory,
    texts: list[str],
    query: list[str],
    alike: float,
    own: bool,
    weight: float,
    k: int,
) -> None:
    """One text everywhere, one document, one token, equal vectors, no word found: all alike."""
    vectors = (1 - alike) * unit_vectors(1, 1) + alike * unit_vectors(len(texts), 2)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    searcher = make(tmp_path_factory.mktemp("degenerate") / "index", texts, vectors)
    vector = vectors[0] if own else unit_vectors(1, 9)[0]
    for fusion in ("weighted", "rrf"):
        asked = Query(text=" ".join(query), fusion=fusion, dense_weight=weight, k=k)  # type: ignore[arg-type]
        found = ask(searcher, asked, vector)
        assert len(found) == min(k, len(texts))
        assert len({passage.name for passage in found}) == len(found)
        scores = [passage.score for passage in found]
        assert all(math.isfinite(score) for score in scores)
        assert scores == sorted(scores, reverse=True)
        if fusion == "weighted":
            assert all(-weight - 1e-6 <= score <= 1 + 1e-6 for score in scores)


@given(
    texts=corpora,
    query=st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join),
    mode=st.sampled_from(["dense", "lexical", "hybrid"]),
)
@settings(max_examples=25, deadline=None)
def test_a_passage_is_not_left_out_by_its_own_score(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], query: str, mode: str
) -> None:
    """A score goes over the wire as float32, both ways."""
    searcher = make(
        tmp_path_factory.mktemp("own") / "index", texts, unit_vectors(len(texts), len(texts))
    )
    vector = unit_vectors(1, 9)[0]
    asked = Query(text=query, mode=mode, k=40)  # type: ignore[arg-type]
    every = ask(searcher, asked, vector)
    for place, passage in enumerate(every):
        shown = float(np.float32(passage.score))
        least = Query(text=query, mode=mode, k=40, min_score=shown)  # type: ignore[arg-type]
        kept = ask(searcher, least, vector)
        assert [p.name for p in kept[: place + 1]] == [p.name for p in every[: place + 1]]
        assert all(np.float32(p.score) >= np.float32(shown) for p in kept)
