"""Names matched, answers measured, runs compared: against rules that are worked out here again."""

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.domain.passages import Passage
from retrieval.domain.wording import counted, named
from retrieval.errors import InvalidArgument, NotFound
from retrieval.eval.compare import compare, p_text
from retrieval.eval.measure import (
    WARM_UP,
    Answer,
    Found,
    calculator,
    measure_names,
    run_queries,
    warm_up,
)
from retrieval.eval.run import notes_on
from retrieval.eval.sets.matching import NAME_KINDS, IndexedDocument, Matching, match_names
from retrieval.eval.sets.queries import TestQuery


def passage(document: int, uri: str, text: str, ordinal: int = 0) -> Passage:
    name = f"documents/{document}/passages/{ordinal}"
    return Passage(name, document, uri, uri, ordinal, 0, len(text), 1, 1, (), text, 1, {}, 0.5)


FOUND = [
    passage(1, "docs/a/one.md", "The  first text."),
    passage(2, "docs/a/two.md", "A second text, longer than what is wanted of it.", 1),
    passage(2, "docs/a/two.md", "Another.", 2),
    passage(3, "docs/b%2Fc.txt", "The fourth."),
]


def document(number: int, uri: str, *, id_: str = "") -> IndexedDocument:
    return IndexedDocument(number, uri, "", {"_id": id_} if id_ else {})


DOCUMENTS = [
    document(number, uri) for number, uri in {one.document_id: one.uri for one in FOUND}.items()
]


def ask(_text: str, k: int, *, by_document: bool) -> Found:
    return Found(FOUND[:k], "dense", 1, query_truncated=False, rerank_truncated=0)


def measured(documents: dict[str, int], passages: dict[str, int], k: int = 10) -> dict[str, float]:
    matching = match_names(documents, DOCUMENTS)
    (answer,) = run_queries([TestQuery("1", "q", documents, passages)], ask, k, matching)
    assert list(answer.measures) == measure_names(k)
    return dict(answer.measures)


@pytest.mark.parametrize("name", ["docs/a/two.md", "a/two.md", "docs/a/two", "a/two", "two"])
def test_a_document_has_several_names(name: str) -> None:
    assert measured({name: 1}, {})["MRR@10"] == 0.5


def test_quoted_names_and_folders_without() -> None:
    assert measured({"b/c": 1}, {})["MRR@10"] == pytest.approx(1 / 3, abs=1e-6)
    assert meant("one", document(1, "one.md")) == [1]


def test_documents_rank_at_their_best_passage() -> None:
    values = measured({"a/two.md": 1, "b/c": 2, "absent": 1}, {})
    ideal = 2 / math.log2(2) + 1 / math.log2(3) + 1 / math.log2(4)
    gain = 1 / math.log2(3) + 2 / math.log2(4)
    assert values["nDCG@10"] == pytest.approx(gain / ideal, abs=1e-6)
    assert values["MAP@10"] == pytest.approx((1 / 2 + 2 / 3) / 3, abs=1e-6)
    assert values["Recall@10"] == pytest.approx(2 / 3, abs=1e-6)
    assert values["Recall@1"] == 0
    assert values["Recall@2"] == pytest.approx(1 / 3, abs=1e-6)


def test_two_names_of_a_document_are_one_wanted_document() -> None:
    assert measured({"one": 1, "docs/a/one.md": 2}, {}) == measured({"one": 2}, {})


def test_passages_are_known_by_their_text() -> None:
    assert measured({}, {"SECOND text, longer": 1})["MRR@10"] == 0.5
    assert measured({}, {"before. The first text. after": 1})["MRR@10"] == 1
    assert measured({}, {"nowhere": 1})["Recall@10"] == 0


def meant(name: str, *documents: IndexedDocument) -> list[int]:
    return [one.id for one in match_names([name], documents).documents[name]]


def test_the_first_kind_of_name_counts() -> None:
    """A document for each kind; without the one of the first kind, the next is meant."""
    documents = [
        document(1, "x/y"),
        document(2, "other/x/y"),
        document(3, "notes/n.md", id_="x/y"),
        document(4, "x/y.md"),
        document(5, "notes/x%2Fy.md"),
    ]
    assert len(documents) == len(NAME_KINDS)
    for first in range(len(documents)):
        for left in itertools.permutations(documents[first:]):
            matching = match_names(["x/y"], left)
            assert [one.id for one in matching.documents["x/y"]] == [first + 1]
            assert matching.kinds == {NAME_KINDS[first]: 1}


@pytest.mark.parametrize("field", ["_id", "id", "doc_id", "docid", "docno"])
@pytest.mark.parametrize("value", ["17", 17, 17.0, " 17 "])
def test_fields_that_hold_the_id_of_a_record(field: str, value: object) -> None:
    assert meant("17", IndexedDocument(3, "corpus.jsonl/5.json", "", {field: value})) == [3]


def test_the_first_field_that_is_there_is_the_record_id() -> None:
    fields = ["_id", "id", "doc_id", "docid", "docno"]
    for first in range(len(fields)):
        metadata = {field: field.upper() for field in reversed(fields[first:])}
        assert IndexedDocument(1, "a.json", "", metadata).record_id == fields[first].upper()


