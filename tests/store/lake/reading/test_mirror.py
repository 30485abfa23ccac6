"""Tables of an object store are read from copies on this machine; here, the store is a folder."""

import logging
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from retrieval.errors import IndexDamaged
from retrieval.store import Reader, parse_filter
from retrieval.store.lake.local.cache_folder import folder_size
from retrieval.store.lake.local.copies import Copies
from retrieval.store.lake.place import Place
from retrieval.store.lake.reading import mirror as mirroring
from retrieval.store.lake.reading.mirror import ORDER
from retrieval.store.lake.reading.reader import LakeReader
from retrieval.store.lake.tables.pointer import _as_json, _from_json, read_newest
from retrieval.store.lake.writing.writer import LakeWriter
from tests.store.disk.vectors.test_approximate import add, clustered
from tests.store.stores import needs_s3, place_in
from tests.store.test_store import CHUNKING, MODEL, key, staged, unit_vectors

TEXTS = 40


def put(place: Place, name: str, seed: int) -> None:
    """Commit a document of some passages."""
    vectors = unit_vectors(TEXTS, seed)
    with LakeWriter.open(place) as writer:
        writer.set_model(MODEL, CHUNKING, "en")
        with writer.commit() as commit:
            texts = [f"text {n} of {name}" for n in range(TEXTS)]
            ids = commit.add_vectors([key(text) for text in texts], vectors, [False] * TEXTS)
            commit.put_document(staged(name, texts, ids))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RETRIEVAL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("RETRIEVAL_CACHE_SIZE", "100MB")
    monkeypatch.setattr(mirroring, "_DELAY_SECONDS", 0.0)
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the objects of an index."""
    folder = tmp_path_factory.mktemp("mirror")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETRIEVAL_CACHE_DIR", str(folder / "cache"))
        (folder / "bucket").mkdir()
        place = Place(f"file://{folder}/bucket", None)
        put(place, "d/a.txt", 1)
        put(place, "d/b.txt", 2)
    return folder / "bucket"


@pytest.fixture
def place(tmp_path: Path, cache: Path, built: Path) -> Place:
    """An index in a bucket that is a folder."""
    assert not cache.exists()
    shutil.copytree(built, tmp_path / "bucket")
    return Place(f"file://{tmp_path}/bucket", None)


def wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)


def copied(reader: LakeReader) -> frozenset[str]:
    return reader._mirror.whole if reader._mirror else frozenset()


def addresses(reader: LakeReader) -> dict[str, str]:
    """Where each table is read from."""
    generation = reader._generation
    return {name: generation.table(name).uri for name in generation.pointer.tables}


def answers(reader: Reader) -> object:
    """What a reader answers to many questions."""
    query = unit_vectors(1, 9)
    hits = reader.search_vectors(query, 10)
    words = reader.search_lexical("text 7", 10, filter=parse_filter("k=v"))
    places = [(1, at) for at in range(0, TEXTS, 3)]
    return (
        hits.vector_ids.tolist(),
        np.round(hits.scores, 5).tolist(),
        words.text_ids.tolist(),
        [reader.passage(*one) for one in places],
        reader.neighbours_of(places, before=1, after=2),
        reader.section_spans(places, 300),
        reader.documents(10),
        reader.document_text(1),
        reader.vectors([1, 7]).tolist(),
    )


@needs_s3
@pytest.mark.slow
def test_tables_are_copied_from_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place.of(place_in("s3", tmp_path))
    monkeypatch.setenv("RETRIEVAL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(mirroring, "_DELAY_SECONDS", 0.0)
    put(place, "d/a.txt", 1)
    with LakeReader.open(place) as reader:
        expected = answers(reader)
        wait(lambda: copied(reader) == set(ORDER))
        assert answers(reader) == expected
        assert all(str(tmp_path) in addresses(reader)[name] for name in ORDER)


@pytest.mark.parametrize("size", ["0", "30kB", "100MB"])
def test_answers_are_the_same_with_any_room(
    place: Place, cache: Path, monkeypatch: pytest.MonkeyPatch, size: str
) -> None:
    monkeypatch.setenv("RETRIEVAL_CACHE_SIZE", "0")
    with LakeReader.open(place) as reader:
        expected = answers(reader)
        assert copied(reader) == set()
    monkeypatch.setenv("RETRIEVAL_CACHE_SIZE", size)
    with LakeReader.open(place) as reader:
        assert answers(reader) == expected
        if size == "100MB":
            wait(lambda: copied(reader) == set(ORDER))
            assert {name for name, uri in addresses(reader).items() if str(cache) in uri} == set(
                ORDER
            )
        if size == "30kB":
            wait(lambda: bool(copied(reader)))
            assert copied(reader) < set(ORDER)
            assert folder_size(cache) <= 30_000
        assert answers(reader) == expected


def test_a_copy_is_opened_without_asking_the_store(place: Place, tmp_path: Path) -> None:
    with LakeReader.open(place) as reader:
        expected = answers(reader)
        wait(lambda: copied(reader) == set(ORDER))
    for name in ORDER:
        (tmp_path / "bucket" / "tables" / f"{name}.lance").rename(tmp_path / name)
    with LakeReader.open(place) as reader:
        assert answers(reader) == expected


def make_approximate(place: Place, vectors: NDArray[np.float32]) -> None:
    with LakeWriter.open(place) as writer:
        writer.set_model(replace(MODEL, dim=vectors.shape[1]), CHUNKING, "en")
        with writer.commit() as commit:
            commit.set_index_type("ivf", 0.95)
        add(writer, vectors, "a")
        assert writer.maintain().ann is not None


@pytest.mark.slow
def test_an_approximate_index_is_searched_in_its_copy(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "bucket").mkdir()
    place = Place(f"file://{tmp_path}/bucket", None)
    vectors = clustered(3000, 1)
    make_approximate(place, vectors)
    with LakeReader.open(place) as reader:
        assert not reader.is_exact
        expected = reader.search_vectors(vectors[:5], 10)
        wait(lambda: "vectors" in copied(reader))
    assert list(cache.glob("*/tables/vectors.lance/_indices/*/*"))
    (tmp_path / "bucket" / "tables" / "vectors.lance").rename(tmp_path / "moved")
    with LakeReader.open(place) as reader:
        found = reader.search_vectors(vectors[:5], 10)
    np.testing.assert_array_equal(found.vector_ids, expected.vector_ids)
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_the_next_generation_is_copied_before_it_is_served(place: Place, cache: Path) -> None:
    with LakeReader.open(place) as reader:
        wait(lambda: copied(reader) == set(ORDER))
        put(place, "d/c.txt", 3)
        with LakeReader.open(place, before=reader) as later:
            assert copied(later) == set(ORDER)
            assert all(str(cache) in addresses(later)[name] for name in ORDER)
            assert later.info.documents == 3
            assert len(answers(later)) == len(answers(reader))  # type: ignore[arg-type]
        with LakeReader.open(place) as fresh:
            assert answers(fresh) == answers(later)


def test_readers_of_one_cache_share_it(place: Place, cache: Path) -> None:
    with LakeReader.open(place) as one, LakeReader.open(place) as two:
        wait(lambda: copied(one) == copied(two) == set(ORDER))
        assert answers(one) == answers(two)
        assert len(list(cache.glob("*/uses/*"))) == 2
        assert copied(one) == copied(two)
    assert list(cache.glob("*/parts/*")) == []


def damaged(cache: Path, how: str) -> Iterator[Path]:
    """Damage copies of files of data, and yield their paths."""
    for path in sorted(cache.glob("*/tables/*/data/*")):
        content = bytearray(path.read_bytes())
        if how == "cut":
            del content[len(content) // 2 :]
        elif how == "gone":
            path.unlink()
            yield path
            continue
        else:
            # The first half of a file is data, which has no checksum but that of our rows.
            for at in range(0, len(content) // 2, 7):
                content[at] ^= 0x10
        path.write_bytes(content)
        yield path


@pytest.mark.parametrize("how", ["cut", "gone", "flip"])
def test_a_damaged_copy_is_noticed_and_the_store_is_read(
    place: Place, cache: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    with LakeReader.open(place) as reader:
        expected = answers(reader)
        wait(lambda: copied(reader) == set(ORDER))
        assert list(damaged(cache, how))
        reader._recent._values.clear()
        reader._passages._parts._values.clear()
        with caplog.at_level(logging.WARNING):
            assert answers(reader) == expected
    # Readers that are opened later see it by sizes and samples, and copy again.
    with LakeReader.open(place) as reader:
        assert answers(reader) == expected
        wait(lambda: copied(reader) == set(ORDER))
        assert answers(reader) == expected
    assert "is damaged and was deleted" in caplog.text


def test_damage_that_samples_miss_is_noticed_when_an_index_is_opened(
    place: Place, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LakeReader.open(place) as reader:
        expected = answers(reader)
        wait(lambda: copied(reader) == set(ORDER))
    monkeypatch.setattr(Copies, "missing", lambda *_: [])
    assert list(damaged(cache, "gone"))
    with LakeReader.open(place) as reader:
        assert answers(reader) == expected


def test_damage_in_the_store_itself_is_told(place: Place, tmp_path: Path) -> None:
    for path in (tmp_path / "bucket" / "tables" / "chunks.lance" / "data").iterdir():
        path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(IndexDamaged), LakeReader.open(place) as reader:
        answers(reader)


def test_without_a_cache_folder_the_store_is_read(
    place: Place, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with LakeReader.open(place) as reader:
        expected = answers(reader)
        wait(lambda: copied(reader) == set(ORDER))
    full = lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))  # noqa: E731
    monkeypatch.setattr(Copies, "claim", full)
    with caplog.at_level(logging.WARNING), LakeReader.open(place) as reader:
        assert answers(reader) == expected
        assert copied(reader) == set()
    assert caplog.text.count("they are read from the store") == 1
    assert str(cache) in caplog.text


def test_a_kill_while_copying_leaves_what_the_next_one_uses(
    place: Place, cache: Path, tmp_path: Path
) -> None:
    script = f"""
