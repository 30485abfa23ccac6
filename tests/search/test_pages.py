"""Pages put together are one long page, and what a stream gives: exact and approximate alike."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from retrieval.domain.passages import Passage
from retrieval.domain.records import Chunk, Document, Section, SourceFile
from retrieval.search import EmbeddedText, Query, Searcher
from retrieval.store import StagedChunk, StagedDocument, open_reader, open_writer, read_status
from retrieval.store.disk.vectors import vector_index
from tests.store.test_store import CHUNKING, MODEL, key, unit_vectors

COUNT = 2_000
PER_DOCUMENT = 20
WORDS = ("ant", "bee", "cow", "dog", "elk", "fox", "gnu", "hen")
LONG = 100


@dataclass
class Backwards:
    """A reranker that has an opinion of its own, which does not depend on its batch."""

    def score(self, query: str, passages: Sequence[str]) -> "Backwards":
        self.probabilities: NDArray[np.float64] = np.array(
            [sum(map(ord, passage)) % 97 / 97 for passage in passages]
        )
        return self

    truncated: int = 0


def text_of(number: int) -> str:
    """Some words; most stand in several documents, under the title of each."""
    chosen = np.random.default_rng(number // 2).choice(WORDS, size=1 + number % 5)
    return " ".join([*chosen, f"n{number // 2}"])


@pytest.fixture(scope="module", params=["flat", "ivf", "hnsw"])
def searcher(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Searcher]:
    """Vectors without any clusters, and a low target: an approximate index misses a lot."""
    folder: Path = tmp_path_factory.mktemp("pages") / "index"
    texts = [text_of(number) for number in range(COUNT)]
    distinct = list(dict.fromkeys(texts))
    with open_writer(folder) as writer:
        writer.set_model(MODEL, CHUNKING)
        with writer.commit() as commit:
            commit.set_index_type(request.param, 0.5)
            vectors = unit_vectors(len(distinct), 3)
            ids = commit.add_vectors([key(t) for t in distinct], vectors, [False] * len(distinct))
            known = dict(zip(distinct, ids, strict=True))
            for number, start in enumerate(range(0, COUNT, PER_DOCUMENT)):
                commit.put_document(document(number, texts[start : start + PER_DOCUMENT], known))
        writer.maintain()
    assert [row.ann_kind or "flat" for row in read_status(folder).segments] == [request.param]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(vector_index, "EXACT_ROWS", 0)
        with open_reader(folder) as reader:
            yield Searcher(reader, Backwards())


def document(number: int, parts: Sequence[str], known: dict[str, int]) -> StagedDocument:
    """A document with a title of its own."""
    text, chunks, at = "\n".join(parts), [], 0
    for ordinal, part in enumerate(parts):
        chunk = Chunk(ordinal, at, at + len(part), part, ordinal + 1, ordinal + 1, (), 2)
        chunks.append(StagedChunk(chunk, known[part]))
        at += len(part) + 1
    uri = f"d/{number:03}"
    made = Document(uri, f"title{number % 7}", "text", text, (Section(0, ()),))
    source = SourceFile(Path("/x") / uri, uri, "d", len(text), 1)
    return StagedDocument(made, source, "0" * 64, chunks)


def embedded(query: Query, seed: int) -> EmbeddedText | None:
    if not query.needs_embedding:
        return None
    return EmbeddedText(unit_vectors(1, 1_000 + seed)[0], 3, truncated=False)


def shown(passages: Sequence[Passage]) -> list[tuple[str, float]]:
    return [(passage.name, passage.score) for passage in passages]


def paged(searcher: Searcher, query: Query, size: int, seed: int) -> list[tuple[str, float]]:
    """The list up to ``LONG``, from pages of a size."""
    found: list[tuple[str, float]] = []
    offset, more = 0, True
    while more and offset < LONG:
        one = replace(query, k=min(size, LONG - offset), offset=offset)
        result = searcher.search(one, embedded(query, seed))
        found += shown(result.passages)
        offset, more = offset + one.k, result.more
    return found


MODES: dict[str, dict[str, Any]] = {
    "dense": {"mode": "dense"},
    "lexical": {"mode": "lexical"},
    "hybrid": {"mode": "hybrid"},
    "rrf": {"mode": "hybrid", "fusion": "rrf"},
}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "exact": {"exact": True},
    "filter": {"filter": "path:*[02468]"},
    "few": {"filter": "path:00*"},
    "min_score": {"min_score": 0.02},
    "by document": {"group_by_document": True},
    "groups": {"group_by_document": True, "group_size": 3},
    "collapse": {"collapse": 0.9},
    "mmr": {"mmr": 0.5},
    "rerank": {"rerank_top": 90},
    "all": {"group_by_document": True, "collapse": 0.95, "mmr": 0.7, "filter": "path:*[13579]"},
}


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("mode", MODES)
def test_pages_are_one_long_page_and_a_stream(searcher: Searcher, mode: str, option: str) -> None:
    query = Query(text="bee title3 fox n77", k=LONG, **MODES[mode], **OPTIONS[option])
    if query.group_size > 1:
        query = replace(query, k=LONG // 3)
    for seed, size in ((1, 13), (2, 40)):
        whole = shown(searcher.search(query, embedded(query, seed)).passages)
        pages = paged(searcher, query, size, seed)
        assert pages[: len(whole)] == whole
        assert len({name for name, _ in pages}) == len(pages)
        if query.mmr is None and query.group_size == 1:
            assert all(one >= other for (_, one), (_, other) in pairwise(pages))
        if option in ("plain", "exact", "filter", "few", "min_score", "rerank"):
            batches = searcher.stream(replace(query, k=50), embedded(query, seed), limit=LONG)
            streamed = [one for batch in batches for one in shown(batch.passages)]
            assert streamed == whole[:LONG]


@pytest.mark.parametrize("mode", MODES)
def test_a_stream_of_all_has_every_passage_once(searcher: Searcher, mode: str) -> None:
    query = Query(text="bee title3", k=1_000, **MODES[mode])
    batches = list(searcher.stream(query, embedded(query, 5), limit=10_000))
    names = [passage.name for batch in batches for passage in batch.passages]
    assert len(set(names)) == len(names)
    assert [batch.more for batch in batches] == [True] * (len(batches) - 1) + [False]
    if mode in ("dense", "hybrid"):
        missed = COUNT - len(names)
        assert missed == 0 if searcher.reader.is_exact else missed < COUNT * 0.2
