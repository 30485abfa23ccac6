"""The store: commits, exact search against brute force, snapshots, damage."""

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from retrieval.domain.languages import DEFAULT_LANGUAGE
from retrieval.domain.passages import Hit
from retrieval.domain.records import (
    Chunk,
    ChunkSettings,
    Document,
    ModelIdentity,
    Section,
    SourceFile,
)
from retrieval.errors import (
    IndexDamaged,
    IndexVersionError,
    NotAnIndex,
    StorageError,
)
from retrieval.store import (
    Filter,
    LocationLike,
    PassageKey,
    Reader,
    StagedChunk,
    StagedDocument,
    TextKey,
    Writer,
    open_reader,
    open_writer,
    parse_filter,
    read_info,
    verify,
)
from retrieval.store.disk.files import vector_file

DIM = 8
MODEL = ModelIdentity("tiny", "folder", "/models/tiny", "", "f" * 64, DIM, 128, "float32")
CHUNKING = ChunkSettings(100, 10)


def unit_vectors(count: int, seed: int = 0) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def key(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def places_of_texts(
    reader: Reader,
    vector_ids: Sequence[int],
    text_ids: Sequence[int],
    where: Filter | None = None,
    most: int | None = None,
) -> list[list[PassageKey]]:
    """Where each of some texts stands."""
    groups = [[TextKey(*pair)] for pair in zip(vector_ids, text_ids, strict=True)]
    found = reader.first_places(groups, most or reader.info.chunks, where)
    return [places for (places,) in found]


def new_writer(index: LocationLike) -> Writer:
    writer = open_writer(index)
    writer.set_model(MODEL, CHUNKING, DEFAULT_LANGUAGE)
    return writer


def staged(uri: str, texts: list[str], vector_ids: list[int]) -> StagedDocument:
    """A document whose chunks are ``texts``, one a line."""
    text = "\n".join(texts)
    document = Document(uri, uri.upper(), "text", text, (Section(0, ()),), metadata={"k": "v"})
    source = SourceFile(
        Path("/x") / uri, uri, uri.partition("/")[0], len(text), 1_700_000_000_000_000_000
    )
    chunks, start = [], 0
    for ordinal, (part, vector_id) in enumerate(zip(texts, vector_ids, strict=True)):
        line = ordinal + 1
        chunk = Chunk(ordinal, start, start + len(part), part, line, line, ("H", str(ordinal)), 3)
        chunks.append(StagedChunk(chunk, vector_id))
        start += len(part) + 1
    return StagedDocument(document, source, "0" * 64, chunks)


def fill(
    index: LocationLike, count: int = 5, *, name: str = "d/a.txt", seed: int = 0
) -> NDArray[np.float32]:
    """Commit one document of ``count`` chunks, each with a vector of its own."""
    vectors = unit_vectors(count, seed)
    with new_writer(index) as writer, writer.commit() as commit:
        texts = [f"text {n} of {name}" for n in range(count)]
        ids = commit.add_vectors([key(text) for text in texts], vectors, [False] * count)
        commit.put_document(staged(name, texts, ids))
    return vectors


def test_a_text_that_changed_on_the_disk_is_never_shown(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    connection = sqlite3.connect(tmp_path / "index.db")
    connection.execute("UPDATE document_texts SET text = replace(text, 'text 1', 'test 1')")
    connection.commit()
    connection.close()
    with open_reader(tmp_path) as reader:
        assert reader.passage(1, 0).text == "text 0 of d/a.txt"
        with pytest.raises(IndexDamaged, match="is not the text that was embedded"):
            reader.passage(1, 1)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE documents SET title = 'b' || title",
        "UPDATE documents SET uri = uri || 'x'",
        "UPDATE documents SET metadata = '{}' || ' '",
        "UPDATE chunks SET line_start = line_start + 1",
        "UPDATE chunks SET token_count = token_count + 1",
        "UPDATE chunks SET heading_path = '[\"x\"]'",
        "UPDATE chunks SET vector_id = 3 - vector_id",
        "UPDATE chunks SET vector_id = 1",
        "UPDATE chunks SET ordinal = ordinal + 1",
        "UPDATE segments SET vector_ids = x'02000000000000000100000000000000'",
        "INSERT INTO unused_vectors VALUES (1)",
    ],
)
def test_no_row_that_changed_on_the_disk_is_shown(tmp_path: Path, change: str) -> None:
    folder = tmp_path / "index"
    with new_writer(folder) as writer, writer.commit() as commit:
        ids = commit.add_vectors([key("alpha"), key("beta")], unit_vectors(2), [False, False])
        commit.put_document(staged("docs/a.txt", ["alpha"], ids[:1]))
        commit.put_document(staged("docs/b.txt", ["beta"], ids[1:]))
    assert list(verify(folder)) == []
    connection = sqlite3.connect(folder / "index.db")
    connection.execute("DROP TRIGGER chunk_removed")
    connection.execute(change)
    connection.commit()
    connection.close()

    def everything() -> None:
        with open_reader(folder) as reader:
            ids = reader.search_vectors(unit_vectors(1), 2).vector_ids[0].tolist()
            for vector_id, places in zip(ids, places_of_texts(reader, ids, [0] * 2), strict=True):
                reader.passages([Hit(0.0, *place, vector_id) for place in places])
            reader.documents(10)

    with pytest.raises(IndexDamaged):
        everything()
    assert list(verify(folder)) != []


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM metadata_values",
        "UPDATE metadata_values SET text = 'w'",
        "UPDATE metadata_values SET kind = 2, number = 5",
        "UPDATE metadata_values SET key = 'x'",
        "INSERT INTO metadata_values VALUES (1, 'k', 1, 1, 'w', NULL)",
    ],
)
def test_filters_see_the_metadata_that_documents_have(tmp_path: Path, change: str) -> None:
    fill(tmp_path, 2)
    assert list(verify(tmp_path)) == []
    connection = sqlite3.connect(tmp_path / "index.db")
    connection.execute(change)
    connection.commit()
    connection.close()
    (problem,) = verify(tmp_path)
    assert problem.what == "the values that filters see of d/a.txt are not those of its metadata"


