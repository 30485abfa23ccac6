"""What a request costs: at most in proportion to its input, and never for what it doesn't show."""

import gc
import sqlite3
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from retrieval.search import MAX_QUERY_CHARS, EmbeddedText, Query, Searcher, SearchResult
from retrieval.search.highlight import highlight
from retrieval.search.pages import MAX_COMPARED, MAX_LOOKED_AT, MAX_SIMILAR
from retrieval.store import open_reader, parse_filter
from retrieval.store.disk.lexical.lexical_index import MAX_TERMS
from retrieval.store.disk.lexical.term_spans import TermFinder
from retrieval.store.lexical.query import MAX_PHRASE_WORDS, MAX_SPECIAL
from tests.store.test_store import key, new_writer, places_of_texts, staged, unit_vectors

SMALL, LARGE = 1_000, 10_000
MOST = 15.0
"""How many times as much ten times the input may cost; sorting is a little more than linear."""
LEAST_SECONDS = 0.004
"""Less than this is mostly noise."""
SHARED = "the same words everywhere"


class Index(NamedTuple):
    """An index of ``scale`` thousand documents, and one document as long."""

    scale: int
    searcher: Searcher

    def ask(self, text: str, **options: Any) -> SearchResult:
        query = Query(text=text, **options)
        embedded = None
        if query.needs_embedding:
            embedded = EmbeddedText(unit_vectors(1, 9)[0], 3, truncated=False)
        return self.searcher.search(query, embedded)


def make(folder: Path, count: int) -> Searcher:
    """Passages that tie, a text that stands in every document, and one long document."""
    items = [f"item {number}" for number in range(count)]
    parts = [f"part {number} aa bb aa bb" for number in range(count)]
    texts = [SHARED, *items, *parts]
    with new_writer(folder) as writer, writer.commit() as commit:
        ids = commit.add_vectors(
            [key(text) for text in texts], unit_vectors(len(texts), 1), [False] * len(texts)
        )
        for number, item in enumerate(items):
            put = staged(f"d/{number:06}", [item, SHARED], [ids[1 + number], ids[0]])
            commit.put_document(put)
        commit.put_document(staged("d/long", parts, list(ids[1 + count :])))
    return Searcher(open_reader(folder))


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Index, Index]:
    folder = tmp_path_factory.mktemp("cost")
    small, large = (make(folder / str(count), count) for count in (SMALL, LARGE))
    return Index(1, small), Index(10, large)


def seconds(work: Callable[[], object], times: int = 3) -> float:
    """CPU seconds of the best of a few runs; the first one fills the caches."""
    work()
    taken = []
    gc.collect()
    gc.disable()  # it looks at all that other tests have left
    try:
        for _ in range(times):
            started = time.thread_time()
            work()
            taken.append(time.thread_time() - started)
    finally:
        gc.enable()
    return max(min(taken), LEAST_SECONDS)


def within(most: float, small: Callable[[], object], large: Callable[[], object]) -> bool:
    """Whether the one costs at most so many times as much as the other.

    One run of the large is enough if it is quick enough. It is tried again where it is not: what
    else the machine does makes single runs slow, not ten.
    """
    return any(seconds(large, times=1) <= most * seconds(small) for _ in range(10))


def long_document(index: Index) -> int:
    return index.searcher.reader.document_by_uri("d/long").id


def stream(index: Index) -> int:
    query = Query(text="item", mode="lexical", k=100)
    batches = index.searcher.stream(query, None, limit=500 * index.scale)
    return sum(len(batch.passages) for batch in batches)


def list_documents(index: Index) -> None:
    after, reader = "", index.searcher.reader
    while rows := reader.documents(100, after):
        after = rows[-1].uri


