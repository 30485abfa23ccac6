"""Segments of the lexical index are merged outside commits, whatever other writers do meanwhile."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.store import Writer, open_reader, open_writer, verify
from retrieval.store.disk.lexical import lexical_merge
from retrieval.store.disk.lexical.segment_files import segments_of
from retrieval.store.disk.writing import maintenance
from retrieval.store.disk.writing.writer import DiskWriter
from tests.store.disk.lexical.test_lexical import texts_of
from tests.store.disk.writing.test_maintenance import put, remove
from tests.store.test_store import CHUNKING, MODEL


@pytest.fixture(scope="module")
def twenty_commits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of 20 documents, each of which came with a commit of its own."""
    folder = tmp_path_factory.mktemp("commits") / "index"
    with open_writer(folder, shared=True) as writer:
        writer.set_model(MODEL, CHUNKING, "en")
        for number in range(20):
            put(writer, f"{number}", f"fox word{number}", f"hound word{number}")
    return folder


@pytest.fixture
def folder(twenty_commits: Path, tmp_path: Path) -> Path:
    """A copy of that index."""
    return Path(shutil.copytree(twenty_commits, tmp_path / "index", symlinks=True))


def sizes(writer: Writer) -> list[int]:
    """Number of texts of each segment, in order of size."""
    assert isinstance(writer, DiskWriter)
    state = writer.lexical_segments()
    assert state is not None
    return sorted(segments_of(state.meta).values())


def found(folder: Path, words: str) -> set[str]:
    """The texts with a word, in an index that is whole."""
    with open_reader(folder) as reader:
        texts = texts_of(reader, words, 1000)
    assert list(verify(folder)) == []
    assert not list(folder.glob("*.pending"))
    assert not list(folder.glob("*.tmp"))
    return set(texts)


def meanwhile(monkeypatch: pytest.MonkeyPatch, do: Callable[[], None]) -> None:
    """Do something once the merged segments are written, before they are committed."""
    flushed = lexical_merge._flushed
    done = list[bool]()

    def and_then(*arguments: Any) -> Any:
        made = flushed(*arguments)
        if not done:
            done.append(True)
            do()
        return made

    monkeypatch.setattr(lexical_merge, "_flushed", and_then)


def test_a_commit_adds_a_segment_and_merges_none(folder: Path) -> None:
    with open_writer(folder, shared=True) as writer:
        assert sizes(writer) == [2] * 20
        writer.maintain()
        assert sizes(writer) == [40]
        put(writer, "new", "fox new")
        remove(writer, "3")
        assert sizes(writer) == [1, 38]
    assert len(found(folder, "fox")) == 20
    assert found(folder, "word3") == set()


def test_texts_are_removed_and_added_meanwhile(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def others() -> None:
        with open_writer(folder, shared=True) as other:
            remove(other, "4")
            put(other, "5", "fox changed")
            put(other, "new", "fox new")

    meanwhile(monkeypatch, others)
    with open_writer(folder, shared=True) as writer:
        writer.maintain()
        assert sizes(writer) == [1, 1, 36]
    assert found(folder, "fox") == {
        *(f"fox word{number}" for number in range(20) if number not in (4, 5)),
        *("fox changed", "fox new"),
    }


def test_texts_are_removed_from_merged_segments(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def others() -> None:
        with open_writer(folder, shared=True) as other:
            put(other, "7", "hound word7")
            put(other, "8", "fox word8", "new")

    meanwhile(monkeypatch, others)
    with open_writer(folder, shared=True) as writer:
        writer.maintain()
        assert sizes(writer) == [1, 1, 37]
    assert len(found(folder, "fox")) == 19
    assert len(found(folder, "hound")) == 19


def test_all_texts_are_indexed_anew_while_others_commit(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def others() -> None:
        with open_writer(folder, shared=True) as other:
            remove(other, "4")
            put(other, "5", "fox changed")
            put(other, "new", "fox new")

    meanwhile(monkeypatch, others)
    with open_writer(folder) as writer:
        writer.compact()
        assert sizes(writer) == [2, 36]
    assert len(found(folder, "fox")) == 20
    assert found(folder, "word5") == set()


def test_another_language_comes_in_between(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def others() -> None:
        with open_writer(folder, shared=True) as other, other.commit() as commit:
            commit.set_language("de")

    meanwhile(monkeypatch, others)
    with open_writer(folder) as writer:
        writer.maintain()
        assert sizes(writer) == [40]
    assert len(found(folder, "fox")) == 20
    with open_writer(folder) as writer:
        writer.compact()
    assert len(found(folder, "fox")) == 20


def test_a_writer_alone_merges_too_many_segments(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrieval.store.disk.writing.writer.TOO_MANY_SEGMENTS", 20)
    with open_writer(folder, shared=True) as writer:
        put(writer, "new", "fox new")
        assert sizes(writer) == [41]
        with maintenance._alone(folder, 0.0):
            for number in range(30):
                put(writer, f"more{number}", f"more{number}")
            assert len(sizes(writer)) == 31, "another process merges"
    assert len(found(folder, "fox")) == 21


@given(st.lists(st.integers(1, 40_000_000), max_size=60))
def test_which_segments_are_merged(counts: list[int]) -> None:
    by_name = {str(number): count for number, count in enumerate(counts)}
    due = lexical_merge.due_to_merge(by_name)
    small = [name for name in by_name if by_name[name] <= 10_000]
    if due:
        assert len(due) >= 8
        texts = [by_name[name] for name in due]
        assert max(texts) <= 10_000 or max(texts) <= 2**0.75 * min(texts)
    else:
        assert len(small) <= lexical_merge.MAX_SMALL_SEGMENTS


def test_many_commits_leave_few_segments_and_move_few_texts() -> None:
    """Of 20,000 commits of one text each, with maintenance after every twentieth."""
    segments, moved = dict[str, int](), 0
    for number in range(1, 20_001):
        segments[str(number)] = 1
        if number % 20:
            continue
        while due := lexical_merge.due_to_merge(segments):
            texts = sum(segments.pop(name) for name in due)
            segments[f"merged {number} {texts}"] = texts
            moved += texts
        assert len(segments) <= 20
    assert moved / 20_000 < 10
