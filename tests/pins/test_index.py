"""An index that an earlier version made: it opens, is whole, is searched and is updated."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from indexer.build.build import build
from indexer.build.progress import SilentProgress
from indexer.build.settings import BuildOptions
from retrieval.local import LocalSearch, open_local
from retrieval.search import Query
from retrieval.store import open_reader, verify
from tests.pins.make_index import DOCUMENTS

BIRDS, BREAD, FERRY, GLACIER, FARES, UMBRELLA, DOGS, VIOLIN = range(1, 9)
"""Ids of the documents, in the order of their URIs; the last is added by a later build."""


@pytest.fixture(scope="module")
def opened(pinned_index: Path) -> Iterator[LocalSearch]:
    # Not "auto", which takes int8 weights on some machines and may order near-ties differently.
    with open_local(pinned_index, device="cpu", query_dtype="index") as local:
        yield local


def found(local: LocalSearch, query: Query) -> list[int]:
    return [passage.document_id for passage in local.search(query).passages]


def test_what_it_holds(pinned_index: Path) -> None:
    with open_reader(pinned_index) as reader:
        assert (reader.info.documents, reader.info.chunks) == (7, 14)
        assert reader.info.index_id == "01bad056620492c1d8f6241a6ccc4355"
        documents = {document.id: document for document in reader.documents(limit=10)}
    assert {number: document.uri for number, document in documents.items()} == {
        BIRDS: "documents/birds.csv",
        BREAD: "documents/bread.html",
        FERRY: "documents/ferry.md",
        GLACIER: "documents/glacier.txt",
        FARES: "documents/pricing.py",
        UMBRELLA: "documents/questions.jsonl/1.json",
        DOGS: "documents/questions.jsonl/2.json",
    }
    assert documents[FERRY].metadata == {
        "title": "The ferry to the island",
        "tags": ["boats", "timetable"],
        "year": 2021,
        "price": 4.5,
    }
    assert documents[GLACIER].title == "How glaciers move"


def test_it_is_whole(pinned_index: Path) -> None:
    assert list(verify(pinned_index)) == []


@pytest.mark.parametrize(
    ("query", "documents"),
    [
        (Query("when does the boat leave?", mode="dense", k=3), [FERRY, FERRY, UMBRELLA]),
        (Query("ice carries stones down a valley", mode="dense", k=1), [GLACIER]),
        (Query("ferry umbrella", mode="lexical", k=2), [UMBRELLA, FERRY]),
        (Query("get_fare", mode="lexical"), [FARES, FARES]),
        (Query("how long must dough rise?", mode="hybrid", k=1), [BREAD]),
        (Query("ferry", fusion="rrf", k=3), [FERRY, FERRY, FERRY]),
        (Query("ferry", group_by_document=True, k=2), [FERRY, UMBRELLA]),
        (Query(passage=(GLACIER, 0), k=1), [FERRY]),
    ],
)
def test_the_best_of_a_search(query: Query, documents: list[int], opened: LocalSearch) -> None:
    assert found(opened, query) == documents


@pytest.mark.parametrize(
    ("condition", "documents"),
    [
        ("year>=2022", {UMBRELLA, DOGS}),
        ("tags=ice OR extension=csv", {GLACIER, BIRDS}),
        ("NOT path:**.md AND NOT year:*", {BIRDS, BREAD, FARES}),
        ("reviewed=true", {GLACIER}),
        ('title="Lost property"', {UMBRELLA}),
    ],
)
def test_a_filter(condition: str, documents: set[int], opened: LocalSearch) -> None:
    assert set(found(opened, Query("ferry", k=20, filter=condition))) == documents


def test_a_build_updates_it(pinned_index: Path, tmp_path: Path) -> None:
    index = Path(shutil.copytree(pinned_index, tmp_path / "index", symlinks=True))
    documents = Path(shutil.copytree(DOCUMENTS, tmp_path / DOCUMENTS.name))
    (documents / "violin.md").write_text("# The violin\n\nThe bow draws sound from strings.\n")
    (documents / "pricing.py").unlink()
    report = build(BuildOptions([documents], index, device="cpu"), SilentProgress())
    assert (report.added, report.changed, report.removed, report.unchanged) == (1, 0, 1, 6)
    assert report.chunks_embedded == 1
    assert list(verify(index)) == []
    with open_local(index, device="cpu") as local:
        assert found(local, Query("bow and strings", k=1)) == [VIOLIN]
        assert found(local, Query("get_fare", mode="lexical")) == []
        assert found(local, Query("ferry umbrella", mode="lexical", k=1)) == [UMBRELLA]