LINEAR: dict[str, Callable[[Index], object]] = {
    "dense": lambda i: i.ask("item", mode="dense", k=100 * i.scale),
    "lexical": lambda i: i.ask("item", mode="lexical", k=100 * i.scale),
    "hybrid": lambda i: i.ask("item", mode="hybrid", k=100 * i.scale),
    "rrf": lambda i: i.ask("item", mode="hybrid", fusion="rrf", k=100 * i.scale),
    "filter": lambda i: i.ask("item", k=100 * i.scale, filter="path:*[02468]"),
    "shared text": lambda i: i.ask("same", mode="lexical", k=100 * i.scale),
    "collapse": lambda i: i.ask("item", k=100 * i.scale, collapse=0.99),
    "collapse one text": lambda i: i.ask("same", mode="lexical", k=10, collapse=0.9),
    "by document": lambda i: i.ask("item", k=100 * i.scale, group_by_document=True),
    "groups": lambda i: i.ask("item", k=20 * i.scale, group_by_document=True, group_size=3),
    "one group": lambda i: i.ask("part", k=1, group_by_document=True, group_size=20),
    "diversity": lambda i: i.ask("item", k=100 * i.scale, mmr=0.5),
    "highlight": lambda i: i.ask("item part", k=100 * i.scale, highlight=True),
    "neighbours": lambda i: i.ask("part", k=100 * i.scale, context_before=3, context_after=3),
    "sections": lambda i: i.ask("part", k=100 * i.scale, section_chars=500),
    "prefixes": lambda i: i.ask("ite* par* sam*", mode="lexical", k=100 * i.scale),
    "phrases": lambda i: i.ask('"item 7" "aa bb"', mode="lexical", k=100 * i.scale),
    "deep page": lambda i: i.ask("item", mode="lexical", k=10, offset=900 * i.scale),
    "stream": stream,
    "long query": lambda i: i.ask("item w7 " * (600 * i.scale), mode="lexical"),
    "many words": lambda i: i.ask(
        " ".join(str(number) for number in range(1_000 * i.scale)), mode="lexical"
    ),
    "long phrase": lambda i: i.ask('"' + "aa bb " * (800 * i.scale) + '"', mode="lexical"),
    "a document's text": lambda i: i.searcher.reader.document_text(long_document(i)),
    "documents": list_documents,
}


@pytest.mark.parametrize("kind", LINEAR)
def test_ten_times_the_input_costs_ten_times_as_much(
    indexes: tuple[Index, Index], kind: str
) -> None:
    small, large = (partial(LINEAR[kind], index) for index in indexes)
    assert within(MOST, small, large)


BOUNDED: dict[str, dict[str, Any]] = {
    "ties": {"text": "item", "mode": "lexical"},
    "shared, lexical": {"text": "same", "mode": "lexical"},
    "shared, dense": {"text": "x", "mode": "dense", "k": 1},
    "shared, by document": {"text": "same", "mode": "lexical", "group_by_document": True},
}


@pytest.mark.parametrize("kind", BOUNDED)
def test_a_page_does_not_cost_what_ties_with_it(indexes: tuple[Index, Index], kind: str) -> None:
    small, large = (partial(index.ask, **BOUNDED[kind]) for index in indexes)
    assert within(3, small, large)


def test_a_text_with_many_places_is_read_as_far_as_is_shown(indexes: tuple[Index, Index]) -> None:
    """By its vector, too, which stands for all of them."""
    reader = indexes[1].searcher.reader
    place = next(iter(indexes[1].ask("same", mode="lexical", k=1).passages))
    vector = reader.passage_vector(place.document_id, place.ordinal)
    query = Query(vector=vector, k=10)
    searcher = indexes[1].searcher
    found = searcher.search(query).passages
    assert [passage.text for passage in found] == [SHARED] * 10
    assert [passage.document_id for passage in found] == list(range(1, 11))
    filtered = Query(vector=vector, k=3, filter="path:00999*")
    assert [p.uri for p in searcher.search(filtered).passages] == [
        f"d/00999{number}" for number in range(3)
    ]


