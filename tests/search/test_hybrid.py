"""Lexical, weighted and rank-fused search against sums by hand over a small index."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from retrieval.domain.passages import Fusion, Mode
from retrieval.errors import InvalidArgument
from retrieval.search import EmbeddedText, Query, Searcher, SearchResult, ranking
from retrieval.store import open_reader
from retrieval.store.disk.lexical import lexical_index as index_module
from retrieval.store.disk.lexical.lexical_index import EngineQuery, LexicalIndex
from retrieval.store.lexical.query import LexicalQuery
from tests.store.test_store import key, new_writer, staged, unit_vectors

COUNT = 120
WORDS = ("ant", "bee", "cow", "dog", "elk", "fox", "gnu", "hen")


def text_of(number: int) -> str:
    """Some words, more or fewer of each, and one of its own."""
    chosen = np.random.default_rng(number).choice(WORDS, size=1 + number % 6)
    return " ".join([*chosen, f"n{number}"])


@pytest.fixture(scope="module")
def searcher(tmp_path_factory: pytest.TempPathFactory) -> Searcher:
    folder: Path = tmp_path_factory.mktemp("index")
    texts = [text_of(number) for number in range(COUNT)]
    with new_writer(folder) as writer, writer.commit() as commit:
        ids = commit.add_vectors(
            [key(text) for text in texts], unit_vectors(COUNT), [False] * COUNT
        )
        for start in range(0, COUNT, 10):
            uri, end = f"d/{start:03}", start + 10
            commit.put_document(staged(uri, texts[start:end], ids[start:end]))
        # Two of the texts stand in another document, too.
        commit.put_document(staged("d/again", texts[3:5], ids[3:5]))
    return Searcher(open_reader(folder))


def ask(searcher: Searcher, query: Query, seed: int = 1) -> SearchResult:
    if not query.needs_embedding:
        return searcher.search(query)
    return searcher.search(query, EmbeddedText(unit_vectors(1, seed)[0], 3, truncated=False))


def everything(searcher: Searcher, text: str, seed: int) -> tuple[NDArray[np.float64], ...]:
    """By vector id - 1: cosines and BM25 of all texts."""
    reader = searcher.reader
    cosines = unit_vectors(COUNT) @ unit_vectors(1, seed)[0]
    hits = reader.search_lexical(text, COUNT)
    bm25 = np.zeros(COUNT)
    bm25[hits.vector_ids - 1] = hits.scores
    return cosines.astype(np.float64), bm25


def numbers(result: SearchResult) -> list[int]:
    """Which texts were found; one that stands twice comes twice."""
    return [int(passage.text.rpartition(" n")[2]) for passage in result.passages]


@given(
    words=st.lists(st.sampled_from([*WORDS, "n7", "unheard"]), min_size=1, max_size=4),
    seed=st.integers(0, 30),
    weight=st.floats(0.05, 0.95),
    k=st.integers(1, 40),
    depth=st.sampled_from([1, 3, 200]),
)
@settings(max_examples=80, deadline=None)
def test_weighted_is_the_best_of_all_texts(  # noqa: PLR0917
    searcher: Searcher, words: list[str], seed: int, weight: float, k: int, depth: int
) -> None:
    text = " ".join(words)
    cosines, bm25 = everything(searcher, text, seed)
    centre = searcher.reader.average_score(unit_vectors(1, seed)[0])
    away = cosines - centre
    near = away / np.where(away > 0, 1 - centre, 1 + centre)
    expected = weight * near + (1 - weight) * bm25 / (bm25.max() or 1)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ranking, "_FIRST_DEPTH", depth)
        query = Query(text=text, mode="hybrid", dense_weight=weight, k=k)
        result = ask(searcher, query, seed)
    found = numbers(result)
    assert [p.score for p in result.passages] == pytest.approx(expected[found].tolist(), abs=1e-5)
    doubled = np.sort(np.append(expected, expected[3:5]))[::-1]
    assert [p.score for p in result.passages] == pytest.approx(doubled[:k].tolist(), abs=1e-5)
    for passage, number in zip(result.passages, found, strict=True):
        assert passage.scores is not None
        assert passage.scores.kind == "weighted"
        assert passage.scores.dense == pytest.approx(cosines[number], abs=1e-5)
        assert passage.scores.lexical == pytest.approx(bm25[number], abs=1e-3)


def test_fused_by_rank(searcher: Searcher) -> None:
    cosines, bm25 = everything(searcher, "bee fox", 2)
    # Two of the vectors have two texts, under other headings, each with a place among the words.
    texts = np.append(bm25, bm25[3:5])
    every = ((cosines, cosines), (bm25, texts))
    better = [(others[None] > scores[:, None]).sum(axis=1) for scores, others in every]
    expected = 1 / (61 + better[0]) + np.where(bm25 > 0, 1 / (61 + better[1]), 0)
    result = ask(searcher, Query(text="bee fox", mode="hybrid", fusion="rrf", k=30), 2)
    assert [p.score for p in result.passages] == pytest.approx(
        expected[numbers(result)].tolist(), abs=1e-9
    )
    doubled = np.sort(np.append(expected, expected[3:5]))[::-1]
    assert [p.score for p in result.passages] == pytest.approx(doubled[:30].tolist(), abs=1e-9)


@pytest.mark.parametrize(
    ("mode", "fusion"),
    [("lexical", "weighted"), ("hybrid", "weighted"), ("hybrid", "rrf"), ("auto", "weighted")],
)
@given(page=st.integers(1, 25), seed=st.integers(0, 5))
@settings(max_examples=15, deadline=None)
def test_pages_neither_repeat_nor_miss(
    searcher: Searcher, mode: Mode, fusion: Fusion, page: int, seed: int
) -> None:
    query = Query(text="ant cow hen", mode=mode, fusion=fusion, k=500)
    whole = [(p.name, p.score) for p in ask(searcher, query, seed).passages]
    paged: list[tuple[str, float]] = []
    more = True
    while more:
        query = Query(text="ant cow hen", mode=mode, fusion=fusion, k=page, offset=len(paged))
        result = ask(searcher, query, seed)
        paged += [(p.name, p.score) for p in result.passages]
        more = result.more
    assert paged == whole
    assert len(whole) == (COUNT + 2 if mode != "lexical" else len(whole))


def test_lexical_search_needs_no_vector_and_says_what_its_scores_are(searcher: Searcher) -> None:
    result = ask(searcher, Query(text="n42", mode="lexical"))
    assert numbers(result) == [42]
    assert result.score_kind == "bm25"
    assert result.passages[0].scores is not None
    assert result.passages[0].scores.dense is None
    assert ask(searcher, Query(text="unheard of", mode="lexical")).passages == ()


def test_one_search_looks_its_words_up_once(
    searcher: Searcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefixes are looked up among all words, which takes long; a deep list asks several times."""
    made: list[str] = []
    make = index_module.engine_query

    def counting(index: LexicalIndex, query: LexicalQuery) -> EngineQuery:
        made.append(query.text)
        return make(index, query)

    monkeypatch.setattr(index_module, "engine_query", counting)
    monkeypatch.setattr(ranking, "_FIRST_DEPTH", 4)
    ask(searcher, Query(text="b* hen* once", mode="hybrid", k=60))
    assert made == ["b once"]


