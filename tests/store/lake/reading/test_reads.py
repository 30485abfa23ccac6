"""How often one search asks the store: each of these reads is a round trip to an object store."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrieval.search import EmbeddedText, Query, Searcher
from retrieval.store import Location, open_reader
from retrieval.store.lake.place import Place
from retrieval.store.lake.reading.reader import LakeReader
from retrieval.store.lake.tables.generation import Generation
from tests.store.test_store import key, new_writer, staged, unit_vectors

DOCUMENTS, PASSAGES = 30, 12
K = 10


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Location:
    found = Location("lance", str(tmp_path_factory.mktemp("reads") / "lake"))
    vectors = unit_vectors(DOCUMENTS * PASSAGES, 3)
    with new_writer(found) as writer, writer.commit() as commit:
        for number in range(DOCUMENTS):
            texts = [f"text {n} of number {number} common word" for n in range(PASSAGES)]
            some = vectors[number * PASSAGES :][:PASSAGES]
            ids = commit.add_vectors([key(text) for text in texts], some, [False] * PASSAGES)
            commit.put_document(staged(f"d/{number}.txt", texts, ids))
    return found


@pytest.fixture
def reader(index: Location) -> Iterator[LakeReader]:
    with open_reader(index) as opened:
        assert isinstance(opened, LakeReader)
        opened.search_vectors(unit_vectors(1, 1), 10)  # what is kept in memory
        yield opened


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"mode": "dense"}, ["chunks", "documents", "texts"]),
        ({"mode": "lexical"}, ["chunks", "documents", "texts"]),
        ({"mode": "hybrid"}, ["chunks", "documents", "texts"]),
        (
            {"mode": "hybrid", "group_by_document": True, "group_size": 3},
            ["chunks", "documents", "texts"],
        ),
        # Places and headings around the hits are one more; texts are those that were read.
        ({"mode": "hybrid", "section_chars": 300}, ["chunks", "chunks", "documents", "texts"]),
        (
            {"mode": "hybrid", "context_before": 2, "context_after": 1},
            ["chunks", "chunks", "documents", "documents", "texts"],
        ),
        ({"mode": "hybrid", "mmr": 0.5, "highlight": True}, ["chunks", "documents", "texts"]),
    ],
)
def test_a_search_reads_each_table_once(
    reader: LakeReader,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    expected: list[str],
) -> None:
    taken: list[str] = []
    take = Generation.take

    def counted(self: Generation, name: str, rows: Any, columns: Any) -> Any:
        if len(rows):
            taken.append(name)
        return take(self, name, rows, columns)

    monkeypatch.setattr(Generation, "take", counted)
    query = Query(text="common word of number 7", k=K, **options)
    vector = EmbeddedText(unit_vectors(1, 5)[0], 5, truncated=False)
    tables = [reader._generation.table(name) for name in reader._generation.pointer.tables]
    for table in tables:
        table.io_stats_incremental()
    found = Searcher(reader).search(query, vector if query.needs_embedding else None)
    assert len(found.passages) >= K
    assert sorted(taken) == expected
    # A row takes one request if it is far from the others; here, many are beside each other.
    shown = len(found.passages)
    assert sum(table.io_stats_incremental().read_iops for table in tables) <= shown * len(expected)


def test_the_same_search_again_reads_nothing(reader: LakeReader) -> None:
    query = Query(text="common word of number 7", k=K, mode="lexical")
    one = Searcher(reader).search(query)
    tables = [reader._generation.table(name) for name in reader._generation.pointer.tables]
    for table in tables:
        table.io_stats_incremental()
    two = Searcher(reader).search(query)
    assert one.passages == two.passages
    assert [table.io_stats_incremental().read_iops for table in tables] == [0] * len(tables)


def test_texts_of_several_parts_are_read_after_their_passages(tmp_path: Path) -> None:
    index = Location("lance", str(tmp_path / "lake"))
    texts = ["a" * 50_000, "b" * 50_000, "c" * 50_000]
    with new_writer(index) as writer, writer.commit() as commit:
        ids = commit.add_vectors([key(text) for text in texts], unit_vectors(3, 3), [False] * 3)
        commit.put_document(staged("d/long.txt", texts, ids))
    with LakeReader.open(Place.of(index)) as reader:
        assert len(reader._generation.text_rows.rows(1)) == 3
        assert [reader.passage(1, at).text for at in range(3)] == texts
        assert reader.document_text(1) == "\n".join(texts)
        np.testing.assert_array_equal(reader._generation.numbers("texts", "part"), [0, 1, 2])