TEXTS: dict[str, tuple[str, str]] = {
    "words": ("item", "item "),
    "sentences": ("item", "An item. "),
    "phrase": ('"item item"', "item "),
    "phrases": (" ".join('"' + "a " * length + '"' for length in range(2, 12)), "a "),
    "prefix": ("it*", "item "),
    "camel case": ("aB*", "aBcDeF "),
    "one word": ("x", "x"),
    "lines": ("x", "\n1 x"),
    "characters": ("字", "字。"),
    "accents": ("e", "e\u0301 "),
    "identifiers": ("a.b", "a.b "),
    "quotes": ("x", '."'),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_highlights_take_time_linear_in_the_text(kind: str) -> None:
    query, part = TEXTS[kind]

    def work(characters: int) -> None:
        highlight(TermFinder(query, "en"), part * (characters // len(part)))

    assert within(MOST, lambda: work(5_000), lambda: work(50_000))


@pytest.fixture
def statements(indexes: tuple[Index, Index]) -> Iterator[list[str]]:
    """Every statement that the large index's connections run."""
    log: list[str] = []
    connections: list[sqlite3.Connection] = list(indexes[1].searcher.reader._snapshot._free.queue)
    for connection in connections:
        connection.set_trace_callback(log.append)
    yield log
    for connection in connections:
        connection.set_trace_callback(None)


SHOWN: dict[str, dict[str, Any]] = {
    "plain": {},
    "neighbours": {"context_before": 3, "context_after": 2},
    "sections": {"section_chars": 300},
    "both": {"section_chars": 300, "context_before": 1},
    "filter": {"filter": "path:*[02468]"},
    "by document": {"group_by_document": True},
    "collapse": {"collapse": 1.0},
}


@pytest.mark.parametrize("kind", SHOWN)
def test_a_page_takes_as_many_statements_however_long_it_is(
    indexes: tuple[Index, Index], statements: list[str], kind: str
) -> None:
    counts = []
    for k in (10, 1_000):
        reader = open_reader(indexes[1].searcher.reader.folder)  # nothing is in memory
        fresh = Index(10, Searcher(reader))
        for connection in reader._snapshot._free.queue:
            connection.set_trace_callback(statements.append)
        statements.clear()
        passages = fresh.ask("item part", mode="lexical", k=k, **SHOWN[kind]).passages
        assert len(passages) == k
        counts.append(len(statements))
        reader.close()
    assert counts[0] == counts[1] < 12


def test_groups_take_a_fixed_number_of_statements(
    indexes: tuple[Index, Index], statements: list[str]
) -> None:
    counts = []
    for k in (5, 500):
        statements.clear()
        indexes[1].ask("item", k=k, mode="lexical", group_by_document=True, group_size=2)
        counts.append(len(statements))
    assert max(counts) < 12


def test_similar_passages_are_counted_and_the_best_named(indexes: tuple[Index, Index]) -> None:
    small, _ = indexes
    (first,) = small.ask("same", mode="lexical", k=1, collapse=0.99).passages
    assert first.similar_count == SMALL - 1
    assert len(first.similar) == MAX_SIMILAR
    assert first.similar[0] == "documents/2/passages/1"
    some = small.ask("same", mode="lexical", k=1, collapse=0.99, filter="path:0000*").passages
    assert [(p.similar_count, len(p.similar)) for p in some] == [(99, 99)]
    place = (first.document_id, first.ordinal)
    (like,) = small.searcher.search(Query(passage=place, k=1, collapse=1.0)).passages
    assert like.similar_count == SMALL - 2
    assert first.name not in (like.name, *like.similar)


def test_a_list_that_ends_early_says_so(indexes: tuple[Index, Index]) -> None:
    found = indexes[1].ask("same", mode="lexical", k=10, collapse=0.9)
    assert len(found.passages) == 1
    (warning,) = found.warnings
    assert f"the best {MAX_COMPARED} passages" in warning
    assert not indexes[0].ask("same", mode="lexical", k=10, collapse=0.9).warnings
    assert MAX_LOOKED_AT >= 3 * 10_000


def test_limits_of_a_query_are_told(indexes: tuple[Index, Index]) -> None:
    _, large = indexes
    numbers = " ".join(str(number) for number in range(13_000))[:MAX_QUERY_CHARS]
    found = large.ask(f"{numbers[:-5]} item", mode="lexical")
    (warning,) = found.warnings
    assert f"only the {MAX_TERMS} rarest count" in warning
    assert found.passages
    within = " ".join(str(number) for number in range(MAX_TERMS - 1))
    assert not large.ask(f"{within} unheardof", mode="lexical").warnings
    phrases = " ".join(f'"item {number}"' for number in range(MAX_SPECIAL + 3))
    (warning,) = large.ask(phrases, mode="lexical").warnings
    assert warning.startswith("of the phrases, prefixes and title words in the query 3 count")
    long = '"' + "aa bb " * MAX_PHRASE_WORDS + '"'
    (warning,) = large.ask(long, mode="lexical").warnings
    assert f"more than {MAX_PHRASE_WORDS} words" in warning
    assert not large.ask(long, mode="dense").warnings


@pytest.mark.parametrize("mode", ["lexical", "dense", "hybrid"])
def test_ties_are_listed_once_whatever_the_page(indexes: tuple[Index, Index], mode: str) -> None:
    _, large = indexes
    options: dict[str, Any] = {"text": "item", "mode": mode}
    whole = [p.name for p in large.ask(**options, k=900).passages]
    paged = [
        p.name
        for start in range(0, 900, 90)
        for p in large.ask(**options, k=90, offset=start).passages
    ]
    assert paged == whole
    assert len(set(whole)) == 900
    assert all(a.score >= b.score for a, b in pairwise(large.ask(**options, k=900).passages))


def test_a_filter_reads_what_passes(indexes: tuple[Index, Index]) -> None:
    reader = indexes[1].searcher.reader
    place = indexes[1].ask("same", mode="lexical", k=1).passages[0]
    vector_id = reader.passages_of_documents([place.document_id])[place.document_id][1].vector_id
    where = parse_filter("path:00123*")
    (places,) = places_of_texts(reader, [vector_id], [0], where)
    assert [document for document, _ in places] == list(range(1231, 1241))
    assert places_of_texts(reader, [vector_id], [0], where, most=2) == [places[:2]]