@pytest.mark.parametrize("column", ["path", "extension"])
def test_verify_sees_what_filters_would_see_wrongly(tmp_path: Path, column: str) -> None:
    fill(tmp_path, 2)
    with closing(sqlite3.connect(tmp_path / "index.db")) as connection:
        connection.execute(f"UPDATE documents SET {column} = 'other'")
        connection.commit()
    (problem,) = verify(tmp_path)
    assert problem.what == "the path and extension that filters see of d/a.txt are not its own"


def test_metadata_of_an_older_version_can_be_filtered(tmp_path: Path) -> None:
    """It knew texts alone, and joined lists by commas."""
    fill(tmp_path, 2)
    connection = sqlite3.connect(tmp_path / "index.db")
    connection.execute("DROP TABLE metadata_values")
    connection.execute("DELETE FROM _sqlite_migrations WHERE name = 'm011_metadata_values'")
    old = {"year": "2024", "tag": "a, b", "author": "Smith, John", "date": "2024-05-01"}
    connection.execute("UPDATE documents SET metadata = ?, digest = x''", [json.dumps(old)])
    connection.commit()
    connection.close()
    with open_reader(tmp_path) as reader:
        for condition, passes in {
            "year>2023": True,
            "tag=b": True,
            "tag='a, b'": True,
            "author='Smith, John'": True,
            "date>=2024-05-01": True,
            "date<2030": False,
        }.items():
            hits = reader.search_vectors(unit_vectors(1), 2, filter=parse_filter(condition))
            assert (hits.vector_ids[0] >= 0).any() == passes, condition
        assert reader.document(1).metadata == old
    assert list(verify(tmp_path)) == []