def test_auto_is_hybrid_for_a_text_and_dense_else(searcher: Searcher) -> None:
    assert ask(searcher, Query(text="bee")).score_kind == "weighted"
    assert ask(searcher, Query(vector=unit_vectors(1)[0])).score_kind == "cosine"
    assert ask(searcher, Query(passage=(1, 1))).score_kind == "cosine"


def test_filter_and_min_score_hold_in_hybrid_search(searcher: Searcher) -> None:
    everywhere = ask(searcher, Query(text="bee fox", k=500, filter="path:05*")).passages
    assert {passage.uri for passage in everywhere} == {"d/050"}
    middle = everywhere[5].score
    kept = ask(searcher, Query(text="bee fox", k=500, filter="path:05*", min_score=middle))
    assert [p.name for p in kept.passages] == [p.name for p in everywhere[:6]]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        (Query(vector=np.ones(8, np.float32), mode="lexical"), "mode"),
        (Query(passage=(1, 1), mode="hybrid"), "mode"),
        (Query(text="x", dense_weight=0.0), "dense_weight"),
        (Query(text="x", dense_weight=1.0), "dense_weight"),
        (Query(text="x", dense_weight=float("nan")), "dense_weight"),
        (Query(text="x", mode="lexical", min_score=float("inf")), "min_score"),
    ],
)
def test_what_can_not_be_is_refused(searcher: Searcher, query: Query, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        ask(searcher, query)
    assert caught.value.metadata["field"] == field
