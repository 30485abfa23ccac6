"""Copies of a lake that are made while it is written, as docs/scale-out.md describes backups."""

import shutil
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from retrieval.store import Location, open_reader, open_writer, read_info, verify
from retrieval.store.lake.place import COMMITS
from tests.store.test_store import fill, key, staged, unit_vectors


def commit(index: Location, number: int) -> None:
    with open_writer(index) as writer:
        with writer.commit() as change:
            texts = [f"text {at} of {number}" for at in range(2)]
            ids = change.add_vectors(
                [key(text) for text in texts], unit_vectors(2, number), [False] * 2
            )
            change.put_document(staged("changed", texts, ids))
        writer.compact()


def back_up(place: Path, to: Path) -> None:
    """Copy the pointers, then everything else, file by file."""
    shutil.copytree(place / COMMITS, to / COMMITS, copy_function=copied)
    shutil.copytree(
        place,
        to,
        ignore=shutil.ignore_patterns(COMMITS),
        copy_function=copied,
        dirs_exist_ok=True,
    )


def copied(source: str, target: str) -> None:
    """Copy a file, unless it was a temporary one that is gone by now."""
    with suppress(FileNotFoundError):
        shutil.copy2(source, target)


@pytest.mark.slow
def test_a_copy_beside_a_writer_is_a_whole_generation(tmp_path: Path) -> None:
    place = tmp_path / "lake"
    index = Location("lance", str(place))
    fill(index, 5)
    first = read_info(index).generation
    ended = threading.Event()

    def write() -> None:
        for number in range(4):
            commit(index, number)
        ended.set()

    writer = threading.Thread(target=write)
    writer.start()
    copies = []
    seen = -1
    while not ended.is_set():
        if read_info(index).generation == seen:
            continue
        seen = read_info(index).generation
        copies.append(tmp_path / f"copy {len(copies)}")
        back_up(place, copies[-1])
    writer.join()
    assert len(copies) > 1
    for copy in copies:
        restored = Location("lance", str(copy))
        assert list(verify(restored)) == []
        generation = read_info(restored).generation
        assert first <= generation <= read_info(index).generation
        commit(restored, 99)  # what the copy has of later commits is undone
        assert list(verify(restored)) == []
        with open_reader(restored) as reader:
            assert reader.document_text(reader.document_by_uri("changed").id).endswith("of 99")