@pytest.mark.parametrize("value", [None, True, "", [17], {"17": 17}])
def test_values_that_are_no_id(value: object) -> None:
    assert IndexedDocument(3, "a.json", "", {"_id": value}).record_id == ""
    assert IndexedDocument(3, "a.json", "", {"_id": value, "id": "other"}).record_id == "other"


@pytest.mark.parametrize(
    "uri",
    [
        "corpus.jsonl/17.json",
        "root/part/corpus.ndjson/17.json",
        "corpus.jsonl.gz/17.json",
        "all.zip/Corpus.JSONL/17.json",
    ],
)
def test_the_number_of_a_line_is_no_name_of_a_record_that_has_one(uri: str) -> None:
    with pytest.raises(InvalidArgument, match="none of 1 wanted document"):
        match_names(["17"], [document(1, uri, id_="4983")])
    assert meant("17", document(1, uri)) == [1]
    assert meant("17", document(1, "notes/17.json", id_="4983")) == [1]
    assert meant(uri, document(1, uri, id_="4983")) == [1]


def test_records_of_the_test_queries_mean_nothing() -> None:
    documents = [
        document(1, "set/corpus.jsonl/1.json", id_="7"),
        document(2, "set/queries.jsonl/1.json", id_="7"),
        document(3, "queries.jsonl/1.json", id_="7"),
    ]
    matching = match_names(["7"], documents, queries_name="queries.jsonl")
    assert [one.id for one in matching.documents["7"]] == [1]
    assert matching.notes() == [
        "2 documents of this index are the test queries themselves, and take the places of "
        "others: build the index from the corpus alone"
    ]


def test_what_does_not_fit_is_counted_and_named() -> None:
    documents = [document(n, f"a/{n}.md") for n in range(5)] + [document(9, "b/1.md")]
    matching = match_names([str(n) for n in range(17)], documents)
    assert matching.wanted == 17
    assert matching.notes() == [
        "12 of 17 wanted documents are not in this index, and count as not found: "
        "5, 6, 7, 8, 9 … and 7 more",
        "1 of 17 wanted documents means several documents of this index, and the best of them "
        "counts, once: 1 is a/1.md, b/1.md",
    ]
    (one,) = match_names(["1", "x"], documents[:2]).notes()
    assert one == "1 of 2 wanted documents is not in this index, and counts as not found: x"


def test_none_of_the_wanted_documents() -> None:
    with pytest.raises(InvalidArgument) as raised:
        match_names(["x1", "x2"], [document(1, "corpus.jsonl/1.json", id_="4983")])
    assert raised.value.message == (
        "none of 2 wanted documents is in this index: it has documents such as "
        "corpus.jsonl/1.json (record id 4983), and the judgements name x1, x2; build the index "
        "from the documents that were judged"
    )
    with pytest.raises(InvalidArgument, match="it has no documents, and the judgements name x1"):
        match_names(["x1"], [])
    assert match_names([], []) == Matching({}, {}, ())


def test_a_name_of_several_documents_is_found_at_the_best_and_once() -> None:
    documents = [document(one.id, one.uri, id_="same") for one in DOCUMENTS]
    matching = match_names(["same", "absent"], documents)
    query = TestQuery("1", "q", {"same": 1, "absent": 1}, {})
    (answer,) = run_queries([query], ask, 10, matching)
    assert answer.found == ["same"]
    assert answer.measures["MRR@10"] == 1
    assert answer.measures["Recall@10"] == 0.5


def worked_out(grades: Mapping[str, int], found: Sequence[str], k: int) -> dict[str, float]:
    """The measures by their definitions, with nothing of ir-measures."""
    gains = [grades.get(name, 0) for name in found[:k]]
    hits = [gain > 0 for gain in gains]

    def dcg(values: Sequence[int]) -> float:
        return sum(value / math.log2(rank + 2) for rank, value in enumerate(values[:10]))

    values = {
        "nDCG@10": dcg(gains) / dcg(sorted(grades.values(), reverse=True)),
        "MRR@10": next((1 / (rank + 1) for rank, hit in enumerate(hits[:10]) if hit), 0.0),
        f"MAP@{k}": sum(sum(hits[: i + 1]) / (i + 1) for i, hit in enumerate(hits) if hit)
        / len(grades),
    }
    for name in measure_names(k):
        if name.startswith("Recall@"):
            values[name] = sum(hits[: int(name.partition("@")[2])]) / len(grades)
    return values


NAMES = st.text(st.characters(codec="utf-8"), max_size=4)


