"""Commits that are killed or race: nothing that was committed is lost, and nothing is torn."""

import os
import random
from dataclasses import replace
from pathlib import Path

import lance
import pytest

from retrieval.errors import IndexDamaged, IndexLocked, IndexVersionError
from retrieval.store import Location, open_reader, read_info, verify
from retrieval.store.lake.place import Place
from retrieval.store.lake.tables import pointer as pointers
from retrieval.store.lake.tables.schema import TableChange, dataset, lance_errors
from retrieval.store.lake.writing import cleaning
from retrieval.store.lake.writing import writer as writing
from tests.store.lake.writing.killing import kill_commits, race
from tests.store.stores import needs_s3, place_in
from tests.store.test_store import fill, key, new_writer, staged, unit_vectors


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("store", "kills"), [("lake", 34), pytest.param("s3", 60, marks=needs_s3)])
def test_kills_lose_nothing_and_tear_nothing(tmp_path: Path, store: str, kills: int) -> None:
    kill_commits(place_in(store, tmp_path), kills, random.Random(1))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("store", "commits", "turns"),
    [
        # Files of words in a folder are only safe under its lock: the engine gives files of removed
        # texts the same names for each writer. On an object store, names have hashes.
        ("lake", 25, "with"),
        pytest.param("s3", 8, "with", marks=needs_s3),
        pytest.param("s3", 8, "without", marks=needs_s3),
    ],
)
def test_of_four_writers_one_wins_each_time(
    tmp_path: Path, store: str, commits: int, turns: str
) -> None:
    index = place_in(store, tmp_path)
    fill(index, 1)
    race(index, commits, turns)


def test_what_no_pointer_names_is_dropped(tmp_path: Path) -> None:
    index = Location("lance", str(tmp_path / "lake"))
    fill(index, 3)
    with open_reader(index) as reader:
        # As a writer that is killed between its tables and its pointer leaves them.
        for name in ("vectors", "chunks", "documents"):
            table = lance.dataset(Place.in_folder(tmp_path / "lake").table_uri(name))
            lance.write_dataset(table.to_table(), table, mode="append")
            table.delete("true")
        assert len(reader.search_vectors(unit_vectors(1), 9).vector_ids[0]) == 3
        assert list(verify(index)) == []
        fill(index, 2, name="d/b", seed=1)
        assert reader.passage(1, 0).text == "text 0 of d/a.txt"
    with open_reader(index) as reader:
        assert (reader.info.documents, reader.info.vectors) == (2, 5)
        assert len(reader.search_vectors(unit_vectors(1), 9).vector_ids[0]) == 5
    assert list(verify(index)) == []


def test_tables_without_any_pointer_are_replaced(tmp_path: Path) -> None:
    """As a writer that is killed in the first commit leaves them."""
    index = Location("lance", str(tmp_path / "lake"))
    fill(index, 3)
    for number in (0, 1):
        (tmp_path / "lake" / pointers.pointer_name(number)).unlink()
    fill(index, 2, name="d/b", seed=1)
    with open_reader(index) as reader:
        assert (reader.info.generation, reader.info.documents, reader.info.vectors) == (1, 1, 2)
        assert [one.uri for one in reader.documents(9)] == ["d/b"]
        assert len(reader.search_lexical("text", 9).scores) == 2
    assert list(verify(index)) == []


def test_what_is_flushed_before_the_pointer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that a pointer names is on the disk before it is written."""
    place = tmp_path / "lake"
    index = Location("lance", str(place))
    fill(index, 2)
    before = {path for path in place.rglob("*") if path.is_file()}
    flushed: set[Path] = set()
    real = os.fsync

    def note(descriptor: int) -> None:
        flushed.add(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)

    def published(at: Place, pointer: pointers.Pointer) -> None:
        new = {path for path in place.rglob("*") if path.is_file()} - before
        named = {path for path in new if "tables" in path.parts or path.parent.name == "words"}
        assert {path.parent.name for path in named} >= {"data", "_versions", "words"}
        assert named <= flushed
        assert {path.parent for path in named} <= flushed
        real_put(at, pointer)

    real_put = pointers.put_pointer
    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(writing, "put_pointer", published)
    fill(index, 2, name="d/b", seed=1)
    assert read_info(index).documents == 2


def test_a_writer_that_was_overtaken_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without locks, as on object storage: the pointer is put only if it is absent."""
    index = Location("lance", str(tmp_path / "lake"))
    fill(index, 1)
    real = pointers.put_pointer

    def slowly(place: Place, pointer: pointers.Pointer) -> None:
        monkeypatch.setattr(writing, "put_pointer", real)
        # Another writer publishes the generation that this one is about to publish.
        rival = pointers.read_newest(place)
        real(place, replace(rival, generation=rival.generation + 1, commit_id="0" * 32))
        real(place, pointer)

    monkeypatch.setattr(writing, "put_pointer", slowly)
    with pytest.raises(IndexLocked, match="nothing was changed"):
        fill(index, 2, name="d/lost")
    assert read_info(index).documents == 1
    assert read_info(index).commit_id == "0" * 32
    fill(index, 2, name="d/b", seed=4)
    with open_reader(index) as reader:
        assert [one.uri for one in reader.documents(9)] == ["d/a.txt", "d/b"]
        assert len(reader.search_lexical("text", 9).scores) == 3
    assert list(verify(index)) == []