def test_a_document_that_goes_takes_its_values_along(tmp_path: Path) -> None:
    fill(tmp_path, 2)
    with new_writer(tmp_path) as writer, writer.commit() as commit:
        commit.remove_document("d/a.txt")
    connection = sqlite3.connect(tmp_path / "index.db")
    assert connection.execute("SELECT count(*) FROM metadata_values").fetchone() == (0,)
    connection.close()


def test_an_exception_commits_nothing(tmp_path: Path) -> None:
    fill(tmp_path, 2)
    with new_writer(tmp_path) as writer, pytest.raises(RuntimeError), writer.commit() as commit:
        ids = commit.add_vectors([b"x"], unit_vectors(1), [False])
        commit.put_document(staged("d/b", ["lost"], ids))
        raise RuntimeError
    assert read_info(tmp_path).documents == 1
    assert read_info(tmp_path).generation == 1
    assert len(list(tmp_path.glob("vectors-*"))) == 1
    (tmp_path / "vectors-0000000000000000.faiss").write_bytes(b"as a killed writer leaves it")
    new_writer(tmp_path).close()
    assert len(list(tmp_path.glob("vectors-*"))) == 1


def test_a_reader_keeps_its_generation_while_a_writer_goes_on(tmp_path: Path) -> None:
    fill(tmp_path, 4, name="d/0")
    with open_reader(tmp_path) as reader:
        query = unit_vectors(1, seed=3)
        before = reader.search_vectors(query, 4)
        for number in range(1, 12):
            fill(tmp_path, 4, name=f"d/{number}", seed=number)
        with new_writer(tmp_path) as writer:
            with writer.commit() as commit:
                commit.remove_document("d/0")
            assert writer.maintain().merged == 12
        assert len(list(tmp_path.glob("vectors-*"))) == 1
        after = reader.search_vectors(query, 4)
        np.testing.assert_array_equal(before.vector_ids, after.vector_ids)
        assert reader.passage(1, 0).text == "text 0 of d/0"
        assert reader.info.generation == 1
    with open_reader(tmp_path) as reader:
        assert reader.info.documents == 11
        assert reader.info.segments == 1


def test_merging_changes_no_answer(tmp_path: Path) -> None:
    for number in range(10):
        fill(tmp_path, 3, name=f"d/{number}", seed=number)
    queries = unit_vectors(5, seed=77)
    with open_reader(tmp_path) as reader:
        before = reader.search_vectors(queries, 30)
        vector = reader.passage_vector(4, 2)
    with new_writer(tmp_path) as writer:
        assert writer.maintain().merged == 10
        assert writer.maintain().merged == 0
    with open_reader(tmp_path) as reader:
        after = reader.search_vectors(queries, 30)
        np.testing.assert_array_equal(before.vector_ids, after.vector_ids)
        np.testing.assert_allclose(before.scores, after.scores, atol=1e-6)
        np.testing.assert_array_equal(reader.passage_vector(4, 2), vector)


def test_any_faiss_opens_the_vector_file(tmp_path: Path) -> None:
    vectors = fill(tmp_path, 4)
    (path,) = tmp_path.glob("vectors-*.faiss")
    index = faiss.read_index(str(path))
    np.testing.assert_array_equal(index.reconstruct_n(0, 4), vectors)


@pytest.mark.parametrize(
    "damage", ["cut", "grown", "magic", "rows", "dim", "metric", "empty", "missing"]
)
def test_a_damaged_vector_file_is_named(tmp_path: Path, damage: str) -> None:
    fill(tmp_path, 4)
    (path,) = tmp_path.glob("vectors-*.faiss")
    data = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    else:
        match damage:
            case "cut":
                del data[-5:]
            case "grown":
                data += b"\0"
            case "magic":
                data[:4] = b"IHNf"
            case "dim":
                data[4] ^= 1
            case "rows":
                data[8] ^= 1
            case "metric":
                data[33] ^= 1
            case "empty":
                data.clear()
        path.write_bytes(data)
    with pytest.raises(IndexDamaged, match=path.name):
        open_reader(tmp_path)