@given(
    grades=st.dictionaries(NAMES, st.integers(1, 1000), min_size=1, max_size=30),
    others=st.lists(NAMES, max_size=30),
    k=st.sampled_from([10, 11, 20, 100, 1000]),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_measures_are_what_their_definitions_say(
    grades: dict[str, int], others: list[str], k: int, data: st.DataObject
) -> None:
    found = data.draw(st.permutations(list(dict.fromkeys([*grades, *others]))))
    found = found[: data.draw(st.integers(0, min(k, len(found))))]
    values = calculator(k)(grades, found)
    expected = worked_out(grades, found, k)
    assert list(values) == measure_names(k)
    assert values == pytest.approx(expected, abs=2e-6)


@given(
    st.integers(1, 12).flatmap(
        lambda n: st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 0.5]), min_size=n, max_size=n)
    )
)
@settings(max_examples=60, deadline=None)
def test_p_is_that_of_all_exchanges(gains: list[float]) -> None:
    """With few queries, all exchanges can be counted; 10,000 of them at random come close."""
    before = {str(n): {"nDCG@10": 0.0} for n in range(len(gains))}
    after = {str(n): {"nDCG@10": gain} for n, gain in enumerate(gains)}
    (difference,) = compare(before, after)
    sums = [
        abs(sum(sign * gain for sign, gain in zip(signs, gains, strict=True)))
        for signs in itertools.product((-1, 1), repeat=len(gains))
    ]
    exact = float(np.mean([one >= abs(sum(gains)) - 1e-9 for one in sums]))
    assert difference.p_value == pytest.approx(exact, abs=0.025)
    assert (difference.better, difference.worse) == (
        sum(gain > 0 for gain in gains),
        sum(gain < 0 for gain in gains),
    )


def test_p_is_never_printed_as_nothing() -> None:
    assert p_text(1 / 10_001) == "<0.001"
    assert p_text(0.00099) == "<0.001"
    assert p_text(0.001) == "0.001"
    assert p_text(0.0426) == "0.043"
    assert p_text(1.0) == "1.000"


def test_many_queries_are_compared_in_little_memory() -> None:
    import tracemalloc

    before = {str(n): {"a": n % 7 / 7, "b": 0.5} for n in range(4_000)}
    after = {str(n): {"a": n % 5 / 5, "b": 0.5} for n in range(4_000)}
    tracemalloc.start()
    try:
        compare(before, after)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_warming_up_asks_nothing_that_is_asked_later() -> None:
    queries = [TestQuery(str(n), f"query {n} " + "long " * n, {"one": 1}, {}) for n in range(9)]
    asked: list[str] = []

    def noting(text: str, k: int, *, by_document: bool) -> Found:
        asked.append(text)
        return ask(text, k, by_document=by_document)

    warm_up(queries, noting, 10)
    assert len(asked) == WARM_UP
    assert not {query.text for query in queries} & set(asked)
    warm_up([TestQuery("1", "x" * 65_536, {"one": 1}, {})], noting, 10)
    assert len(asked[-1]) < 2_000


def test_a_search_that_fails_names_its_query() -> None:
    def failing(text: str, k: int, *, by_document: bool) -> Found:
        raise NotFound("no such thing")

    asking = run_queries([TestQuery("q7", "x", {"one": 1}, {})], failing, 10, Matching({}, {}, ()))
    with pytest.raises(NotFound) as raised:
        list(asking)
    assert raised.value.message == "query q7: no such thing"


def test_what_happened_on_the_way_is_told() -> None:
    def answer(generation: int, *, cut: bool, reranked_in_part: int) -> Answer:
        query = TestQuery("1", "q", {"one": 1}, {})
        return Answer(query, 1.0, {}, [], None, "dense", generation, cut, reranked_in_part)

    assert notes_on([answer(3, cut=False, reranked_in_part=0)]) == []
    assert notes_on(
        [answer(3, cut=True, reranked_in_part=0), answer(4, cut=False, reranked_in_part=2)]
    ) == [
        "1 query is longer than the model reads; the rest had no effect",
        "the reranker read 2 passages in part",
        "the index changed during the run",
    ]


def test_numbers_with_their_nouns() -> None:
    assert counted(1, "query", "queries") == "1 query"
    assert counted(0, "query", "queries") == "0 queries"
    assert counted(2, "document") == "2 documents"
    assert named(["a" * 200]) == "a" * 99 + "…"
    assert named(list("abcdef")) == "a, b, c, d, e … and 1 more"


def test_chance_and_what_is_not() -> None:
    same = {str(n): {"nDCG@10": n / 40} for n in range(40)}
    (none,) = compare(same, same)
    assert (none.p_value, none.better, none.worse) == (1.0, 0, 0)
    better = {query: {"nDCG@10": values["nDCG@10"] + 0.1} for query, values in same.items()}
    (clear,) = compare(same, better)
    assert clear.p_value < 0.001
    assert (clear.better, clear.worse) == (40, 0)
    assert clear.after - clear.before == pytest.approx(0.1)
    mixed = {
        query: {"nDCG@10": values["nDCG@10"] + (0.1 if int(query) % 2 else -0.1)}
        for query, values in same.items()
    }
    (chance,) = compare(same, mixed)
    assert chance.p_value > 0.9
    # Three gains of one size, none lost: by chance in 2 of 8 exchanges.
    few = {str(n): {"nDCG@10": 0.0} for n in range(3)}
    (three,) = compare(few, {query: {"nDCG@10": 0.5} for query in few})
    assert three.p_value == pytest.approx(0.25, abs=0.02)
    with pytest.raises(InvalidArgument, match="no query in common"):
        compare(same, {"other": {"nDCG@10": 1.0}})
