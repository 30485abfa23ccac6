"""SearchService: pages, batches and streams of passages, and what is refused."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrieval.client import RetrievalClient, SearchResults
from retrieval.domain.passages import Passage, passage_as_json
from retrieval.encoding.encoder import Encoder, load_for_index
from retrieval.errors import InvalidArgument, ServiceError
from retrieval.search import MAX_ARRANGED, MAX_K
from retrieval.service.config import Limits
from retrieval.store import open_reader
from tests.service.harness import SECTIONS, SUBJECTS, RunningServer, running
from tests.tiny_model import DIM

PASSAGES = len(SUBJECTS) * len(SECTIONS)


def test_search_finds_what_fits(client: RetrievalClient, index: Path) -> None:
    results = client.search("when does the ferry leave?", k=3)
    assert len(results) == 3
    best = results[0]
    assert best.uri == "notes/ferry.md"
    assert best.title == "The ferry"
    assert "harbour" in best.text
    assert best.heading_path[0] == "The ferry"
    assert best.name == f"collections/default/documents/{best.document_id}/passages/{best.ordinal}"
    scores = [passage.score for passage in results]
    assert scores == sorted(scores, reverse=True)
    with open_reader(index) as reader:
        text = reader.document_text(best.document_id)
    assert text[best.char_start : best.char_end] == best.text
    assert text[: best.char_start].count("\n") + 1 == best.line_start


def test_search_says_how_it_went(client: RetrievalClient, index: Path) -> None:
    results = client.search("bees")
    with open_reader(index) as reader:
        assert results.generation == reader.info.generation
        assert results.model_fingerprint == reader.info.model.fingerprint
    assert results.query_token_count == 3
    assert not results.query_truncated
    timings = results.timings
    assert 0 < timings.search + timings.fetch <= timings.total < 10
    assert client.search("word " * 1000).query_truncated


def test_scores_are_the_cosines_of_the_model(
    client: RetrievalClient, encoder: Encoder, index: Path
) -> None:
    results = client.search("ice and stone", k=5, mode="dense")
    with open_reader(index) as reader:
        for_queries = load_for_index(reader.info.model, device="cpu", dtype="auto")
    query = for_queries.encode(["ice and stone"], "query")[0]
    passages = encoder.encode([passage.text for passage in results], "passage")
    np.testing.assert_allclose([p.score for p in results], passages @ query, atol=1e-5)


def test_a_vector_of_another_model_is_refused_if_the_client_says_so(
    client: RetrievalClient,
) -> None:
    """A vector can be of the right length, and of another model all the same."""
    made = client.embed_detailed(["ferry"], "query")
    vector, own, other = made.vectors[0], made.model_fingerprint, "0" * 64
    unchecked = client.search(vector, k=3)
    checked = client.search(vector, k=3, expected_model_fingerprint=own)
    assert [one.name for one in checked] == [one.name for one in unchecked]
    assert len([*client.stream_search(vector, limit=3, expected_model_fingerprint=own)]) == 3
    for search in (
        lambda: client.search(vector, expected_model_fingerprint=other),
        lambda: client.search_batch([vector], expected_model_fingerprint=other),
        lambda: client.stream_search(vector, expected_model_fingerprint=other),
        lambda: client.search("ferry", expected_model_fingerprint=other),
    ):
        with pytest.raises(ServiceError, match="embed the query with this collection's") as caught:
            search()
        error = caught.value
        assert (error.status, error.service_reason) == ("FAILED_PRECONDITION", "UNEXPECTED_MODEL")
        assert error.metadata["model_fingerprint"] == own
        assert error.metadata["expected_model_fingerprint"] == other


def test_modes(client: RetrievalClient) -> None:
    by_mode = {
        mode: client.search("when does the ferry leave", k=PASSAGES, mode=mode)
        for mode in ("auto", "dense", "lexical", "hybrid")
    }
    assert {mode: results.mode for mode, results in by_mode.items()} == {
        "auto": "hybrid",
        "dense": "dense",
        "lexical": "lexical",
        "hybrid": "hybrid",
    }
    assert by_mode["auto"].passages == by_mode["hybrid"].passages
    assert len(by_mode["dense"]) == len(by_mode["hybrid"]) == PASSAGES
    assert all("ferry" in f"{p.heading_path} {p.text}".lower() for p in by_mode["lexical"][:2])
    cosines = {p.name: p.score for p in by_mode["dense"]}
    words = {p.name: p.score for p in by_mode["lexical"]}
    for passage in by_mode["hybrid"]:
        assert passage.scores is not None
        assert passage.scores.kind == "weighted"
        assert passage.scores.dense == pytest.approx(cosines[passage.name], abs=1e-5)
        assert passage.scores.lexical == pytest.approx(words.get(passage.name, 0.0), abs=1e-3)
    streamed = client.stream_search("ferry", mode="lexical")
    assert streamed.mode == "lexical"
    assert [p.name for p in streamed] == [p.name for p in client.search("ferry", mode="lexical")]
    ranked = client.search("when does the ferry leave", fusion="rrf")
    assert ranked[0].scores is not None
    assert ranked[0].scores.kind == "rrf"
    assert client.search("ferry", mode="lexical").query_token_count == 0


def test_lists(client: RetrievalClient) -> None:
    every = client.search("how is it done with water?", k=PASSAGES)
    best: dict[str, str] = {}
    for passage in every:
        best.setdefault(passage.uri, passage.name)
    grouped = client.search("how is it done with water?", k=PASSAGES, group_by_document=True)
    assert [passage.name for passage in grouped] == list(best.values())
    pairs = client.search(
        "how is it done with water?", k=2, group_by_document=True, group_size=2, mmr=1.0
    )
    assert [p.uri for p in pairs] == [uri for uri in list(best)[:2] for _ in range(2)]
    collapsed = client.search("how is it done with water?", k=PASSAGES, collapse=0.3)
    named = [name for passage in collapsed for name in (passage.name, *passage.similar)]
    assert sorted(named) == sorted(passage.name for passage in every)
    assert len(collapsed) < PASSAGES


def test_passages_come_with_those_around_them(client: RetrievalClient) -> None:
    for passage in client.search("boat", k=PASSAGES, context_before=1, context_after=2):
        around = client.passage(passage.name, before=1, after=2)
        assert [one.name for one in passage.before] == [one.name for one in around.before]
        assert [one.text for one in passage.after] == [one.text for one in around.after]
        assert all(math.isnan(one.score) for one in (*passage.before, *passage.after))
    assert client.search("boat", k=1)[0].after == ()


def test_texts_can_be_left_out(client: RetrievalClient) -> None:
    asked = {"k": PASSAGES, "context_before": 1, "highlight": True, "section_chars": 500}
    whole = client.search("boat", **asked)
    bare = client.search("boat", **asked, omit_text=True)
    assert [passage._replace(text="", before=()) for passage in whole] == [
        passage._replace(before=()) for passage in bare
    ]
    assert any(passage.section and passage.section.text for passage in bare)
    assert not any(before.text for passage in bare for before in passage.before)
    assert any(passage.before for passage in bare)
    streamed = client.stream_search("boat", limit=PASSAGES, omit_text=True)
    assert [passage.name for passage in streamed] == [passage.name for passage in whole]


def test_highlights_are_offsets_into_the_passage(client: RetrievalClient) -> None:
    passage = client.search("ferry leaves the harbour", k=1, highlight=True)[0]
    assert passage.highlights is not None
    words = {passage.text[start:end].lower() for start, end in passage.highlights.terms}
    assert "harbour" in words
    assert passage.highlights.sentence is not None
    start, end = passage.highlights.sentence
    assert "harbour" in passage.text[start:end]
    assert client.search("ferry", k=1)[0].highlights is None


def test_ranks_of_both_searches(client: RetrievalClient) -> None:
    query = "when does the ferry leave"
    dense = {p.name: p.score for p in client.search(query, k=PASSAGES, mode="dense")}
    lexical = {p.name: p.score for p in client.search(query, k=PASSAGES, mode="lexical")}
    for passage in client.search(query, k=PASSAGES):
        assert passage.scores is not None
        for scores, place in (
            (dense, passage.scores.dense_rank),
            (lexical, passage.scores.lexical_rank),
        ):
            own = scores.get(passage.name)
            better = own and sum(score > own for score in scores.values())
            assert place == (None if better is None else better + 1)


def test_min_score_cuts_off(client: RetrievalClient) -> None:
    every = client.search("music", k=PASSAGES)
    lowest = every[4].score
    kept = client.search("music", k=PASSAGES, min_score=lowest)
    assert kept.passages == every.passages[:5]
    assert not kept.next_page_token
    assert len(client.search("music", min_score=1.5)) == 0


def test_sections_go_with_passages(client: RetrievalClient, index: Path) -> None:
    results = client.search("when does the ferry leave?", k=PASSAGES, section_chars=50_000)
    plain = client.search("when does the ferry leave?", k=PASSAGES)
    assert [passage.name for passage in results] == [passage.name for passage in plain]
    assert all(passage.section is None for passage in plain)
    told: set[tuple[int, int]] = set()
    with open_reader(index) as reader:
        for passage in results:
            section = passage.section
            if section is None:  # a better passage has it
                assert passage.document_id in {document for document, _ in told}
                continue
            text = reader.document_text(passage.document_id)
            assert section.text == text[section.char_start : section.char_end]
            assert passage.text in section.text
            assert section.complete
            assert (passage.document_id, section.char_start) not in told
            told.add((passage.document_id, section.char_start))
    assert len(told) > 1
    small = client.search("boat", k=1, section_chars=1)[0]
    assert small.section is not None
    assert small.section.text == small.text  # never less than the passage
    streamed = list(client.stream_search("boat", limit=3, section_chars=50_000))
    assert streamed[0].section is not None


def test_a_vector_finds_what_its_text_finds(client: RetrievalClient) -> None:
    vector = client.embed(["old apple trees"], "query")[0]
    by_text = client.search("old apple trees", mode="dense")
    by_vector = client.search(vector * 7)
    assert [p.name for p in by_vector] == [p.name for p in by_text]
    assert by_vector.query_token_count == 0


def test_more_like_a_passage(client: RetrievalClient) -> None:
    passage = client.search("rosin")[0]
    alike = client.search(passage)
    assert passage.name not in {other.name for other in alike}
    assert alike[0].uri == passage.uri == "notes/violin.md"


def pages(client: RetrievalClient, query: str, *sizes: int) -> list[SearchResults]:
    found: list[SearchResults] = []
    token = ""
    for size in sizes:
        found.append(client.search(query, k=size, page_token=token))
        token = found[-1].next_page_token
    return found


def test_pages_make_up_the_whole(client: RetrievalClient) -> None:
    whole = client.search("how is it done?", k=PASSAGES + 1)
    assert len(whole) == PASSAGES
    assert not whole.next_page_token
    found = pages(client, "how is it done?", 7, 1, 20, 11, 10)
    joined = [passage for page in found for passage in page]
    assert joined == list(whole)
    assert [bool(page.next_page_token) for page in found] == [True, True, True, True, False]


def test_a_page_token_is_for_its_query_only(client: RetrievalClient) -> None:
    token = client.search("bread", k=2).next_page_token
    for arguments in (
        {"query": "loaf"},
        {"query": "bread", "min_score": 0.1},
        {"query": "bread", "collection": "tea"},
    ):
        with pytest.raises(ServiceError, match="another request") as caught:
            client.search(page_token=token, **arguments)  # type: ignore[arg-type]
        assert caught.value.status == "INVALID_ARGUMENT"
        assert caught.value.metadata["field"] == "page_token"
    with pytest.raises(ServiceError, match="next_page_token unchanged"):
        client.search("bread", page_token="garbage")


def test_a_batch_is_as_its_searches(client: RetrievalClient) -> None:
    passage = client.search("nectar")[0]
    vector = client.embed(["bread"], "query")[0]
    queries = ["ships at night", passage, vector, "parsing", "ships at night"]
    batch = client.search_batch(queries, k=4)
    for query, results in zip(queries, batch, strict=True):
        alone = client.search(query, k=4)
        assert [p.name for p in results] == [p.name for p in alone]
        np.testing.assert_allclose([p.score for p in results], [p.score for p in alone], atol=1e-5)
        assert results.query_token_count == alone.query_token_count
    following = client.search("parsing", k=4, page_token=batch[3].next_page_token)
    assert len(following) == 4


def test_a_batch_names_the_search_at_fault(client: RetrievalClient) -> None:
    nan = [math.nan] * DIM
    for queries, field in (
        (["fine", ""], "requests[1].text"),
        (["fine", "fine", nan], "requests[2].vector"),
        ([[1.0, 2.0]], "requests[0].vector"),
    ):
        with pytest.raises(ServiceError) as caught:
            client.search_batch(queries)
        assert caught.value.metadata["field"] == field
    with pytest.raises(ServiceError, match="requests has 257 items; it must have from 1 to 256"):
        client.search_batch(["x"] * 257)
    with pytest.raises(ServiceError, match="ask for 21000 passages in all"):
        client.search_batch(["x"] * 21, k=1000)
    with pytest.raises(ServiceError, match="requests has 0 items"):
        client.search_batch([])


def test_a_stream_brings_all(client: RetrievalClient) -> None:
    whole = client.search("how is it done?", k=PASSAGES)
    stream = client.stream_search("how is it done?")
    assert stream.generation == whole.generation
    assert stream.query_token_count == whole.query_token_count
    assert tuple(stream) == whole.passages
    assert tuple(client.stream_search("how is it done?", limit=7)) == whole.passages[:7]


def test_a_stream_reads_page_by_page(
    client: RetrievalClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = client.search("how is it done?", k=PASSAGES)
    monkeypatch.setattr("retrieval.service.engine.searches.MAX_K", 6)
    assert tuple(client.stream_search("how is it done?")) == whole.passages
    assert tuple(client.stream_search("how is it done?", limit=13)) == whole.passages[:13]


@pytest.mark.parametrize(
    "options",
    [
        {"group_by_document": True},
        {"group_by_document": True, "group_size": 3},
        {"collapse": 0.6},
        {"collapse": 0.6, "group_by_document": True, "group_size": 2},
        {"mmr": 0.3},
        {"highlight": True, "context_before": 1, "context_after": 2},
        {"omit_metadata": True, "omit_text": True, "include_vectors": True},
        {"min_score": 0.2, "mode": "dense", "filter": "path:b*"},
    ],
    ids=str,
)
def test_a_stream_with_options_is_the_list_of_the_pages(
    client: RetrievalClient, options: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = client.search("bees in the winter", k=PASSAGES, **options)
    assert len(whole) > 1
    stream = client.stream_search("bees in the winter", **options)
    assert stream.warnings == whole.warnings

    def equal(found: Iterable[Passage], expected: Iterable[Passage]) -> bool:
        # Scores of neighbours are NaN, which equals nothing.
        return [*map(passage_as_json, found)] == [*map(passage_as_json, expected)]

    assert equal(stream, whole)
    few = client.search("bees in the winter", k=3, **options)
    assert equal(client.stream_search("bees in the winter", limit=3, **options), few)
    monkeypatch.setattr("retrieval.service.engine.searches.MAX_K", 6)
    assert equal(client.stream_search("bees in the winter", **options), whole)


def test_an_arranged_stream_is_as_long_as_a_list(client: RetrievalClient) -> None:
    for options in ({"collapse": 0.9}, {"mmr": 0.5}):
        with pytest.raises(ServiceError, match="limit is 1001; it must be from 1 to 1000") as error:
            client.stream_search("bees", limit=MAX_ARRANGED + 1, **options)
        assert error.value.metadata["field"] == "limit"


def test_vectors_of_hits(client: RetrievalClient, index: Path) -> None:
    found = client.search("bees", k=PASSAGES, include_vectors=True, mode="dense", context_after=1)
    query = client.embed("bees", "query")
    with open_reader(index) as reader:
        for passage in found:
            assert passage.vector is not None
            own = reader.passage_vector(passage.document_id, passage.ordinal)
            np.testing.assert_array_equal(np.asarray(passage.vector), own)
            assert np.asarray(passage.vector).dtype == np.float32
            shown = passage_as_json(passage)["vector"]
            np.testing.assert_array_equal(np.float32(shown), own)
            assert max(len(repr(number)) for number in shown) <= 16
            assert all(one.vector is None for one in passage.after)
    cosines = [float(np.asarray(passage.vector) @ query) for passage in found]
    np.testing.assert_allclose([passage.score for passage in found], cosines, atol=1e-5)
    assert client.search("bees", k=1)[0].vector is None
    again = client.search(found[0].vector, k=1, mode="dense")
    assert again[0].score == pytest.approx(1, abs=1e-5)


def test_vectors_count_as_bytes_of_the_answer(index: Path) -> None:
    limits = Limits(message_bytes=DIM * 4 * PASSAGES, message_budget=1 << 20)
    with (
        running({"default": index}, limits=limits) as server,
        RetrievalClient(server.target) as client,
    ):
        short: Any = {"omit_text": True, "omit_metadata": True}
        few = client.search("bees", k=3, include_vectors=True, **short)
        assert len(few) == 3
        with pytest.raises(ServiceError) as caught:
            client.search("bees", k=PASSAGES, include_vectors=True, **short)
        assert caught.value.service_reason == "ANSWER_TOO_LARGE"
        stream = client.stream_search("bees", include_vectors=True, **short)
        assert len(list(stream)) == PASSAGES


def test_a_stream_can_be_left_early(client: RetrievalClient, server: RunningServer) -> None:
    stream = client.stream_search("anything")
    next(stream)
    del stream
    assert client.search("anything")


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        ([0.0] * DIM, "not all zero"),
        ([math.nan] * DIM, "finite"),
        ([math.inf] + [0.0] * (DIM - 1), "finite"),
        ([1.0] * (DIM - 1), f"must have {DIM} numbers"),
        ([], f"must have {DIM} numbers"),
    ],
)
def test_bad_vectors(client: RetrievalClient, vector: list[float], message: str) -> None:
    for search in (client.search, client.stream_search):
        with pytest.raises(ServiceError, match=message) as caught:
            search(vector)
        assert caught.value.status == "INVALID_ARGUMENT"
        assert caught.value.service_reason == "INVALID_ARGUMENT"
        assert caught.value.metadata["field"] == "vector"


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"query": ""}, "text"),
        ({"query": " \n"}, "text"),
        ({"query": "x" * 100_000}, "text"),
        ({"query": "x", "k": MAX_K + 1}, "page_size"),
        ({"query": "x", "k": 10**9}, "page_size"),
        ({"query": "x", "mode": "dense", "min_score": 1.5}, "min_score"),
        ({"query": "x", "min_score": math.nan}, "min_score"),
        ({"query": "x", "dense_weight": 1.0}, "dense_weight"),
        ({"query": "x", "group_size": 2}, "group_size"),
        ({"query": "x", "collapse": 1.5}, "collapse"),
        ({"query": "x", "context_after": 11}, "context_after"),
        ({"query": "x", "mmr": math.nan}, "mmr"),
        ({"query": "x", "dense_weight": math.nan}, "dense_weight"),
        ({"query": [0.1] * DIM, "mode": "lexical"}, "mode"),
        ({"query": "x", "section_chars": 65_537}, "section_chars"),
        ({"query": "x", "collection": "No Such"}, "collection"),
    ],
)
def test_bad_values(client: RetrievalClient, arguments: dict[str, object], field: str) -> None:
    with pytest.raises(ServiceError) as caught:
        client.search(**arguments)  # type: ignore[arg-type]
    assert caught.value.status == "INVALID_ARGUMENT"
    assert caught.value.metadata["field"] == field


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"query": "x", "k": 0}, "k"),
        ({"query": "x", "k": -1}, "k"),
        ({"query": "x", "k": 10**12}, "k"),
        ({"query": "x", "section_chars": -1}, "section_chars"),
        ({"query": "\udc80"}, "query"),
        ({"query": [[1.0]]}, "query"),
        ({"query": [object()]}, "query"),
        ({"query": "x", "mode": "sparse"}, "mode"),
        ({"query": "x", "page_token": "\udc80"}, "page_token"),
    ],
)
def test_values_that_are_never_sent(
    client: RetrievalClient, arguments: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        client.search(**arguments)  # type: ignore[arg-type]
    assert caught.value.metadata["field"] == field


def test_stream_limits(client: RetrievalClient) -> None:
    with pytest.raises(ServiceError, match="limit is 10001; it must be from 1 to 10000"):
        client.stream_search("x", limit=10_001)
    with pytest.raises(InvalidArgument, match="limit is 0"):
        client.stream_search("x", limit=0)


def test_unknown_collection_and_passage(client: RetrievalClient) -> None:
    with pytest.raises(ServiceError, match="this server has: default, tea") as caught:
        client.search("x", collection="nope")
    assert (caught.value.status, caught.value.service_reason) == ("NOT_FOUND", "NOT_FOUND")
    passage = client.search("bread")[0]
    with pytest.raises(ServiceError, match="vectors of two collections") as caught:
        client.search(passage, collection="tea")
    assert caught.value.status == "INVALID_ARGUMENT"


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"fusion": "rrf"},
        {"min_score": 0.05},
        {"group_by_document": True},
        {"group_by_document": True, "group_size": 2},
        {"group_by_document": True, "group_size": 3, "collapse": 0.9, "mmr": 0.5},
        {"collapse": 0.8},
        {"mmr": 0.5},
    ],
)
def test_tokens_lead_through_the_whole_list(
    client: RetrievalClient, mode: str, options: dict[str, object]
) -> None:
    def ask(k: int, page_token: str = "") -> SearchResults:
        return client.search("the water", k=k, mode=mode, page_token=page_token, **options)  # type: ignore[arg-type]

    whole = [passage.name for passage in ask(PASSAGES)]
    for size in (1, 2, 3):
        results = ask(size)
        names = [passage.name for passage in results]
        while results.next_page_token:
            results = ask(size, results.next_page_token)
            names += [passage.name for passage in results]
        assert names == whole
