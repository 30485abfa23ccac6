"""Lists by document, without repeats and diverse; highlights."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.domain.passages import Mode, Passage
from retrieval.errors import InvalidArgument
from retrieval.search import EmbeddedText, Query, Searcher, SearchResult
from retrieval.search.highlight import highlight
from retrieval.store import open_reader
from retrieval.store.disk.lexical.term_spans import TermFinder
from tests.store.test_store import key, new_writer, staged, unit_vectors

WORDS = ("ant", "bee", "cow", "dog", "elk")
DOCUMENTS = 12
PER_DOCUMENT = 7
COUNT = DOCUMENTS * PER_DOCUMENT


def vectors() -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Some near each other: every third is much like the one before."""
    made = unit_vectors(COUNT, seed=3)
    noise = unit_vectors(COUNT, seed=4) * 0.05
    made[2::3] = made[1::3][: len(made[2::3])] + noise[2::3]
    return made / np.linalg.norm(made, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def searcher(tmp_path_factory: pytest.TempPathFactory) -> Searcher:
    folder: Path = tmp_path_factory.mktemp("index")
    generator = np.random.default_rng(5)
    texts = [f"{' '.join(generator.choice(WORDS, 1 + n % 4))} n{n}" for n in range(COUNT)]
    with new_writer(folder) as writer, writer.commit() as commit:
        ids = commit.add_vectors([key(text) for text in texts], vectors(), [False] * COUNT)
        for start in range(0, COUNT, PER_DOCUMENT):
            end = start + PER_DOCUMENT
            commit.put_document(staged(f"d/{start:03}", texts[start:end], ids[start:end]))
        commit.put_document(staged("d/copy", texts[:2], ids[:2]))
    return Searcher(open_reader(folder))


def ask(searcher: Searcher, query: Query) -> SearchResult:
    if not query.needs_embedding:
        return searcher.search(query)
    return searcher.search(query, EmbeddedText(unit_vectors(1, 9)[0], 3, truncated=False))


def everything(searcher: Searcher, mode: Mode) -> tuple[Passage, ...]:
    return ask(searcher, Query(text="bee elk", mode=mode, k=500)).passages


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
@given(page=st.integers(1, 8), size=st.integers(1, 4))
@settings(max_examples=12, deadline=None)
def test_groups_are_the_best_of_each_document(
    searcher: Searcher, mode: Mode, page: int, size: int
) -> None:
    expected: dict[int, list[Passage]] = {}
    for passage in everything(searcher, mode):
        expected.setdefault(passage.document_id, []).append(passage)
    found: list[Passage] = []
    offset, more = 0, True
    while more:
        query = Query(
            text="bee elk",
            mode=mode,
            k=page,
            offset=offset,
            group_by_document=True,
            group_size=size,
        )
        result = ask(searcher, query)
        found += result.passages
        offset, more = offset + page, result.more
    wanted = [passage for group in expected.values() for passage in group[:size]]
    assert [p.name for p in found] == [p.name for p in wanted]
    assert [p.score for p in found] == pytest.approx([p.score for p in wanted], abs=1e-5)


@pytest.mark.parametrize("mode", ["dense", "hybrid"])
@given(threshold=st.sampled_from([0.6, 0.9, 0.99, 1.0]), page=st.integers(1, 60))
@settings(max_examples=12, deadline=None)
def test_what_is_nearly_the_same_is_left_out_and_named(
    searcher: Searcher, mode: Mode, threshold: float, page: int
) -> None:
    every = everything(searcher, mode)
    vector = {p.name: searcher.reader.passage_vector(p.document_id, p.ordinal) for p in every}
    kept: list[str] = []
    for passage in every:
        cosines = [vector[other] @ vector[passage.name] for other in kept]
        if not cosines or max(cosines) < threshold - 1e-6:
            kept.append(passage.name)
    found: list[Passage] = []
    more = True
    while more:
        query = Query(text="bee elk", mode=mode, k=page, offset=len(found), collapse=threshold)
        result = ask(searcher, query)
        found += result.passages
        more = result.more
    assert [p.name for p in found] == kept
    whole = ask(searcher, Query(text="bee elk", mode=mode, k=500, collapse=threshold)).passages
    named = [name for passage in whole for name in (passage.name, *passage.similar)]
    assert sorted(named) == sorted(p.name for p in every)


def test_the_same_text_in_two_documents_is_one(searcher: Searcher) -> None:
    whole = ask(searcher, Query(text="bee", mode="dense", k=500, collapse=1.0)).passages
    assert len(whole) == COUNT
    (twice, _) = [passage for passage in whole if passage.similar]
    assert len(twice.similar) == 1


def test_diverse_lists(searcher: Searcher) -> None:
    def mean_cosine(passages: tuple[Passage, ...]) -> float:
        made = [searcher.reader.passage_vector(p.document_id, p.ordinal) for p in passages]
        return float(np.mean([one @ other for one, other in pairwise(made)]))

    plain = ask(searcher, Query(text="bee", k=20))
    same = ask(searcher, Query(text="bee", k=20, mmr=1.0))
    assert [p.name for p in same.passages] == [p.name for p in plain.passages]
    diverse = ask(searcher, Query(text="bee", k=20, mmr=0.3))
    assert diverse.passages[0].name == plain.passages[0].name
    assert mean_cosine(diverse.passages) < mean_cosine(plain.passages)
    paged: list[str] = []
    for offset in range(0, COUNT + 2, 5):
        result = ask(searcher, Query(text="bee", k=5, offset=offset, mmr=0.3))
        paged += [p.name for p in result.passages]
    assert sorted(paged) == sorted(p.name for p in everything(searcher, "hybrid"))
    assert paged[:20] == [p.name for p in diverse.passages]


def test_all_of_it_together(searcher: Searcher) -> None:
    query = Query(
        text="bee",
        k=4,
        group_by_document=True,
        group_size=2,
        collapse=0.9,
        mmr=0.5,
        highlight=True,
        section_chars=500,
    )
    result = ask(searcher, query)
    documents = [p.document_id for p in result.passages]
    assert len(set(documents)) == 4
    assert documents == sorted(documents, key=documents.index)
    assert all(p.highlights is not None for p in result.passages)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        (Query(text="x", group_size=2), "group_size"),
        (Query(text="x", group_by_document=True, group_size=21), "group_size"),
        (Query(text="x", group_by_document=True, group_size=20, k=51), "group_size"),
        (Query(text="x", collapse=1.5), "collapse"),
        (Query(text="x", collapse=float("nan")), "collapse"),
        (Query(text="x", mmr=-0.1), "mmr"),
        (Query(text="x", mmr=0.5, offset=999, k=2), "page_size"),
    ],
)
def test_what_can_not_be_listed_is_refused(searcher: Searcher, query: Query, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        ask(searcher, query)
    assert caught.value.metadata["field"] == field


@pytest.mark.parametrize(
    ("query", "text", "terms", "sentence"),
    [
        ("running cats", "A cat ran. Cats run fast!", "cat|Cats|run", "Cats run fast!"),
        ("user name", "Call getUserName() now.", "getUserName", "Call getUserName() now."),
        ("os.path", "Use os.path here", "os.path", "Use os.path here"),
        (
            "config*",
            "The configuration is set.\n\nNo.",
            "configuration",
            "The configuration is set.",
        ),
        ("東京", "昨日は東京にいた。今日は京都。", "東京", "昨日は東京にいた。"),
        ("état", "Un Etat, un état", "Etat|état", "Un Etat, un état"),
        ("the", "the end", "", ""),
        ("absent", "nothing of it", "", ""),
        ("bees", "- one bee\n- two bees, many bees", "bee|bees|bees", "- one bee"),
    ],
)
def test_highlights(query: str, text: str, terms: str, sentence: str) -> None:
    found = highlight(TermFinder(query, "en"), text)
    assert "|".join(text[start:end] for start, end in found.terms) == terms
    assert (text[found.sentence.start : found.sentence.end] if found.sentence else "") == sentence


@given(query=st.text(max_size=30), text=st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_highlights_lie_within_any_text(query: str, text: str) -> None:
    query, text = (one.encode(errors="ignore").decode() for one in (query, text))
    found = highlight(TermFinder(f"{query} {text[:20]}", "en"), text)
    assert all(0 <= start < end <= len(text) for start, end in found.terms)
    assert all(one.end <= other.start for one, other in pairwise(found.terms))
    if found.sentence:
        inside = text[found.sentence.start : found.sentence.end]
        assert inside == inside.strip()
        assert inside