import time
from retrieval.store.lake.place import Place
from retrieval.store.lake.reading import mirror
from retrieval.store.lake.reading.reader import LakeReader
mirror._DELAY_SECONDS = 0.0
put = mirror.Copies.put
def slowly(self, plan, name, part):
    put(self, plan, name, part)
    print(name, flush=True)
    time.sleep(0.2)
mirror.Copies.put = slowly
with LakeReader.open(Place({place.address!r}, None)):
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(3):
            assert process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    before = {path: path.stat().st_ino for path in cache.glob("*/tables/*/*/*")}
    assert len(before) >= 3
    with LakeReader.open(place) as reader:
        wait(lambda: copied(reader) == set(ORDER))
        expected = answers(reader)
        assert all(path.stat().st_ino == inode for path, inode in before.items())
    with LakeReader.open(place) as reader:
        assert answers(reader) == expected


def texts_of(reader: LakeReader) -> list[str]:
    return [reader.document_text(row.id) for row in reader.documents(10)]


def test_copies_of_an_index_that_go_different_ways_share_nothing_wrong(
    place: Place, cache: Path, tmp_path: Path
) -> None:
    shutil.copytree(tmp_path / "bucket", tmp_path / "other")
    other = Place(f"file://{tmp_path}/other", None)
    put(place, "d/1.txt", 3)
    put(other, "d/2.txt", 4)
    assert read_newest(place).tables == read_newest(other).tables
    with LakeReader.open(place) as one:
        expected = texts_of(one)
        wait(lambda: copied(one) == set(ORDER))
        with LakeReader.open(other) as two:
            assert texts_of(two) != expected
            assert "text 3 of d/2.txt" in "".join(texts_of(two))
            wait(lambda: copied(two) == set(ORDER))
            assert "text 3 of d/2.txt" in "".join(texts_of(two))
    for at, uri in ((place, "d/1.txt"), (other, "d/2.txt")):
        with LakeReader.open(at) as reader:
            assert copied(reader) == set(ORDER)
            assert [row.uri for row in reader.documents(10)] == [uri, "d/a.txt", "d/b.txt"]
    # What both have is there once.
    files = [path.name for path in cache.glob("*/tables/chunks.lance/data/*")]
    assert len(files) == 4


