"""Ranking, pages and checks of the Searcher, over a real index of made-up vectors."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.errors import InvalidArgument, NotFound
from retrieval.search import MAX_QUERY_CHARS, EmbeddedText, Query, Searcher, SearchResult
from retrieval.store import Reader, open_reader
from tests.store.test_store import DIM, key, new_writer, staged, unit_vectors

# Few distinct vectors, so that equal scores abound, in an order that is not the documents'.
DOCUMENTS = {
    "d/c": [0, 1, 2, 0, 1],
    "d/a": [2, 2, 0, 3],
    "d/b": [1, 3, 3, 3, 0, 1, 2],
    "d/d": [4, 0, 4],
}
VECTORS = unit_vectors(5, seed=11)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """Vectors 0 and 1 are equal; every vector stands for several passages."""
    folder: Path = tmp_path_factory.mktemp("index")
    vectors = VECTORS.copy()
    vectors[1] = vectors[0]
    with new_writer(folder) as writer, writer.commit() as commit:
        ids = commit.add_vectors([key(f"text {n}") for n in range(5)], vectors, [False] * 5)
        for uri, numbers in DOCUMENTS.items():
            texts = [f"text {number}" for number in numbers]
            commit.put_document(staged(uri, texts, [ids[number] for number in numbers]))
    return open_reader(folder)


def search(searcher: Searcher, query: Query) -> SearchResult:
    """Answer a query; its text is a seed, for a vector of its own."""
    if query.text is None or not query.text.isdigit():
        return searcher.search(query)
    vector = unit_vectors(1, int(query.text))[0]
    return searcher.search(query, EmbeddedText(vector, 3, truncated=False), embed_seconds=0.5)


@pytest.fixture(scope="module")
def searcher(reader: Reader) -> Searcher:
    return Searcher(reader)


def names(searcher: Searcher, query: Query) -> list[str]:
    return [passage.name for passage in search(searcher, query).passages]


@given(seed=st.integers(0, 50), page=st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_pages_neither_repeat_nor_miss(searcher: Searcher, seed: int, page: int) -> None:
    total = sum(map(len, DOCUMENTS.values()))
    whole = names(searcher, Query(text=str(seed), k=total))
    assert len(set(whole)) == len(whole) == total
    paged: list[str] = []
    for offset in range(0, total, page):
        result = search(searcher, Query(text=str(seed), k=page, offset=offset))
        paged += [passage.name for passage in result.passages]
        assert result.more == (offset + page < total)
    assert paged == whole


def test_best_first_and_equal_scores_in_the_order_of_indexing(searcher: Searcher) -> None:
    result = search(searcher, Query(text="3", mode="dense", k=100))
    numbers = [int(passage.text.removeprefix("text ")) for passage in result.passages]
    keys = [
        (-p.score, number, p.document_id, p.ordinal)
        for p, number in zip(result.passages, numbers, strict=True)
    ]
    assert keys == sorted(keys)
    best = VECTORS[[0, 0, 2, 3, 4]] @ unit_vectors(1, 3)[0]
    assert result.passages[0].score == pytest.approx(best.max(), abs=1e-6)


def test_a_vector_is_normalised_and_equals_its_text(searcher: Searcher) -> None:
    by_text = search(searcher, Query(text="7", mode="dense", k=5))
    by_vector = search(searcher, Query(vector=unit_vectors(1, 7)[0] * 40, k=5))
    assert [p.name for p in by_text.passages] == [p.name for p in by_vector.passages]
    assert by_vector.passages[0].score == pytest.approx(by_text.passages[0].score, abs=1e-6)


def test_more_like_a_passage_leaves_it_out(searcher: Searcher) -> None:
    found = search(searcher, Query(passage=(1, 2), k=100))
    assert (1, 2) not in [(p.document_id, p.ordinal) for p in found.passages]
    assert found.passages[0].score == pytest.approx(1, abs=1e-6)
    assert len(found.passages) == sum(map(len, DOCUMENTS.values())) - 1


def test_min_score(searcher: Searcher) -> None:
    everything = search(searcher, Query(text="5", k=100)).passages
    middle = everything[len(everything) // 2].score
    kept = search(searcher, Query(text="5", k=100, min_score=middle)).passages
    assert [p.name for p in kept] == [p.name for p in everything if p.score >= middle]


def test_an_embedding_goes_with_a_text(searcher: Searcher) -> None:
    result = search(searcher, Query(text="1"))
    assert (result.query_token_count, result.query_truncated) == (3, False)
    assert result.timings.embed_seconds == 0.5
    with pytest.raises(ValueError, match="goes with the text"):
        searcher.search(Query(text="1"))
    embedded = EmbeddedText(unit_vectors(1, 1)[0], 3, truncated=False)
    with pytest.raises(ValueError, match="goes with the text"):
        searcher.search(Query(passage=(1, 1)), embedded)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        (Query(), "query"),
        (Query(text="1", passage=(1, 1)), "query"),
        (Query(text=""), "text"),
        (Query(text=" \n"), "text"),
        (Query(text="x" * (MAX_QUERY_CHARS + 1)), "text"),
        (Query(text="1", k=0), "page_size"),
        (Query(text="1", k=1001), "page_size"),
        (Query(text="1", offset=-1), "page_token"),
        (Query(text="1", offset=10_001), "page_token"),
        (Query(text="1", mode="dense", min_score=1.5), "min_score"),
        (Query(text="1", min_score=float("nan")), "min_score"),
        (Query(vector=np.zeros(DIM, np.float32)), "vector"),
        (Query(vector=np.full(DIM, np.nan, np.float32)), "vector"),
        (Query(vector=np.full(DIM, np.inf, np.float32)), "vector"),
        (Query(vector=np.ones(DIM + 1, np.float32)), "vector"),
        (Query(vector=np.ones((1, DIM), np.float32)), "vector"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_out_of_range_is_named(searcher: Searcher, query: Query, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        search(searcher, query)
    assert caught.value.metadata["field"] == field


def test_huge_finite_vectors_work(searcher: Searcher) -> None:
    huge = unit_vectors(1, 7)[0] * np.float32(1e38)
    found = search(searcher, Query(vector=huge, k=3)).passages
    assert [p.name for p in found] == names(searcher, Query(text="7", k=3))


def test_unknown_passage(searcher: Searcher) -> None:
    with pytest.raises(NotFound):
        search(searcher, Query(passage=(99, 0)))
