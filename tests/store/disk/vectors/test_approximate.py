"""Approximate indexes, filters and upkeep on a few thousand vectors, against exact search."""

import hashlib
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from retrieval.domain.records import (
    Chunk,
    ChunkSettings,
    Document,
    ModelIdentity,
    Section,
    SourceFile,
)
from retrieval.errors import IndexDamaged, NoLexicalIndex
from retrieval.store import (
    IndexType,
    Maintained,
    StagedChunk,
    StagedDocument,
    Writer,
    open_reader,
    open_writer,
    parse_filter,
    read_info,
    read_status,
    remove_documents,
    verify,
)
from retrieval.store.disk.files import vector_file
from retrieval.store.disk.vectors import tuning, vector_index
from retrieval.store.disk.writing import maintenance
from tests.store.disk.old_index import make_older
from tests.store.test_store import places_of_texts

DIM = 32
PER_DOCUMENT = 20
MODEL = ModelIdentity("tiny", "folder", "/models/tiny", "", "f" * 64, DIM, 128, "float32")


def clustered(count: int, seed: int) -> NDArray[np.float32]:
    """Unit vectors as text has them: clustered, and of fewer degrees of freedom than numbers."""
    shape = np.random.default_rng(0)
    basis, centres = shape.normal(size=(12, DIM)), shape.normal(size=(40, 12))
    generator = np.random.default_rng(seed)
    inner = centres[generator.integers(40, size=count)] + 0.5 * generator.normal(size=(count, 12))
    vectors = inner @ basis + 0.2 * generator.normal(size=(count, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def add(writer: Writer, vectors: NDArray[np.float32], prefix: str) -> None:
    """One commit: documents of 20 chunks, ``number`` counting them."""
    with writer.commit() as commit:
        texts = [f"{prefix} {number}" for number in range(len(vectors))]
        keys = [hashlib.sha256(text.encode()).digest() for text in texts]
        ids = commit.add_vectors(keys, vectors, [False] * len(vectors))
        for number, start in enumerate(range(0, len(vectors), PER_DOCUMENT)):
            parts = texts[start : start + PER_DOCUMENT]
            uri, text = f"docs/{prefix}/{number}.txt", "\n".join(parts)
            staged, at = [], 0
            for ordinal, part in enumerate(parts):
                chunk = Chunk(ordinal, at, at + len(part), part, ordinal + 1, ordinal + 1, (), 2)
                staged.append(StagedChunk(chunk, ids[start + ordinal]))
                at += len(part) + 1
            document = Document(
                uri, uri, "text", text, (Section(0, ()),), metadata={"number": str(number)}
            )
            source = SourceFile(Path("/x"), uri, "docs", len(text), number)
            commit.put_document(StagedDocument(document, source, "0" * 64, staged))


def make(folder: Path, index_type: IndexType, count: int = 6000, target: float = 0.95) -> None:
    with open_writer(folder) as writer:
        writer.set_model(MODEL, ChunkSettings(100, 0))
        with writer.commit() as commit:
            commit.set_index_type(index_type, target)
        add(writer, clustered(count, 1), "a")
        writer.maintain()


@pytest.fixture(scope="module", params=["ivf", "hnsw"])
def approximate(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index") / request.param
    make(folder, request.param)
    return folder


@pytest.fixture(scope="module")
def four_thousand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index") / "ivf"
    make(folder, "ivf", 4000)
    return folder


@pytest.fixture
def folder(four_thousand: Path, tmp_path: Path) -> Path:
    """A copy of an index of 4,000 vectors with an approximate index, to be changed."""
    return Path(shutil.copytree(four_thousand, tmp_path / "index", symlinks=True))


def recall(found: NDArray[np.int64], exact: NDArray[np.int64]) -> float:
    pairs = zip(found, exact, strict=True)
    return float(np.mean([len(set(a) & set(b) - {-1}) / len(set(b) - {-1}) for a, b in pairs]))


def test_recall_is_measured_and_reached(approximate: Path) -> None:
    (segment,) = read_status(approximate).segments
    assert segment.ann is not None
    assert segment.ann.kind == approximate.name
    assert segment.ann.recall >= 0.95
    assert segment.ann.queries == 200
    # At so few dimensions the graph's links are larger than the vectors.
    assert segment.ann.kind == "hnsw" or segment.ann_size < segment.size / 4
    queries = clustered(50, 2)
    with open_reader(approximate) as reader:
        assert not reader.is_exact
        exact = reader.search_vectors(queries, 10, exact=True)
        found = reader.search_vectors(queries, 10)
        assert recall(found.vector_ids, exact.vector_ids) >= 0.9
        # What is found has its true score and is in true order.
        vectors = clustered(6000, 1)
        scores = np.take_along_axis(queries @ vectors.T, found.vector_ids - 1, axis=1)
        np.testing.assert_allclose(found.scores, scores, atol=1e-5)
        assert (np.diff(found.scores, axis=1) <= 0).all()
        # More than there are candidates: as many as there are vectors, each once.
        everything = reader.search_vectors(queries[:1], 6000).vector_ids[0]
        known = everything[everything >= 0]
        assert len(set(known)) == len(known)
    assert list(verify(approximate)) == []


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01, 0.0034])
def test_filters_keep_recall(
    approximate: Path, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the selector of the approximate index, however few rows it leaves."""
    monkeypatch.setattr(vector_index, "EXACT_ROWS", 0)
    where = parse_filter(f"number<{int(300 * share)}")
    queries = clustered(50, 3)
    with open_reader(approximate) as reader:
        exact = reader.search_vectors(queries, 10, filter=where, exact=True)
        found = reader.search_vectors(queries, 10, filter=where)
        assert recall(found.vector_ids, exact.vector_ids) >= 0.97
        allowed = range(1, int(300 * share) * PER_DOCUMENT + 1)
        assert set(found.vector_ids.ravel()) - {-1} <= set(allowed)


def test_few_rows_are_searched_exactly(approximate: Path) -> None:
    where, queries = parse_filter("number=7"), clustered(20, 4)
    with open_reader(approximate) as reader:
        exact = reader.search_vectors(queries, 20, filter=where, exact=True)
        found = reader.search_vectors(queries, 20, filter=where)
        assert (found.vector_ids == exact.vector_ids).all()
        assert not reader.search_vectors(queries, 5, filter=parse_filter("number=999")).scores.size


def test_a_filter_holds_for_places_too(tmp_path: Path) -> None:
    """A text that stands in two documents, of which one passes."""
    make(tmp_path / "index", "flat", 40)
    with open_writer(tmp_path / "index") as writer, writer.commit() as commit:
        vector_id = 1
        document = Document("docs/twin.txt", "twin", "text", "a 0", (Section(0, ()),))
        source = SourceFile(Path("/x"), "docs/twin.txt", "docs", 3, 1)
        chunk = StagedChunk(Chunk(0, 0, 3, "a 0", 1, 1, (), 2), vector_id)
        commit.put_document(StagedDocument(document, source, "0" * 64, [chunk]))
    with open_reader(tmp_path / "index") as reader:
        assert len(places_of_texts(reader, [1], [0])[0]) == 2
        assert places_of_texts(reader, [1], [0], parse_filter("path:twin.txt")) == [[(3, 0)]]


def test_small_changes_rebuild_nothing_and_large_ones_do(folder: Path) -> None:
    first = read_status(folder).segments[0].file
    with open_writer(folder) as writer:
        add(writer, clustered(200, 5), "b")
        assert writer.maintain().ann is None
        assert [row.ann_kind for row in writer.segments()] == ["ivf", ""]
        assert writer.segments()[0].file == first
        add(writer, clustered(400, 6), "c")
        done = writer.maintain()
        assert done.ann is not None
        assert done.merged == 3
    (segment,) = read_status(folder).segments
    assert (segment.rows, segment.unused, segment.ann_kind) == (4600, 0, "ivf")
    assert list(verify(folder)) == []
    files = {path.name for path in folder.iterdir() if path.suffix == ".faiss"}
    assert len(files) == 2  # what was replaced is gone


def test_what_is_new_gets_an_index_of_its_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many small commits come: few rows are read one by one, and few segments are there."""
    monkeypatch.setattr(maintenance, "MAX_PLAIN_ROWS", 700)
    monkeypatch.setattr(maintenance, "MAX_SMALL_SEGMENTS", 2)
    monkeypatch.setattr(maintenance, "MAX_SIDE_SHARE", 0.9)
    main = read_status(folder).segments[0].file
    expected = [clustered(4000, 1)]
    with open_writer(folder) as writer:
        for number in range(9):
            expected.append(clustered(400, 20 + number))
            add(writer, expected[-1], f"more{number}")
            writer.maintain()
            rows = writer.segments()
            assert rows[0].file == main
            assert sum(row.rows for row in rows if not row.ann) <= 700
            assert len([row for row in rows if row.ann]) <= 4
    assert len([row for row in rows if row.ann]) > 1
    queries, vectors = clustered(50, 99), np.concatenate(expected)
    with open_reader(folder) as reader:
        found = reader.search_vectors(queries, 10)
    exact = np.argsort(-(queries @ vectors.T), axis=1)[:, :10] + 1
    assert recall(found.vector_ids, exact) > 0.9
    assert list(verify(folder)) == []


def test_removed_documents_are_not_found_and_then_dropped(folder: Path) -> None:
    removed, missing = remove_documents(
        folder, ["docs/a/3.txt", "docs/a/1999.txt", "nope", "docs/a/3"]
    )
    assert (removed, missing) == (["docs/a/3.txt"], ["docs/a/1999.txt", "nope", "docs/a/3"])
    gone = set(range(3 * PER_DOCUMENT + 1, 4 * PER_DOCUMENT + 1))
    queries = clustered(4000, 1)[3 * PER_DOCUMENT : 4 * PER_DOCUMENT]
    with open_reader(folder) as reader:
        assert reader.info.unused_vectors == PER_DOCUMENT
        assert not gone & set(reader.search_vectors(queries, 10).vector_ids.ravel())
    assert list(verify(folder)) == []
    with open_writer(folder) as writer:
        done = writer.compact()
    assert (done.merged, done.removed) == (1, PER_DOCUMENT)
    assert read_info(folder).vectors == 4000 - PER_DOCUMENT
    with open_reader(folder) as reader:
        assert not gone & set(reader.search_vectors(queries, 10).vector_ids.ravel())
        exact = reader.search_vectors(queries, 10, exact=True)
        assert (exact.scores[:, 0] < 0.9999).all()
    assert list(verify(folder)) == []
    # Whole folders, and so much that it is compacted by itself.
    assert len(remove_documents(folder, ["docs/a/"])[0]) == 199
    assert read_info(folder).vectors == 0
    with open_reader(folder) as reader:
        assert reader.search_vectors(queries, 10).scores.shape == (20, 0)


def test_a_damaged_approximate_index_is_named_and_can_be_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    make(folder, "ivf", 2000)
    (path,) = folder.glob("ann-*.faiss")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(IndexDamaged, match="indexer compact") as caught:
        open_reader(folder)
    assert caught.value.metadata["file"] == path.name
    (problem,) = verify(folder)
    assert problem.file == path.name
    with open_writer(folder) as writer:
        assert writer.compact().ann is not None
    assert list(verify(folder)) == []
    open_reader(folder).close()


def test_the_type_can_be_changed(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    make(folder, "flat", 1500)
    for wanted, kind in (("ivf", "ivf"), ("hnsw", "hnsw"), ("auto", ""), ("ivf", "ivf")):
        with open_writer(folder) as writer:
            with writer.commit() as commit:
                commit.set_index_type(wanted, 0.9)
            writer.maintain()
        assert [segment.ann_kind for segment in read_status(folder).segments] == [kind]
    assert len(list(folder.glob("ann-*"))) == 1


@pytest.mark.parametrize("index_type", ["ivf", "hnsw"])
def test_another_recall_is_tuned_for_without_building_anew(
    tmp_path: Path, index_type: IndexType
) -> None:
    make(tmp_path / "index", index_type, target=0.6)
    (before,) = read_status(tmp_path / "index").segments
    assert before.ann is not None
    with open_writer(tmp_path / "index") as writer:
        assert writer.maintain().tuned is None
        with writer.commit() as commit:
            commit.set_index_type(index_type, 0.998)
        done = writer.maintain()
    (after,) = read_status(tmp_path / "index").segments
    assert after.ann_file == before.ann_file
    assert after.ann == done.tuned
    assert after.ann.target == 0.998
    assert after.ann.recall >= 0.998 > before.ann.recall
    queries = clustered(50, seed=9)
    with open_reader(tmp_path / "index") as reader:
        exact = reader.search_vectors(queries, 10, exact=True).vector_ids
        assert recall(reader.search_vectors(queries, 10).vector_ids, exact) > 0.95


def test_auto_is_exact_until_it_is_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "small", "auto", 1200)
    assert read_status(tmp_path / "small").segments[0].ann is None
    monkeypatch.setattr(maintenance, "EXACT_ROWS", 1000)
    make(tmp_path / "large", "auto", 1200)
    assert read_status(tmp_path / "large").segments[0].ann_kind == "ivf"


def isotropic(count: int, seed: int) -> NDArray[np.float32]:
    """Unit vectors of no structure at all, which no lists and no short codes suit."""
    vectors = np.random.default_rng(seed).normal(size=(count, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def settle(folder: Path, index_type: IndexType, target: float) -> Maintained:
    """Wish for a type and a recall, and let the index be looked after."""
    with open_writer(folder) as writer:
        with writer.commit() as commit:
            commit.set_index_type(index_type, target)
        return writer.maintain()


@pytest.fixture
def unreachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index of 3000 vectors whose approximate index misses its recall: too few candidates."""
    monkeypatch.setattr(maintenance, "EXACT_ROWS", 1000)
    monkeypatch.setattr(tuning, "CANDIDATES", (20,))
    folder = tmp_path / "index"
    with open_writer(folder) as writer:
        writer.set_model(MODEL, ChunkSettings(100, 0))
        add(writer, isotropic(3000, 1), "a")
    return folder


def test_auto_stays_exact_where_the_recall_is_missed(unreachable: Path) -> None:
    done = settle(unreachable, "auto", 0.98)
    assert (done.ann, done.tuned) == (None, None)
    assert done.missed is not None
    assert done.missed.recall < 0.98 == done.missed.target
    (segment,) = read_status(unreachable).segments
    assert (segment.ann, segment.missed) == (None, done.missed)
    assert not list(unreachable.glob("ann-*"))
    with open_reader(unreachable) as reader:
        assert reader.is_exact
    assert list(verify(unreachable)) == []
    # It isn't tried again until there is much that is new.
    with open_writer(unreachable) as writer:
        generation = read_info(unreachable).generation
        assert writer.maintain() == Maintained()
        assert read_info(unreachable).generation == generation
        add(writer, isotropic(200, 2), "b")
        assert writer.maintain() == Maintained()
        add(writer, isotropic(400, 3), "c")
        assert writer.maintain().missed is not None
        (segment,) = writer.segments()
        assert (segment.rows, segment.ann) == (3600, None)
        assert segment.missed is not None


def test_what_was_missed_is_tried_again_with_other_wishes(unreachable: Path) -> None:
    missed = settle(unreachable, "auto", 0.98).missed
    assert missed is not None
    # More was missed, too; what was measured says so.
    assert settle(unreachable, "auto", 0.99) == Maintained()
    # Less is reached.
    done = settle(unreachable, "auto", missed.recall - 0.02)
    assert done.ann is not None
    assert done.ann.reached
    (segment,) = read_status(unreachable).segments
    assert (segment.ann, segment.missed) == (done.ann, None)
    # It is taken away where more is wanted than it can give.
    assert settle(unreachable, "auto", 0.98).missed is not None
    (segment,) = read_status(unreachable).segments
    assert segment.ann is None
    assert not list(unreachable.glob("ann-*"))
    # Whoever names a type gets it.
    done = settle(unreachable, "ivf", 0.98)
    assert done.ann is not None
    assert not done.ann.reached
    (segment,) = read_status(unreachable).segments
    assert (segment.ann, segment.missed) == (done.ann, None)
    # As an older version left it under `auto`: the next build makes it right.
    assert settle(unreachable, "auto", 0.98).missed == done.ann
    assert read_status(unreachable).segments[0].ann is None
    assert settle(unreachable, "flat", 0.98) == Maintained()
    assert read_status(unreachable).segments[0].missed is None


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("UPDATE documents SET chunk_count = 3 WHERE id = 2", "number of chunks"),
        ("UPDATE documents SET char_count = 3 WHERE id = 2", "not as long as recorded"),
        ("UPDATE chunks SET ordinal = 99 WHERE document_id = 2 AND ordinal = 3", "one by one"),
        ("UPDATE chunks SET char_start = 1 WHERE document_id = 2 AND ordinal = 0", "chunk 0 of"),
        ("INSERT INTO unused_vectors VALUES (5)", "wrongly recorded as unused"),
        ("DELETE FROM vectors WHERE id = 5", "a row of chunks names one of vectors"),
        ("UPDATE vectors SET row = row + 1000 WHERE id = 5", "rows that no vector stands for"),
        ("UPDATE segments SET vector_ids = x'00'", "rows and the index's records disagree"),
        ("UPDATE document_texts SET text = replace(text, 'a 1', 'b 1')", "is not the text"),
        ("UPDATE chunks SET text_id = 7 WHERE id = 5", "text is another vector's"),
        ("UPDATE chunks SET text_id = 99 WHERE id = 5", "text is another vector's"),
        ("INSERT INTO unused_texts VALUES (5)", "texts that are wrongly recorded as unused"),
        ("INSERT INTO shared_vectors VALUES (5)", "wrongly recorded as those of one text"),
        ("UPDATE texts SET header = x'00' WHERE id = 5", "not found by its title"),
    ],
)
def test_verify_finds_what_is_wrong_in_the_database(
    tmp_path: Path, statement: str, what: str
) -> None:
    make(tmp_path / "index", "flat", 60)
    connection = sqlite3.connect(tmp_path / "index" / "index.db")
    connection.execute(statement)
    connection.commit()
    connection.close()
    assert any(what in problem.what for problem in verify(tmp_path / "index"))


def test_verify_reads_every_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also between the blocks that opening looks at, where a file is too large to be read whole."""
    monkeypatch.setattr(vector_file, "_WHOLE_BYTES", 0)
    folder = tmp_path / "index"
    make(folder, "flat", 6000)
    (path,) = folder.glob("vectors-*")
    data = bytearray(path.read_bytes())
    assert len(data) > 700_000
    data[6000] ^= 1  # after the first block, before the second
    path.write_bytes(data)
    open_reader(folder).close()
    (problem,) = verify(folder)
    assert (problem.file, problem.what) == (
        path.name,
        "its bytes have changed since it was written",
    )


def test_an_index_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    folder, old = tmp_path / "index", tmp_path / "old"
    make(folder, "flat", 100)
    remove_documents(folder, ["docs/a/1.txt"])
    shutil.copytree(folder, old)
    make_older(old, "m002_approximate_indexes")
    queries = clustered(5, 9)
    with open_reader(folder) as new, open_reader(old) as upgraded:
        made = {"index_id": upgraded.info.index_id, "commit_id": upgraded.info.commit_id}
        assert upgraded.info == replace(new.info, index_type="auto", target_recall=0.98, **made)
        expected, found = new.search_vectors(queries, 10), upgraded.search_vectors(queries, 10)
        assert (expected.vector_ids == found.vector_ids).all()
        assert not upgraded.has_lexical_index
        with pytest.raises(NoLexicalIndex, match="indexer build"):
            upgraded.search_lexical("docs", 10)
    assert list(verify(old)) == []
    with open_writer(old) as writer:
        writer.maintain()
    with open_reader(folder) as new, open_reader(old) as mended:
        assert mended.has_lexical_index
        words, same = new.search_lexical("docs", 10), mended.search_lexical("docs", 10)
        assert (words.vector_ids == same.vector_ids).all()
        assert len(words.vector_ids) == 10
    assert list(verify(old)) == []