def test_a_restored_backup_that_goes_on_is_not_taken_for_what_it_was(
    place: Place, tmp_path: Path
) -> None:
    shutil.copytree(tmp_path / "bucket", tmp_path / "backup")
    put(place, "d/1.txt", 3)
    with LakeReader.open(place) as reader:
        wait(lambda: copied(reader) == set(ORDER))
        assert len(texts_of(reader)) == 3
        answers(reader)
        shutil.rmtree(tmp_path / "bucket")
        (tmp_path / "backup").rename(tmp_path / "bucket")
        put(place, "d/2.txt", 4)
        with LakeReader.open(place, before=reader) as later:
            assert [row.uri for row in later.documents(10)] == ["d/2.txt", "d/a.txt", "d/b.txt"]
            vector = unit_vectors(TEXTS, 4)[:1]
            assert later.search_vectors(vector, 1).scores[0, 0] > 0.999


def test_vectors_are_read_from_the_store_if_their_copy_vanishes(place: Place, cache: Path) -> None:
    query = unit_vectors(TEXTS, 2)[:1]
    with LakeReader.open(place) as reader:
        assert reader._generation.used.any()  # ids are in memory, vectors are not
        wait(lambda: copied(reader) == set(ORDER))
        assert str(cache) in addresses(reader)["vectors"]
        for path in cache.glob("*/tables/vectors.lance/data/*"):
            path.unlink()
        assert reader.search_vectors(query, 1).scores[0, 0] > 0.999
        assert "vectors" not in copied(reader)


