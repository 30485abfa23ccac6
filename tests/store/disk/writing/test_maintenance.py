"""Maintenance beside other writers: files are written outside commits, whatever comes between."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.errors import IndexLocked
from retrieval.store import Maintained, Writer, open_reader, open_writer, read_status, verify
from retrieval.store.disk.tables import locks
from retrieval.store.disk.writing import maintenance
from retrieval.store.records import SegmentInfo
from tests.store.test_store import CHUNKING, DIM, MODEL, key, staged


def vector_of(text: str) -> np.ndarray:
    vector = np.random.default_rng(int.from_bytes(key(text)[:4])).normal(size=DIM)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def put(writer: Writer, name: str, *texts: str) -> None:
    with writer.commit() as commit:
        keys = [key(text) for text in texts]
        ids = commit.find_vectors(keys)
        new = [text for text in dict.fromkeys(texts) if key(text) not in ids]
        if new:
            vectors = np.stack([vector_of(text) for text in new])
            made = commit.add_vectors([key(text) for text in new], vectors, [False] * len(new))
            ids.update(zip(map(key, new), made, strict=True))
        commit.put_document(staged(f"d/{name}", list(texts), [ids[one] for one in keys]))


def remove(writer: Writer, name: str) -> None:
    with writer.commit() as commit:
        commit.remove_document(f"d/{name}")


def check(folder: Path, documents: dict[str, list[str]]) -> None:
    """The index is whole, and each document has its texts, which are found by their own vector."""
    assert list(verify(folder)) == []
    assert not list(folder.glob("*.pending"))
    with open_reader(folder) as reader:
        assert {row.uri for row in reader.documents(1000)} == {f"d/{name}" for name in documents}
        every = reader.search_vectors(vector_of("x")[None], reader.info.vectors + 9).vector_ids
        used = {text for texts in documents.values() for text in texts}
        assert len([found for found in every[0] if found >= 0]) == len(used)
        for name, texts in documents.items():
            row = reader.document_by_uri(f"d/{name}")
            for ordinal, text in enumerate(texts):
                stored = reader.passage_vector(row.id, ordinal)
                np.testing.assert_array_equal(stored, vector_of(text))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An index of ten small segments, of ten documents with two texts each."""
    with open_writer(tmp_path / "index") as writer:
        writer.set_model(MODEL, CHUNKING, "en")
        for number in range(10):
            put(writer, f"{number}", f"a {number}", f"b {number}")
    return tmp_path / "index"


def documents() -> dict[str, list[str]]:
    return {f"{number}": [f"a {number}", f"b {number}"] for number in range(10)}


def meanwhile(monkeypatch: pytest.MonkeyPatch, do: Callable[[], None]) -> list[str]:
    """Do something after the first pending file is written; return what was written."""
    write, written = maintenance.write_vector_file, list[str]()

    def and_then(*arguments: Any, **options: Any) -> Any:
        made = write(*arguments, **options)
        written.append(made.name)
        if len(written) == 1:
            do()
        return made

    monkeypatch.setattr(maintenance, "write_vector_file", and_then)
    return written


