"""What every store promises: the same tests run against each of them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.domain.languages import DEFAULT_LANGUAGE
from retrieval.domain.records import (
    ChunkSettings,
    ContainerStamp,
    FileChoice,
    ModelIdentity,
    ReadSettings,
    RootInfo,
    Skipped,
)
from retrieval.errors import (
    ForeignRoot,
    IndexLocked,
    InvalidArgument,
    ModelMismatch,
    NotAnIndex,
    NotFound,
    StorageError,
)
from retrieval.store import (
    Location,
    exists,
    open_reader,
    open_writer,
    read_info,
    read_status,
    read_version,
    remove_documents,
    verify,
)
from retrieval.store.disk.tables.schema import TEXT_PART_CHARS
from tests.store.stores import STORES, move_away, names_in, place_in, write_file
from tests.store.test_store import (
    CHUNKING,
    DIM,
    MODEL,
    fill,
    key,
    new_writer,
    places_of_texts,
    staged,
    unit_vectors,
)


def test_a_commit_is_read_back_whole(index: Location) -> None:
    fill(index, 3)
    with open_reader(index) as reader:
        info = reader.info
        assert (info.generation, info.documents, info.chunks, info.vectors, info.tokens) == (
            1,
            1,
            3,
            3,
            9,
        )
        assert (info.model, info.chunking) == (MODEL, CHUNKING)
        (document,) = reader.documents(10)
        assert (document.uri, document.title, document.metadata) == (
            "d/a.txt",
            "D/A.TXT",
            {"k": "v"},
        )
        assert document.modified_at == "2023-11-14T22:13:20Z"
        passage = reader.passage(document.id, 1)
        assert passage.text == "text 1 of d/a.txt"
        assert (
            reader.document_text(document.id)[passage.char_start : passage.char_end] == passage.text
        )
        assert passage.heading_path == ("H", "1")
        assert [p.ordinal for p in reader.neighbours(document.id, 1, before=5, after=1)] == [0, 2]
        assert reader.document_by_uri("d/a.txt") == document


@pytest.mark.parametrize("store", STORES)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=5),
    removed=st.sets(st.integers(0, 4)),
    k=st.integers(1, 60),
)
@settings(max_examples=15, deadline=None)
def test_search_equals_brute_force(
    tmp_path_factory: pytest.TempPathFactory,
    store: str,
    sizes: list[int],
    removed: set[int],
    k: int,
) -> None:
    """Over several segments, with documents removed: the same ids in the same order."""
    folder = place_in(store, tmp_path_factory.mktemp("index"))
    parts = [
        fill(folder, size, name=f"d/{number}", seed=number) for number, size in enumerate(sizes)
    ]
    gone = {number for number in removed if number < len(sizes)}
    with new_writer(folder) as writer, writer.commit() as commit:
        for number in gone:
            commit.remove_document(f"d/{number}")
    owners = np.repeat(np.arange(len(sizes)), sizes)
    vectors = np.concatenate(parts)
    ids = np.arange(1, len(vectors) + 1)
    live = ~np.isin(owners, list(gone))
    queries = unit_vectors(3, seed=99)
    with open_reader(folder) as reader:
        hits = reader.search_vectors(queries, k)
    for query, scores, found in zip(queries, hits.scores, hits.vector_ids, strict=True):
        exact = vectors[live] @ query
        order = np.argsort(-exact, kind="stable")[:k]
        count = len(order)
        assert list(found[:count]) == list(ids[live][order])
        np.testing.assert_allclose(scores[:count], exact[order], atol=1e-6)
        assert (found[count:] == -1).all()


def test_a_text_that_occurs_twice_has_one_vector_and_two_passages(index: Location) -> None:
    with new_writer(index) as writer, writer.commit() as commit:
        ids = commit.add_vectors([key("same")], unit_vectors(1), [False])
        commit.put_document(staged("d/a", ["same"], ids))
        commit.put_document(staged("d/b", ["same"], ids))
    with open_reader(index) as reader:
        assert places_of_texts(reader, ids[:1], [0]) == [[(1, 0), (2, 0)]]
    with new_writer(index) as writer:
        assert writer.find_vectors([key("same"), b"other"]) == {key("same"): ids[0]}
        with writer.commit() as commit:
            commit.remove_document("d/a")
    with open_reader(index) as reader:
        assert places_of_texts(reader, ids[:1], [0]) == [[(2, 0)]]


def test_a_replaced_document_keeps_its_id(index: Location) -> None:
    fill(index, 3)
    with open_reader(index) as reader:
        before = reader.document_by_uri("d/a.txt")
    with new_writer(index) as writer, writer.commit() as commit:
        ids = commit.add_vectors([key("changed")], unit_vectors(1, seed=5), [True])
        commit.put_document(staged("d/a.txt", ["changed"], ids))
    with open_reader(index) as reader:
        after = reader.document_by_uri("d/a.txt")
        assert after.id == before.id
        assert reader.document_text(after.id) == "changed"
        assert (reader.info.chunks, reader.info.vectors) == (1, 4)
        hits = reader.search_vectors(unit_vectors(1), 10)
        assert [i for i in hits.vector_ids[0] if i >= 0] == ids
    with new_writer(index) as writer:
        assert writer.truncated_chunks() == 1


def test_long_texts_are_read_by_the_part(index: Location) -> None:
    texts = ["é" * (TEXT_PART_CHARS - 3), "日本語", "🎉" * 10, "x" * (2 * TEXT_PART_CHARS)]
    with new_writer(index) as writer, writer.commit() as commit:
        ids = commit.add_vectors([key(text) for text in texts], unit_vectors(4), [False] * 4)
        commit.put_document(staged("d/long", texts, ids))
    with open_reader(index) as reader:
        assert [reader.passage(1, ordinal).text for ordinal in range(4)] == texts
        assert reader.document_text(1) == "\n".join(texts)


def test_nothing_committed_yet(index: Location) -> None:
    open_writer(index).close()
    with pytest.raises(NotAnIndex, match="nothing committed yet"):
        open_reader(index)
    fill(index, 1)
    assert read_info(index).documents == 1


def test_model_and_settings_are_part_of_the_index(index: Location) -> None:
    fill(index, 1)
    other = ModelIdentity("other", "folder", "/m", "", "e" * 64, DIM, 128, "float32")
    with open_writer(index) as writer:
        with pytest.raises(ModelMismatch, match="made with tiny"):
            writer.set_model(other, CHUNKING, DEFAULT_LANGUAGE)
        with pytest.raises(ModelMismatch, match="with chunk_tokens 100, not 50: build into"):
            writer.set_model(MODEL, ChunkSettings(50, 10), DEFAULT_LANGUAGE)
        writer.set_model(MODEL, CHUNKING, DEFAULT_LANGUAGE)


def test_one_writer_at_a_time(index: Location) -> None:
    fill(index, 1)
    code = (
        "import sys; from retrieval.store import open_writer\n"
        "writer = open_writer(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(index)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(IndexLocked, match=f"process {holder.pid}"):
            open_writer(index)
        open_reader(index).close()  # readers are not kept out
    finally:
        holder.kill()
        holder.wait()
    open_writer(index).close()  # the lock died with its holder


def test_arguments_are_checked(index: Location) -> None:
    fill(index, 2)
    with open_reader(index) as reader:
        with pytest.raises(InvalidArgument, match=r"\[n, 8\]"):
            reader.search_vectors(np.zeros((1, 9), np.float32), 3)
        for missing in (
            lambda: reader.passage(1, 9),
            lambda: reader.document(9),
            lambda: reader.document_by_uri("?"),
        ):
            with pytest.raises(NotFound):
                missing()
    with new_writer(index) as writer, pytest.raises(InvalidArgument), writer.commit() as commit:
        commit.add_vectors([b"x"], unit_vectors(2), [False])


def test_an_exception_commits_nothing(index: Location) -> None:
    fill(index, 2)
    version = read_version(index)
    with new_writer(index) as writer, pytest.raises(RuntimeError), writer.commit() as commit:
        ids = commit.add_vectors([b"x"], unit_vectors(1), [False])
        commit.put_document(staged("d/b", ["lost"], ids))
        raise RuntimeError
    assert read_version(index) == version
    with new_writer(index) as writer, writer.commit():
        pass
    assert read_version(index) == version  # nothing to commit, so no generation
    fill(index, 2, name="d/b")
    with open_reader(index) as reader:
        assert (reader.info.documents, reader.info.vectors, reader.info.generation) == (2, 4, 2)
    assert list(verify(index)) == []


def test_a_reader_keeps_its_generation(index: Location) -> None:
    fill(index, 4, name="d/0")
    with open_reader(index) as reader:
        query = unit_vectors(1, seed=3)
        before = reader.search_vectors(query, 4)
        for number in range(1, 4):
            fill(index, 4, name=f"d/{number}", seed=number)
        assert remove_documents(index, ["d/0", "d/x"]) == (["d/0"], ["d/x"])
        with new_writer(index) as writer:
            writer.compact()
        after = reader.search_vectors(query, 4)
        np.testing.assert_array_equal(before.vector_ids, after.vector_ids)
        assert reader.passage(1, 0).text == "text 0 of d/0"
        assert reader.search_lexical("text 0", 9).vector_ids.tolist() == [1, 2, 3, 4]
        assert reader.info.generation == 1
        assert read_version(index) != reader.version
    with open_reader(index, before=reader) as reader:
        assert (reader.info.documents, reader.info.unused_vectors) == (3, 0)
        assert len(reader.search_lexical("text", 99).scores) == 12
    assert list(verify(index)) == []


def test_a_vector_outlives_its_last_passage(index: Location) -> None:
    fill(index, 3)
    with new_writer(index) as writer, writer.commit() as commit:
        commit.remove_document("d/a.txt")
    info = read_info(index)
    assert (info.documents, info.vectors, info.unused_vectors) == (0, 3, 3)
    with new_writer(index) as writer:
        ids = writer.find_vectors([key("text 1 of d/a.txt")])
        assert list(ids.values()) == [2]
        with writer.commit() as commit:
            commit.put_document(staged("d/b", ["text 1 of d/a.txt"], [2]))
        assert writer.compact().removed == 2
        assert writer.find_vectors([key("text 0 of d/a.txt")]) == {}
    with open_reader(index) as reader:
        assert reader.search_vectors(unit_vectors(1), 3).vector_ids.tolist()[0][0] == 2
        assert reader.search_lexical("text", 3).vector_ids.tolist() == [2]
        assert reader.passage(2, 0).text == "text 1 of d/a.txt"


def test_a_change_of_the_language_indexes_all_words_again(index: Location) -> None:
    fill(index, 1, name="d/houses")
    fill(index, 1, name="d/mouse")
    with open_reader(index) as reader:
        assert len(reader.search_lexical("house", 9).scores) == 1
    with new_writer(index) as writer, writer.commit() as commit:
        commit.set_language("fr")
        commit.remove_document("d/mouse")
    with open_reader(index) as reader:
        assert reader.info.language == "fr"
        assert len(reader.search_lexical("houses", 9).scores) == 1
        assert len(reader.search_lexical("text", 9).scores) == 1
    assert list(verify(index)) == []


def test_an_index_without_passages_can_be_searched(index: Location) -> None:
    with new_writer(index) as writer, writer.commit() as commit:
        commit.set_root(RootInfo("d", "/d"), [Skipped("d/x", "d", "empty")], {})
    with open_reader(index) as reader:
        assert reader.search_vectors(unit_vectors(1), 3).vector_ids.shape == (1, 0)
        assert len(reader.search_lexical("text", 3).scores) == 0
        assert reader.has_lexical_index
        assert reader.documents(3) == []
        assert reader.average_score(unit_vectors(1)[0]) == 0
        assert reader.skip_counts() == {"empty": 1}
        assert reader.skipped() == [Skipped("d/x", "d", "empty")]
    assert read_status(index).roots == {"d": RootInfo("d", "/d")}
    assert list(verify(index)) == []


def test_a_root_is_built_or_pushed(index: Location) -> None:
    choice = FileChoice(("*.md",), (), reading=ReadSettings("latin-1", ((".x", "text"),), ("de",)))
    built = RootInfo("built", "/b", choice)
    stamp = ContainerStamp(1, 2, "rules")
    with new_writer(index) as writer:
        with writer.commit() as commit:
            commit.set_root(built, [], {"built/a.zip": stamp})
            commit.claim_root(RootInfo("pushed"))
            with pytest.raises(ForeignRoot):
                commit.claim_root(RootInfo("built"))
            with pytest.raises(ForeignRoot):
                commit.set_root(RootInfo("pushed", "/p"), [], {})
        assert writer.roots() == {"built": built, "pushed": RootInfo("pushed")}
        assert writer.containers("built") == {"built/a.zip": stamp}
        assert writer.root("none") is None
    assert read_status(index).roots["built"] == built


def test_two_shared_writers_take_turns(index: Location) -> None:
    fill(index, 1)
    with open_writer(index, shared=True) as one, open_writer(index, shared=True) as two:
        for number, writer in enumerate([one, two, one, two]):
            with writer.commit() as commit:
                text = f"more {number}"
                assert commit.find_vectors([key(text)]) == {}
                ids = commit.add_vectors([key(text)], unit_vectors(1, seed=number), [False])
                commit.put_document(staged(f"d/{number}", [text], ids))
                assert commit.generation == number + 2
        assert one.newest_generation() == two.newest_generation() == 5
        assert not one.is_replaced
    assert read_info(index).documents == 5
    assert list(verify(index)) == []


def test_an_index_that_was_replaced_is_not_written(index: Location, tmp_path: Path) -> None:
    fill(index, 1)
    with new_writer(index) as writer:
        move_away(index, tmp_path / "old")
        assert writer.is_replaced
        fill(index, 2)
        assert writer.is_replaced
        with pytest.raises(StorageError, match="has taken the place"), writer.commit():
            pass
    assert read_info(index).chunks == 2


def test_a_place_that_is_taken_is_refused(index: Location, tmp_path: Path) -> None:
    assert not exists(index)
    with pytest.raises(NotAnIndex, match="make one with: indexer build"):
        open_reader(index)
    with pytest.raises(NotAnIndex):
        open_writer(index, create=False)
    assert names_in(index) == []
    write_file(index, "a.txt", b"hello")
    with pytest.raises(NotAnIndex, match=r"not an index and not empty \(it holds 'a.txt'\)"):
        open_writer(index)
    assert names_in(index) == ["a.txt"]
    if index.on_disk is None:
        return
    (tmp_path / "file").write_text("hello")
    with pytest.raises(NotAnIndex, match="an index is a folder"):
        open_writer(Location(index.scheme, str(tmp_path / "file")))


def test_removing_most_documents_drops_their_vectors(index: Location) -> None:
    fill(index, 5)
    fill(index, 1, name="d/b", seed=1)
    remove_documents(index, ["d/a.txt"])
    info = read_info(index)
    assert (info.documents, info.vectors, info.unused_vectors) == (1, 1, 0)
    with open_reader(index) as reader:
        assert reader.search_vectors(unit_vectors(1), 9).vector_ids.tolist() == [[6]]


def test_equal_scores_are_in_order_of_their_ids(index: Location) -> None:
    texts = [f"text {number}" for number in range(40)]
    with new_writer(index) as writer, writer.commit() as commit:
        same = np.repeat(unit_vectors(1), 40, axis=0)
        ids = commit.add_vectors([key(text) for text in texts], same, [False] * 40)
        commit.put_document(staged("d/a", texts, ids))
    with open_reader(index) as reader:
        for k in (1, 3, 17, 40, 50):
            found = reader.search_vectors(unit_vectors(2), k).vector_ids
            assert found.tolist() == [ids[:k]] * 2