def test_an_approximate_index_is_read_from_the_store_if_its_copy_vanishes(
    tmp_path: Path, cache: Path
) -> None:
    (tmp_path / "bucket").mkdir()
    place = Place(f"file://{tmp_path}/bucket", None)
    vectors = clustered(1500, 1)
    make_approximate(place, vectors)
    with LakeReader.open(place) as reader:
        assert reader._generation.used.any()
        wait(lambda: "vectors" in copied(reader))
        assert str(cache) in addresses(reader)["vectors"]
        for folder in ("_indices", "data"):
            shutil.rmtree(next(cache.glob(f"*/tables/vectors.lance/{folder}")))
        assert reader.search_vectors(vectors[:1], 5).scores[0, 0] > 0.999
        assert "vectors" not in copied(reader)


def test_a_copy_is_used_although_the_older_generation_reads_from_the_store(
    place: Place, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETRIEVAL_CACHE_SIZE", "0")
    with LakeReader.open(place) as older:
        expected = answers(older)
        monkeypatch.setenv("RETRIEVAL_CACHE_SIZE", "100MB")
        with LakeReader.open(place) as other:
            wait(lambda: copied(other) == set(ORDER))
        with LakeReader.open(place, before=older) as reader:
            assert all(str(cache) in addresses(reader)[name] for name in ORDER)
            assert answers(reader) == expected
            session = reader._generation._session
            tables = [reader._generation.table(name) for name in ORDER]
            assert all(table.session().is_same_as(session) for table in tables)


def test_an_id_of_a_table_stays_until_the_table_changes(place: Place) -> None:
    pointers = [read_newest(place)]
    with LakeWriter.open(place) as writer, writer.commit() as commit:
        commit.remove_document("d/a.txt")
    pointers.append(read_newest(place))
    one, two = pointers
    same = {name for name in one.tables if two.tables[name] == one.tables[name]}
    assert "vectors" in same
    assert "chunks" not in same
    assert same == {name for name in one.tables if one.table_id(name) == two.table_id(name)}
    body = {name: value for name, value in _as_json(two).items() if name != "table_ids"}
    old = _from_json(body)  # as versions of this program wrote it that had no ids
    assert old.tables == two.tables
    assert {old.table_id(name) for name in old.tables} == {two.commit_id}
