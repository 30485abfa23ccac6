"""Joining of files and words beside commits, also while others commit."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import lance
import numpy as np
import pytest

from retrieval.errors import IndexDamaged, IndexLocked, PermissionDenied
from retrieval.store import Commit, Location, Writer, open_reader, open_writer, parse_filter, verify
from retrieval.store.disk.lexical.segment_files import parts_of, segments_of
from retrieval.store.disk.tables.locks import maintenance_lock
from retrieval.store.lake.objects.bucket import BucketObjects
from retrieval.store.lake.objects.folder import FolderObjects
from retrieval.store.lake.place import Place
from retrieval.store.lake.tables.generation import Generation
from retrieval.store.lake.tables.layout import Fragment, Layout
from retrieval.store.lake.tables.pointer import boot_time, read_newest
from retrieval.store.lake.writing import maintenance
from retrieval.store.lake.writing.writer import LakeWriter
from tests.store.stores import needs_s3, place_in
from tests.store.test_store import key, new_writer, staged, unit_vectors

TABLES = ("documents", "texts", "chunks", "values", "vectors")


def put(commit: Commit, name: str, number: int) -> None:
    """Put a document of two passages, one of which every document has."""
    texts = [f"text {number}", "the same"]
    known = commit.find_vectors(map(key, texts))
    new = [text for text in texts if key(text) not in known]
    vectors = unit_vectors(len(new), number)
    ids = commit.add_vectors([key(text) for text in new], vectors, [False] * len(new))
    known.update(zip(map(key, new), ids, strict=True))
    commit.put_document(staged(name, texts, [known[key(text)] for text in texts]))


def commits(index: Location, count: int, first: int = 0) -> None:
    with new_writer(index) as writer:
        for number in range(first, first + count):
            with writer.commit() as commit:
                put(commit, f"d/{number}", number)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("made") / "lake"
    commits(Location("lance", str(place)), 13)
    return place


@pytest.fixture
def index(made: Path, tmp_path: Path) -> Location:
    """An index made with 13 commits, each of one document with a text of its own."""
    shutil.copytree(made, tmp_path / "lake", symlinks=True)
    return Location("lance", str(tmp_path / "lake"))


def files(index: Location) -> dict[str, int]:
    """Numbers of fragments of each table, and of segments of words."""
    place = Place.of(index)
    pointer = read_newest(place)
    generation = Generation(place, pointer)
    assert pointer.words is not None
    words = {"words": len(segments_of(pointer.words.meta))}
    return words | {name: len(generation.layout(name).fragments) for name in TABLES}


def answers(index: Location) -> list[object]:
    with open_reader(index) as reader:
        return [
            reader.search_vectors(unit_vectors(2), 99).vector_ids.tolist(),
            reader.search_lexical("text same", 99),
            [one.uri for one in reader.documents(99, filter=parse_filter("k=v"))],
            [reader.passage(one.id, 0).text for one in reader.documents(99)],
        ]


def test_many_small_commits_are_joined(index: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "MANY_FILES", 3)
    before, expected = files(index), answers(index)
    assert set(before.values()) == {13}
    with new_writer(index) as writer:
        assert writer.maintain().merged == 13
        assert not writer.maintain().merged
    after = files(index)
    assert max(after.values()) < 10
    assert {after[name] for name in TABLES} == {1}
    assert repr(answers(index)) == repr(expected)
    assert list(verify(index)) == []


def test_files_stay_few_without_maintenance(
    index: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "MANY_FILES", 4)
    monkeypatch.setattr(maintenance, "TOO_MANY_FILES", 14)
    monkeypatch.setattr(maintenance, "TOO_MANY_SEGMENTS", 14)
    most = dict.fromkeys((*TABLES, "words"), 0)
    with new_writer(index) as writer:
        for number in range(13, 30):
            with writer.commit() as commit:
                put(commit, f"d/{number % 25}", number)
            now = files(index)
            most = {name: max(most[name], now[name]) for name in most}
    assert max(most.values()) <= 15
    assert list(verify(index)) == []


def test_a_commit_is_done_although_joining_after_it_fails(
    index: Location, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionDenied("the object store refuses")

    monkeypatch.setattr(maintenance, "TOO_MANY_FILES", 3)
    monkeypatch.setattr("retrieval.store.lake.writing.writer.relieve", refuse)
    commits(index, 1, 20)
    with open_reader(index) as reader:
        assert reader.document_by_uri("d/20").uri == "d/20"
    (record,) = caplog.records
    assert "the object store refuses" in record.getMessage()


def test_each_row_is_moved_few_times() -> None:
    """Sizes of joined files are kept in a geometric series."""
    rows, moved = list[int](), 0
    for _ in range(4096):
        rows.append(10)
        if len(rows) > maintenance.TOO_MANY_FILES:
            due = maintenance.due_to_join(_layout(rows), maintenance.MANY_FILES)
            kept, joined = rows[: due[0]], rows[due[0] :]
            assert due == list(range(due[0], len(rows)))
            moved += sum(joined)
            rows = [*kept, sum(joined)]
    assert len(rows) <= maintenance.TOO_MANY_FILES
    assert moved / 40_960 < 6


def _layout(rows: list[int]) -> Layout:
    none = np.empty(0, np.uint32)
    return Layout([Fragment(at, (str(at),), "", one, none) for at, one in enumerate(rows)])


@contextmanager
def while_joining(
    monkeypatch: pytest.MonkeyPatch, writer: Writer, act: Callable[[], None]
) -> Iterator[None]:
    """Let something happen after files were joined, and before the commit that names them."""
    real = LakeWriter.locked

    def locked(self: LakeWriter) -> object:
        if self is writer:
            monkeypatch.setattr(LakeWriter, "locked", real)
            act()
        return real(self)

    with monkeypatch.context() as patch:
        patch.setattr(LakeWriter, "locked", locked)
        yield


@pytest.mark.parametrize("change", ["add", "replace", "remove", "join"])
def test_others_commit_while_files_are_joined(
    index: Location, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.setattr(maintenance, "MANY_FILES", 3)

    def act() -> None:
        with open_writer(index, shared=True) as other:
            if change == "join":
                with monkeypatch.context() as patch:
                    patch.setattr(maintenance, "maintenance_lock", _no_lock)
                    other.maintain()
                return
            with other.commit() as commit:
                if change == "remove":
                    commit.remove_document("d/3")
                else:
                    put(commit, "d/20" if change == "add" else "d/3", 20)

    with new_writer(index) as writer, while_joining(monkeypatch, writer, act):
        done = writer.maintain()
    after = files(index)
    # A row that was deleted meanwhile is in the files that were joined, so these are dropped.
    assert after["chunks"] == {"add": 2, "replace": 13, "remove": 12, "join": 1}[change]
    assert bool(done.merged) == (change in ("add", "replace", "remove"))
    assert after["words"] < 10  # but words were merged without the removed text
    names = {f"d/{number}" for number in range(13)}
    names |= {"d/20"} if change == "add" else set()
    with open_reader(index) as reader:
        found = {one.uri for one in reader.documents(99)}
        assert found == names - ({"d/3"} if change == "remove" else set())
        texts = len(reader.search_lexical("text", 99).text_ids)
        assert texts == {"add": 14, "replace": 13, "remove": 12, "join": 13}[change]
    assert list(verify(index)) == []
    with new_writer(index) as writer:
        writer.maintain()
        assert files(index)["chunks"] == 1 + (change == "add")
    assert list(verify(index)) == []


@contextmanager
def _no_lock(*_: object) -> Iterator[object]:
    yield object()


def test_only_one_process_does_maintenance(
    index: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "MANY_FILES", 3)
    monkeypatch.setattr(maintenance, "COMPACT_WAIT_SECONDS", 0.0)
    with maintenance_lock(tmp_path / "lake"), new_writer(index) as writer:
        writer.maintain()
        assert files(index)["chunks"] == 13
        with pytest.raises(IndexLocked, match="joining files"):
            writer.compact()
    with new_writer(index) as writer:
        writer.compact()
    assert files(index)["chunks"] == 1


def test_vectors_of_a_build_that_runs_are_kept(tmp_path: Path) -> None:
    """A build commits vectors ahead of their documents."""
    index = Location("lance", str(tmp_path / "lake"))
    with new_writer(index) as build, open_writer(index, shared=True) as other:
        with build.commit() as commit:
            ids = commit.add_vectors([key("text")], unit_vectors(1), [False])
        other.maintain()
        with build.commit() as commit:
            commit.put_document(staged("d/a", ["text"], ids))
    assert list(verify(index)) == []


@pytest.mark.parametrize("damage", ["changed", "missing", "outdated", "incomplete"])
def test_compact_makes_damaged_words_anew(
    index: Location, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    place = Place.of(index)
    expected = answers(index)
    pointer = read_newest(place)
    assert pointer.words is not None
    path = place.folder / "words" / max(pointer.words.files, key=lambda one: one.size).name
    match damage:
        case "changed":
            path.write_bytes(path.read_bytes()[::-1])
        case "missing":
            path.unlink()
        case _:
            words = replace(pointer.words, analysis=0)
            if damage == "incomplete":
                words = parts_of(pointer.words, list(segments_of(pointer.words.meta))[1:])
            with new_writer(index) as writer:
                made = maintenance.following(pointer, words=words)
                assert isinstance(writer, LakeWriter)
                writer.publish(Generation(place, pointer), made, boot_time())
    problems = list(verify(index))
    assert bool(problems) == (damage != "outdated")
    assert all("indexer compact" in one.advice for one in problems)
    if damage in ("changed", "missing"):
        with pytest.raises(IndexDamaged, match="indexer compact"):
            open_reader(index)
    with new_writer(index) as writer:
        if damage == "missing":  # what others add meanwhile is there, too, and what they remove not

            def act() -> None:
                with open_writer(index, shared=True) as other, other.commit() as commit:
                    put(commit, "d/20", 20)

            with while_joining(monkeypatch, writer, act):
                writer.compact()
            with writer.commit() as commit:
                commit.remove_document("d/20")
        else:
            writer.compact()
    assert list(verify(index)) == []
    assert repr(answers(index)[1:]) == repr(expected[1:])


def test_what_is_joined_is_flushed_before_the_pointer(
    index: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place.of(index).folder
    before = {path for path in place.rglob("*") if path.is_file()}
    flushed: set[Path] = set()
    real, real_create = os.fsync, FolderObjects.create

    def note(descriptor: int) -> None:
        flushed.add(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)

    def create(self: FolderObjects, name: str, content: bytes) -> bool:
        new = {path for path in place.rglob("*") if path.is_file()} - before
        named = {one for one in new if "tables" in one.parts or one.parent.name == "words"}
        assert {path.parent.name for path in named} >= {"data", "_versions", "words"}
        synced = {path.name for path in flushed}
        assert {path.name.removeprefix("lexical-") for path in named} <= {
            name.removeprefix("lexical-") for name in synced
        }
        assert {path.parent for path in named} <= flushed
        created.append(name)
        return real_create(self, name, content)

    created = list[str]()
    monkeypatch.setattr(maintenance, "MANY_FILES", 3)
    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(FolderObjects, "create", create)
    with new_writer(index) as writer:
        assert writer.maintain().merged
    assert len(created) == 1


def test_many_deleted_rows_are_removed_from_their_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "_MANY_DELETED", 3)
    index = Location("lance", str(tmp_path / "lake"))
    texts = [f"text {number}" for number in range(30)]
    with new_writer(index) as writer:
        with writer.commit() as commit:
            ids = commit.add_vectors([*map(key, texts)], unit_vectors(30), [False] * 30)
            for number in range(0, 30, 5):
                some = slice(number, number + 5)
                commit.put_document(staged(f"d/{number}", texts[some], ids[some]))
        with writer.commit() as commit:
            commit.remove_document("d/5")
        writer.maintain()
    pointer = read_newest(Place.of(index))
    uri = Place.of(index).table_uri("chunks")
    chunks = lance.dataset(uri, version=pointer.tables["chunks"])
    assert [one.metadata.physical_rows for one in chunks.get_fragments()] == [25]
    assert list(verify(index)) == []


@needs_s3
@pytest.mark.parametrize("change", ["none", "remove", "merge"])
def test_merged_words_are_sent_before_the_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """Others wait for a turn, so only what was removed meanwhile is sent within it."""
    index = place_in("s3", tmp_path)
    commits(index, 12)
    taken, sent = list[str](), {"before": list[str](), "within": list[str]()}
    real_turn, real_write = LakeWriter.turn, BucketObjects.write

    @contextmanager
    def turn(self: LakeWriter) -> Iterator[None]:
        with real_turn(self):
            taken.append("turn")
            yield
            taken.clear()

    def write(self: BucketObjects, name: str, content: bytes | Path) -> None:
        if name.startswith("words/"):
            sent["within" if taken else "before"].append(name)
        real_write(self, name, content)

    def act() -> None:
        with monkeypatch.context() as undone, open_writer(index, shared=True) as other:
            undone.setattr(LakeWriter, "turn", real_turn)
            undone.setattr(BucketObjects, "write", real_write)
            if change == "merge":
                other.maintain()
            elif change == "remove":
                with other.commit() as commit:
                    commit.remove_document("d/3")

    with new_writer(index) as writer:
        assert isinstance(writer, LakeWriter)
        monkeypatch.setattr(LakeWriter, "turn", turn)
        monkeypatch.setattr(BucketObjects, "write", write)
        with while_joining(monkeypatch, writer, act):
            writer.maintain()
        assert len(sent["before"]) > 5
        assert [Path(one).suffixes[-2] for one in sent["within"]] == [".del"] * (change == "remove")
        base = writer.newest()
        assert base is not None
        held = {path.name for path in writer.word_files(base).folder.iterdir()}
        record = base.pointer.words
        assert record is not None
        merged = {Path(one).stem for one in sent["before"]}
        assert held & merged == (set() if change == "merge" else merged)
        assert not any(name.endswith(".view") for name in held)
    assert len(segments_of(record.meta)) < 10
    assert list(verify(index)) == []