def test_others_commit_while_segments_are_merged(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = documents()

    def others() -> None:
        with open_writer(folder, shared=True) as other:
            remove(other, "3")
            put(other, "4", "a 4", "new")
            put(other, "more", "b 3", "more")
            assert other.maintain() == Maintained(), "it is left to the other one"

    written = meanwhile(monkeypatch, others)
    with open_writer(folder) as build:
        assert build.maintain().merged == 10
        assert written[0].endswith(".faiss.pending")
        assert [row.rows for row in build.segments()] == [1, 1, 20]
    del left["3"]
    check(folder, {**left, "4": ["a 4", "new"], "more": ["b 3", "more"]})


def test_a_vector_is_used_again_while_it_is_compacted_away(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = documents()

    def others() -> None:
        with open_writer(folder, shared=True) as other:
            put(other, "again", "b 0", "a 2")
            remove(other, "7")

    with open_writer(folder, shared=True) as writer:
        for name in ("0", "1", "2", "3"):
            remove(writer, name)
            del left[name]
        meanwhile(monkeypatch, others)
        done = writer.maintain()
        assert (done.merged, done.removed) == (10, 6)
        # Those that were used again have a segment of their own.
        assert [(row.rows, row.unused) for row in writer.segments()] == [(12, 2), (2, 0)]
    del left["7"]
    check(folder, {**left, "again": ["b 0", "a 2"]})


def test_nothing_is_left_of_what_is_compacted(folder: Path) -> None:
    with open_writer(folder, shared=True) as writer:
        for name in documents():
            remove(writer, name)
        assert writer.maintain().removed == 20
        assert writer.segments() == []
        put(writer, "new", "a 1")
    check(folder, {"new": ["a 1"]})


def test_vectors_of_a_running_build_are_not_dropped(folder: Path) -> None:
    with open_writer(folder) as build, open_writer(folder, shared=True) as service:
        with build.commit() as commit:
            ahead = [f"ahead {number}" for number in range(40)]
            vectors = np.stack([vector_of(text) for text in ahead])
            commit.add_vectors([key(text) for text in ahead], vectors, [False] * 40)
        assert service.maintain().removed == 0
        assert len(build.find_vectors(key(text) for text in ahead)) == 40
        assert build.maintain().removed == 40
    check(folder, documents())


def test_what_an_older_version_merged_meanwhile(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds the lock of commits all the time, and knows no lock of maintenance."""

    def older() -> None:
        with open_writer(folder, shared=True) as other:
            assert maintenance._maintain(other, lambda _id: None).merged == 10  # type: ignore[arg-type]

    meanwhile(monkeypatch, older)
    with open_writer(folder, shared=True) as writer:
        assert writer.maintain() == Maintained()
        assert [row.rows for row in writer.segments()] == [20]
        assert writer.maintain() == Maintained()
    check(folder, documents())


def test_an_approximate_index_of_a_segment_that_is_gone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "MIN_ANN_ROWS", 10)
    write = maintenance.write_ann

    def and_then(*arguments: Any, **options: Any) -> Any:
        made = write(*arguments, **options)
        with open_writer(folder, shared=True) as other, other.commit() as commit:
            (segment,) = other.segments()
            rows = other.rows_of(segment.id, used=False)  # type: ignore[attr-defined]
            commit.replace_segments([segment], [], DIM)  # type: ignore[attr-defined]
            assert len(rows.ids) == 20
        return made

    with open_writer(folder, shared=True) as writer:
        with writer.commit() as commit:
            commit.set_index_type("hnsw", 0.5)
        monkeypatch.setattr(maintenance, "write_ann", and_then)
        assert writer.maintain() == Maintained()
        monkeypatch.undo()
        monkeypatch.setattr(maintenance, "MIN_ANN_ROWS", 10)
        assert writer.maintain().ann is not None
    check(folder, documents())


def test_only_who_holds_the_lock_removes_pending_files(folder: Path) -> None:
    stray = folder / "vectors-0123456789abcdef.faiss.pending"
    stray.write_bytes(b"left by a killed process")
    with locks.maintenance_lock(folder) as held, open_writer(folder, shared=True) as writer:
        assert held
        put(writer, "new", "new")
        writer.maintain()
        assert stray.exists()
    with open_writer(folder, shared=True) as writer:
        writer.maintain()
    check(folder, {**documents(), "new": ["new"]})


def test_a_compaction_waits_for_maintenance(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "COMPACT_WAIT_SECONDS", 0.1)
    with open_writer(folder) as writer:
        with locks.maintenance_lock(folder), pytest.raises(IndexLocked, match="merging"):
            writer.compact()
        assert writer.compact().merged == 10


KILLED = """
import os, sys
from pathlib import Path
from retrieval.store import open_writer
from retrieval.store.disk.writing import maintenance, writer
name = sys.argv[2]
module = {"write_vector_file": maintenance, "update_lexical": writer}[name]
real = getattr(module, name)
def kill(*arguments, **options):
    real(*arguments, **options)
    os.kill(os.getpid(), 9)
setattr(module, name, kill)
with open_writer(Path(sys.argv[1]), shared=True) as opened:
    opened.maintain()
"""


@pytest.mark.parametrize("after", ["write_vector_file", "update_lexical"])
def test_killed_maintenance_leaves_the_index_as_it_was(folder: Path, after: str) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, folder, after], check=False)
    assert done.returncode == -9
    with closing(open_writer(folder, shared=True)) as writer:
        assert len(writer.segments()) == 10
        assert writer.maintain().merged == 10
    check(folder, documents())


def test_commits_without_maintenance_leave_few_segments(tmp_path: Path) -> None:
    expected = {}
    with open_writer(tmp_path / "index", shared=True) as writer:
        writer.set_model(MODEL, CHUNKING, "en")
        for number in range(60):
            put(writer, f"n{number}", f"n{number}", "shared")
            expected[f"n{number}"] = [f"n{number}", "shared"]
            assert len(writer.segments()) <= maintenance.MAX_TINY_SEGMENTS
            if number % 7 == 6:
                remove(writer, f"n{number - 3}")
                del expected[f"n{number - 3}"]
    check(tmp_path / "index", expected)


def test_commits_leave_segments_alone_that_maintenance_works_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = documents()
    with (
        open_writer(folder, shared=True) as writer,
        open_writer(folder, shared=True) as other,
    ):

        def put_many() -> None:
            for number in range(20):
                put(other, f"n{number}", f"n{number}")
                expected[f"n{number}"] = [f"n{number}"]

        meanwhile(monkeypatch, put_many)
        assert writer.maintain().merged == 10
        assert len(writer.segments()) <= 1 + maintenance.MAX_TINY_SEGMENTS
    check(folder, expected)


def test_commits_undo_maintenance_whose_claim_they_missed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = documents()
    monkeypatch.setattr(maintenance, "claimed_segments", lambda _folder: 0)
    with (
        open_writer(folder, shared=True) as writer,
        open_writer(folder, shared=True) as other,
    ):
        meanwhile(monkeypatch, lambda: put(other, "n", "n"))
        assert writer.maintain() == Maintained()
        assert writer.maintain() == Maintained()  # few are left; its pending file goes
    check(folder, expected | {"n": ["n"]})


@given(sizes=st.lists(st.integers(1, 20_000), max_size=40))
def test_which_segments_are_merged(sizes: list[int]) -> None:
    small = [
        SegmentInfo(number, "", size, 0, 0, None, None, "", 0, "")
        for number, size in enumerate(sizes)
    ]
    due = maintenance.due_to_merge(small)
    if len(small) <= maintenance.MAX_SMALL_SEGMENTS:
        assert not due
        return
    assert len(due) >= 2
    assert len(small) - len(due) + 1 < maintenance.MAX_SMALL_SEGMENTS
    kept = [row.rows for row in small if row not in due]
    assert max(row.rows for row in due) <= min(kept, default=20_000)


def test_many_commits_leave_few_segments_and_move_few_rows() -> None:
    """Of 20,000 commits of one row each, with maintenance after every tenth."""
    segments: list[SegmentInfo] = []
    moved = 0

    def segment(rows: int) -> SegmentInfo:
        return SegmentInfo(len(segments), "", rows, 0, 0, None, None, "", 0, "")

    for number in range(1, 20_001):
        segments.append(segment(1))
        if number % 10:
            continue
        small = [row for row in segments if row.rows < maintenance.SMALL_SEGMENT_ROWS]
        if due := maintenance.due_to_merge(small):
            rows = sum(row.rows for row in due)
            moved += rows
            segments = [row for row in segments if row not in due]
            segments.append(segment(rows))
        assert len(segments) <= 10
    assert moved / 20_000 < 10


def test_maintenance_beside_many_small_commits(folder: Path) -> None:
    expected = documents()
    with open_writer(folder, shared=True) as writer:
        for number in range(30):
            put(writer, f"n{number}", f"n{number}", "shared")
            expected[f"n{number}"] = [f"n{number}", "shared"]
            writer.maintain()
        assert len(read_status(folder).segments) <= 9
    check(folder, expected)
