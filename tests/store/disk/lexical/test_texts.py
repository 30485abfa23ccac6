"""A text is found under the title and headings of each document that has it, and under no other."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.domain.records import Chunk, Document, Section, SourceFile
from retrieval.search import Query, Searcher
from retrieval.store import StagedChunk, StagedDocument, Writer, open_reader, open_writer, verify
from tests.store.disk.old_index import make_older
from tests.store.test_store import key, new_writer, unit_vectors

TEXTS = ("alpha common", "beta common", "gamma common")
TITLES = ("zebra", "giraffe", "walrus", "zebra giraffe")


def put(writer: Writer, documents: Mapping[str, tuple[str, str]]) -> None:
    """One commit: URI → (title, text) of documents of one passage each."""
    with writer.commit() as commit:
        known = writer.find_vectors(key(text) for text in TEXTS)
        if not known:
            ids = commit.add_vectors([key(t) for t in TEXTS], unit_vectors(3), [False] * 3)
            known = dict(zip(map(key, TEXTS), ids, strict=True))
        for uri, (title, text) in documents.items():
            document = Document(uri, title, "text", text, (Section(0, ()),))
            source = SourceFile(Path("/x") / uri, uri, "d", len(text), 1)
            chunk = Chunk(0, 0, len(text), text, 1, 1, (), 2)
            staged = [StagedChunk(chunk, known[key(text)])]
            commit.put_document(StagedDocument(document, source, "0" * 64, staged))


def found(folder: Path, query: Query) -> list[str]:
    with open_reader(folder) as reader:
        return [passage.uri for passage in Searcher(reader).search(query).passages]


def by_words(folder: Path, text: str, where: str = "") -> set[str]:
    uris = found(folder, Query(text=text, mode="lexical", filter=where, k=100))
    assert len(uris) == len(set(uris))
    return set(uris)


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """Two documents with one text, under other titles; a filter can name either."""
    folder = tmp_path / "index"
    with new_writer(folder) as writer:
        put(writer, {"d/a": ("zebra", TEXTS[0]), "d/b": ("giraffe", TEXTS[0])})
    yield folder
    assert list(verify(folder)) == []


def test_each_title_finds_its_own_document(shared: Path) -> None:
    assert by_words(shared, "zebra") == {"d/a"}
    assert by_words(shared, "giraffe") == {"d/b"}
    assert by_words(shared, "title:giraffe") == {"d/b"}
    assert by_words(shared, "alpha") == {"d/a", "d/b"}
    assert found(shared, Query(text="alpha giraffe", mode="lexical")) == ["d/b", "d/a"]


def test_a_filter_shows_no_word_of_what_it_leaves_out(shared: Path) -> None:
    assert by_words(shared, "zebra", "path=b") == set()
    assert by_words(shared, "zeb*", "path=b") == set()
    assert by_words(shared, "giraffe", "path=b") == {"d/b"}
    assert by_words(shared, "zebra", "NOT path=b") == {"d/a"}


def test_a_removed_document_leaves_no_word_behind(shared: Path) -> None:
    with new_writer(shared) as writer, writer.commit() as commit:
        commit.remove_document("d/a")
    assert by_words(shared, "zebra") == set()
    assert by_words(shared, "title:zebra") == set()
    assert by_words(shared, "giraffe alpha") == {"d/b"}
    with new_writer(shared) as writer:
        put(writer, {"d/b": ("walrus", TEXTS[0])})
    assert by_words(shared, "giraffe") == set()
    assert by_words(shared, "walrus") == {"d/b"}
    with new_writer(shared) as writer, writer.commit() as commit:
        commit.remove_document("d/b")
    assert by_words(shared, "zebra giraffe walrus alpha") == set()
    with new_writer(shared) as writer:
        put(writer, {"d/a": ("zebra", TEXTS[0])})
    assert by_words(shared, "zebra") == {"d/a"}


def test_stages_say_what_each_document_scored(shared: Path) -> None:
    with open_reader(shared) as reader:
        (vector,) = unit_vectors(3)[:1]
        searcher = Searcher(reader)
        dense = searcher.search(Query(vector=vector, k=10)).passages
        assert [passage.uri for passage in dense] == ["d/a", "d/b"]
        hits = reader.search_lexical("giraffe", 10)
        assert len(hits.scores) == 1
        assert hits.text_ids[0] > 0
        filtered = reader.score_texts_of_vectors("zebra giraffe", hits.vector_ids)
        assert sorted(filtered.text_ids.tolist()) == [1, 2]


def test_an_index_of_an_older_version_gets_its_texts(shared: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(shared, old)
    make_older(old, "m010_texts")
    with open_reader(old) as reader:  # brings the tables up to date
        passage = reader.passage(2, 0)
        assert (passage.uri, passage.text) == ("d/b", TEXTS[0])
    with open_writer(old) as writer:
        writer.compact()
    for folder in (shared, old):
        assert by_words(folder, "giraffe") == {"d/b"}
    assert list(verify(old)) == []


@given(
    commits=st.lists(
        st.dictionaries(
            st.sampled_from(["d/a", "d/b", "d/c", "d/d"]),
            st.none() | st.tuples(st.sampled_from(TITLES), st.sampled_from(TEXTS)),
            min_size=1,
        ),
        min_size=1,
        max_size=4,
    ),
    left_out=st.sampled_from(["", "a", "b"]),
)
@settings(max_examples=25, deadline=None)
def test_whatever_is_put_and_removed(
    tmp_path_factory: pytest.TempPathFactory,
    commits: list[dict[str, tuple[str, str] | None]],
    left_out: str,
) -> None:
    """Each word finds the documents that have it, in title or text, and no others."""
    folder = tmp_path_factory.mktemp("texts") / "index"
    there: dict[str, tuple[str, str]] = {}
    with new_writer(folder) as writer:
        for changes in commits:
            put(writer, {uri: new for uri, new in changes.items() if new})
            with writer.commit() as commit:
                for uri in (uri for uri, new in changes.items() if not new):
                    commit.remove_document(uri)
            there = {uri: new for uri, new in (there | changes).items() if new}
    where = f"NOT path={left_out}" if left_out else ""
    passing = {uri: new for uri, new in there.items() if uri != f"d/{left_out}"}
    with open_reader(folder) as reader:
        searcher = Searcher(reader)
        for word in ("zebra", "giraffe", "walrus", "alpha", "beta", "common"):
            query = Query(text=word, mode="lexical", filter=where, k=50)
            uris = [passage.uri for passage in searcher.search(query).passages]
            having = [uri for uri, new in passing.items() if word in " ".join(new).split()]
            assert sorted(uris) == sorted(having)
    assert list(verify(folder)) == []