@pytest.mark.parametrize("keep", [100, 4096, 20_000])
def test_a_cut_database_is_damage_not_a_crash(tmp_path: Path, keep: int) -> None:
    fill(tmp_path, 200)
    path = tmp_path / "index.db"
    sqlite3.connect(path).execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises((IndexDamaged, NotAnIndex)), open_reader(tmp_path) as reader:
        for ordinal in range(200):
            reader.passage(1, ordinal)


def test_what_is_not_an_index(tmp_path: Path) -> None:
    with pytest.raises(NotAnIndex, match="make one with: indexer build"):
        open_reader(tmp_path / "absent")
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("hello")
    with pytest.raises(NotAnIndex, match=r"not an index and not empty \(it holds 'a.txt'\)"):
        open_writer(tmp_path / "letters")
    assert [path.name for path in (tmp_path / "letters").iterdir()] == ["a.txt"]
    (tmp_path / "file").write_text("hello")
    with pytest.raises(NotAnIndex, match="an index is a folder"):
        open_writer(tmp_path / "file")
    for name, content in (
        ("text", b"not SQLite at all, but long enough to be read" * 50),
        ("sql", None),
    ):
        folder = tmp_path / name
        folder.mkdir()
        if content is None:
            sqlite3.connect(folder / "index.db").execute("CREATE TABLE t (a)")
        else:
            (folder / "index.db").write_bytes(content)
        for opening in (open_reader, open_writer):
            with pytest.raises(NotAnIndex, match="not an index's database"):
                opening(folder)


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, 1)
    connection = sqlite3.connect(tmp_path / "index.db")
    connection.execute(
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) "
        "VALUES ('index', 'm999', '')"
    )
    connection.commit()
    connection.close()
    for opening in (open_reader, open_writer):
        with pytest.raises(IndexVersionError, match="newer version .*m999"):
            opening(tmp_path)


def test_a_disk_that_refuses_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, 2)

    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(vector_file.os, "fsync", refuse)
    full = pytest.raises(StorageError, match="No space left")
    with new_writer(tmp_path) as writer, full, writer.commit() as commit:
        commit.add_vectors([b"x"], unit_vectors(1), [False])
    monkeypatch.undo()
    with open_reader(tmp_path) as reader:
        assert reader.info.generation == 1
    assert len(list(tmp_path.glob("vectors-*"))) == 1
    fill(tmp_path, 2, name="d/b")


def test_what_is_flushed_before_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The vector file and its folder are on the disk before the transaction that names them."""
    flushed: list[str] = []
    real = os.fsync

    def note(descriptor: int) -> None:
        flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real(descriptor)

    monkeypatch.setattr(vector_file.os, "fsync", note)
    with new_writer(tmp_path / "index") as writer, writer.commit() as commit:
        commit.add_vectors([b"x"], unit_vectors(1), [False])
        assert flushed[0].startswith("vectors-")
        assert flushed[1] == "index"


def test_paths_in_the_database_cannot_leave_the_folder(tmp_path: Path) -> None:
    fill(tmp_path / "index", 2)
    shutil.copy(next((tmp_path / "index").glob("vectors-*")), tmp_path / "outside.faiss")
    connection = sqlite3.connect(tmp_path / "index" / "index.db")
    connection.execute("UPDATE segments SET file = '../outside.faiss'")
    connection.commit()
    connection.close()
    with pytest.raises(IndexDamaged, match="outside itself"):
        open_reader(tmp_path / "index")


def test_importing_the_store_loads_neither_torch_nor_grpc() -> None:
    code = (
        "import sys, retrieval.store;"
        "print(sorted({'torch', 'grpc', 'transformers'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
