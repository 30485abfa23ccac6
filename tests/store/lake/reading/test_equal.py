"""The same index in both stores gives the same answers to the product's own search."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from indexer.build.build import build
from indexer.build.progress import SilentProgress
from indexer.build.settings import BuildOptions
from retrieval.domain.passages import Passage
from retrieval.encoder import Encoder
from retrieval.search import EmbeddedText, Query, Searcher, SearchResult
from retrieval.store import Location, Reader, open_reader, open_writer, parse_filter, verify
from tests.service.harness import word_model

pytestmark = pytest.mark.slow

DOCS = Path(__file__).resolve().parents[4] / "docs"

TEXTS = (
    "how is a commit made",
    "the server refuses a request whose deadline has passed",
    '"one commit point" after a crash',
    "title:filters path and modified",
    "conf* of the serv* and token*",
    "SQLite FAISS tantivy versions",
    "get_user os.path.join INDEX_LOCKED",
    "what a filter costs",
    "embedding does not depend on its neighbours",
    "Wörter, naïve tokens and 日本語",
)
OPTIONS: Sequence[dict[str, Any]] = (
    {"mode": "dense"},
    {"mode": "lexical"},
    {"mode": "hybrid"},
    {"mode": "hybrid", "filter": "path:decisions/** AND NOT title:*lock*"},
    {"mode": "dense", "filter": "format=markdown AND size>4k OR uri:docs/[a-f]*"},
    {"mode": "lexical", "offset": 7, "filter": 'title IN ("Serving", "Searching", "Filters")'},
    {"mode": "hybrid", "offset": 20, "group_by_document": True, "group_size": 2},
    {"mode": "hybrid", "mmr": 0.6},
    {"mode": "dense", "collapse": 0.9},
    {"mode": "hybrid", "section_chars": 3000, "highlight": True},
    {"mode": "lexical", "context_before": 2, "context_after": 1, "include_vectors": True},
    {"mode": "hybrid", "fusion": "rrf", "omit_metadata": True},
)


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Location, Location]:
    """This project's own documents in a folder, and in a lake."""
    folder = tmp_path_factory.mktemp("equal")
    made = (Location("", str(folder / "folder")), Location("lance", str(folder / "lake")))
    for location in made:
        options = BuildOptions([DOCS], location, str(word_model()), chunk_tokens=60, device="cpu")
        report = build(options, SilentProgress())
        assert report.info.documents > 50
        # The folder's vectors are in one file then, so both sample the same for an average.
        with open_writer(location, create=False) as writer:
            writer.compact()
    return made


@pytest.fixture(scope="module")
def readers(indexes: tuple[Location, Location]) -> Iterator[tuple[Reader, Reader]]:
    with open_reader(indexes[0]) as one, open_reader(indexes[1]) as two:
        yield one, two


def without_numbers(passage: Passage) -> Passage:
    return passage._replace(score=0.0, scores=None, vector=None)


def assert_equal(one: SearchResult, two: SearchResult) -> None:
    assert len(one.passages) == len(two.passages)
    for left, right in zip(one.passages, two.passages, strict=True):
        assert without_numbers(left) == without_numbers(right)
        np.testing.assert_allclose(left.score, right.score, rtol=0, atol=1e-6)
        assert (left.scores is None) == (right.scores is None)
        for a, b in zip(left.scores or (), right.scores or (), strict=True):
            assert (a is None) == (b is None)
            if isinstance(a, float) and isinstance(b, float):
                np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
        if left.vector is not None and right.vector is not None:
            np.testing.assert_allclose(left.vector, right.vector, atol=1e-6)
    assert one.mode == two.mode
    assert one.warnings == two.warnings


@pytest.mark.parametrize("number", range(len(OPTIONS)))
def test_searches_give_the_same_results(
    readers: tuple[Reader, Reader], encoder: Encoder, number: int
) -> None:
    searchers = [Searcher(reader) for reader in readers]
    options = OPTIONS[number]
    for at, text in enumerate(TEXTS):
        k = 3 + 4 * (at % 4)
        query = Query(text=text, k=k, **options)
        rng = np.random.default_rng(at)
        embedded = None
        if query.needs_embedding:
            # A random vector near some passage's: the tiny model knows none of these words.
            near = readers[0].vectors([1 + 37 * at])[0]
            vector = near + 0.3 * rng.normal(size=len(near)).astype(np.float32)
            embedded = EmbeddedText(vector / np.linalg.norm(vector), 3, truncated=False)
        one, two = (searcher.search(query, embedded) for searcher in searchers)
        assert_equal(one, two)
        assert one.passages or query.filter or query.offset


def test_passages_like_another_are_the_same(readers: tuple[Reader, Reader]) -> None:
    searchers = [Searcher(reader) for reader in readers]
    for place in readers[0].sample_places(10):
        results = [one.search(Query(passage=place, k=8, mode="dense")) for one in searchers]
        assert_equal(*results)


def test_all_else_that_readers_tell_is_the_same(readers: tuple[Reader, Reader]) -> None:
    one, two = readers
    kept = [
        {name: getattr(reader.info, name) for name in ("documents", "chunks", "tokens", "vectors")}
        for reader in readers
    ]
    assert kept[0] == kept[1]
    documents = one.documents(1000)
    assert documents == two.documents(1000)
    where = parse_filter("path:decisions/*")
    assert one.documents(5, "docs/decisions/0010", where) == two.documents(
        5, "docs/decisions/0010", where
    )
    assert one.count_documents(where) == two.count_documents(where)
    assert one.fields() == two.fields()
    for name in ("title", "extension", "path", "format", "root"):
        assert one.field_values(name, "e", 20) == two.field_values(name, "e", 20)
    assert one.sample_places(17) == two.sample_places(17)
    rng = random.Random(3)
    for document in rng.sample(documents, 10):
        assert one.document_text(document.id) == two.document_text(document.id)
        passages = [reader.passages_of_documents([document.id])[document.id] for reader in readers]
        # Ids of texts are unique, and nothing else is promised of them.
        assert [p._replace(text_id=0) for p in passages[0]] == [
            p._replace(text_id=0) for p in passages[1]
        ]
        ordinal = rng.randrange(document.chunk_count)
        around = [
            [p._replace(score=0.0) for p in r.neighbours(document.id, ordinal, before=2, after=3)]
            for r in readers
        ]
        assert around[0] == around[1]


def test_both_are_whole(indexes: tuple[Location, Location]) -> None:
    for location in indexes:
        assert list(verify(location)) == []