def test_a_table_that_another_writer_changes_is_left(tmp_path: Path) -> None:
    place = Place.in_folder(tmp_path / "lake")
    fill(Location("lance", str(place.local)), 2)
    named = pointers.read_newest(place).tables["texts"]
    schema = lance.dataset(place.table_uri("texts")).schema
    change = TableChange(place, "texts", named, schema)
    rows = lance.dataset(place.table_uri("texts")).to_table()
    change.append(rows)
    lance.write_dataset(rows, place.table_uri("texts"), mode="append")  # the other writer
    with pytest.raises(IndexLocked, match="nothing was changed"):
        change.append(rows)


def test_old_generations_are_removed_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place.in_folder(tmp_path / "lake")
    index = Location("lance", str(place.local))
    for number in range(5):
        fill(index, 2, name=f"d/{number}", seed=number)
    (place.folder / "commits" / "0123.tmp").write_text("{")  # as a killed writer leaves it
    with new_writer(index) as writer:
        writer.maintain()
        assert len(pointers.generations(place)) == 6  # with that of the model
        monkeypatch.setattr(cleaning, "KEEP_SECONDS", 0.0)
        with open_reader(index) as reader:
            writer.maintain()
            assert pointers.generations(place) == [5]
            assert [path.suffix for path in (place.folder / "commits").iterdir()] == [".json"]
            assert len(reader.search_vectors(unit_vectors(1), 99).vector_ids[0]) == 10
    assert len(lance.dataset(place.table_uri("vectors")).versions()) == 1
    fill(index, 2, name="d/6", seed=6)
    assert read_info(index).documents == 6
    assert list(verify(index)) == []


@pytest.mark.parametrize("damage", ["cut", "other", "newer", "no table"])
def test_damage_is_named(tmp_path: Path, damage: str) -> None:
    place = tmp_path / "lake"
    index = Location("lance", str(place))
    fill(index, 2)
    (*_, path) = sorted((place / "commits").iterdir())
    content = path.read_text()
    match damage:
        case "cut":
            path.write_text(content[:-20])
        case "other":
            path.write_text(content.replace('"language": "en"', '"language": "de"'))
        case "newer":
            path.write_text(content.replace('"format": 1', '"format": 2'))
        case _:
            for file in (place / "tables" / "chunks.lance" / "data").iterdir():
                file.unlink()
    error = IndexVersionError if damage == "newer" else IndexDamaged
    with pytest.raises(error), open_reader(index) as reader:
        reader.passage(1, 0)
    if damage == "newer":
        with pytest.raises(error):
            list(verify(index))
    else:
        assert list(verify(index)) != []


def test_no_row_that_changed_is_shown(tmp_path: Path) -> None:
    """Rows that no writer of this store has written fail their checksums."""
    place = Place.in_folder(tmp_path / "lake")
    index = Location("lance", str(place.local))
    fill(index, 3)
    newest = pointers.read_newest(place)
    record = "cast(replace(cast(record AS string), '{}', '{}') AS binary)"
    for name, values, is_shown in (
        ("documents", {"title": "'other'"}, False),
        ("documents", {"record": record.format("d/a", "d/b")}, True),
        ("documents", {"record": record.format("[", "")}, True),
        ("chunks", {"line_start": "line_start + 1"}, False),
        ("chunks", {"record": record.format(",18,35,", ",18,36,")}, True),
        ("texts", {"text": "'text X'"}, True),
        ("vectors", {"content_key": "digest"}, False),
        ("values", {"text": "'w'"}, False),
    ):
        table = lance.dataset(place.table_uri(name))
        table.update(values)
        changed = {**newest.tables, name: table.version}
        number = pointers.generations(place)[-1] + 1
        pointers.put_pointer(place, replace(newest, generation=number, tables=changed))
        assert list(verify(index)) != [], (name, values)
        if is_shown:
            with open_reader(index) as reader, pytest.raises(IndexDamaged):
                pytest.fail(f"{name} {values}: {reader.passage(1, 1)}")
    number = pointers.generations(place)[-1] + 1
    pointers.put_pointer(place, replace(newest, generation=number))
    assert list(verify(index)) == []


def test_a_conditional_commit_sees_what_came_before(tmp_path: Path) -> None:
    index = Location("lance", str(tmp_path / "lake"))
    fill(index, 1)
    with new_writer(index) as writer, writer.commit() as commit:
        ids = commit.add_vectors([key("new")], unit_vectors(1), [True])
        commit.put_document(staged("d/new", ["new", "new"], ids * 2))
        assert commit.truncated_chunks() == 2
        assert commit.known_file("d/new") is not None
        assert commit.pushed_documents() == []


def test_a_damaged_table_is_described_in_one_line_with_one_advice(tmp_path: Path) -> None:
    index = Location("lance", str(tmp_path / "lake"))
    fill(index, 3)
    data = next((tmp_path / "lake/tables/texts.lance/data").iterdir())
    data.write_bytes(data.read_bytes()[:100])
    problem = next(verify(index))
    assert problem.what.startswith(f"a table of {index} can't be read or written: ")
    assert not any(one in problem.what for one in (".rs:", "External", "Generic", "indexer verify"))
    with open_reader(index) as reader, pytest.raises(IndexDamaged, match="indexer verify"):
        reader.document_text(reader.documents(1)[0].id)


def test_a_panic_of_the_engine_is_an_error_of_the_index(tmp_path: Path) -> None:
    """Panics are no exceptions for Python, and would end a thread of the server."""
    index = Location("lance", str(tmp_path / "lake"))
    fill(index, 3)
    place = Place.of(index)
    with pytest.raises(IndexDamaged, match="FieldNotFound"), lance_errors(place):
        dataset(place, "documents").take([0], columns=["of another version"])
