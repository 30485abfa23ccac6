"""Old generations are removed; those that readers may need stay whole."""

import os
import shutil
import time
from pathlib import Path

import lance
import pytest

from retrieval.store import Location, verify
from retrieval.store.disk.lexical.segment_files import find_view
from retrieval.store.lake.objects.folder import FolderObjects
from retrieval.store.lake.place import Place
from retrieval.store.lake.reading.reader import LakeReader
from retrieval.store.lake.tables.pointer import generations, pointer_name, read_pointer
from retrieval.store.lake.writing import cleaning, maintenance
from tests.store.test_store import key, new_writer, staged, unit_vectors

KEPT_FROM = 6


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index with many generations, some of which have joined files."""
    place = tmp_path_factory.mktemp("made") / "lake"
    with pytest.MonkeyPatch.context() as patch, new_writer(Location("lance", str(place))) as writer:
        patch.setattr(maintenance, "MANY_FILES", 3)
        for number in range(12):
            with writer.commit() as commit:
                text = f"text {number}"
                ids = commit.add_vectors([key(text)], unit_vectors(1, number), [False])
                commit.put_document(staged(f"d/{number % 5}", [text], ids))
            if number in (4, 8):
                writer.maintain()
    return place


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Place:
    shutil.copytree(made, tmp_path / "lake", symlinks=True)
    return Place.in_folder(tmp_path / "lake")


def test_kept_generations_stay_whole(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = generations(place)
    expected = {number: _seen(place, number) for number in numbers[1:]}
    versions = len(lance.dataset(place.table_uri("chunks")).versions())
    # As if the first generations had been followed by others more than an hour ago.
    written = (place.folder / pointer_name(numbers[KEPT_FROM])).stat().st_mtime
    read, real = list[str](), FolderObjects.read
    with monkeypatch.context() as patch:
        patch.setattr(cleaning, "KEEP_SECONDS", time.time() - written)
        patch.setattr(cleaning, "WRITE_SECONDS", 0.01)
        patch.setattr(
            FolderObjects, "read", lambda self, name: read.append(name) or real(self, name)
        )
        cleaning.clean(place)
    assert len(read) == 2
    assert generations(place) == numbers[KEPT_FROM:]
    assert len(lance.dataset(place.table_uri("chunks")).versions()) < versions
    for number in generations(place):
        assert _seen(place, number) == expected[number]
    index = Location("lance", str(place.folder))
    assert list(verify(index)) == []
    with new_writer(index) as writer, writer.commit() as commit:
        commit.remove_document("d/1")
    assert list(verify(index)) == []


def _seen(place: Place, number: int) -> list[object]:
    with LakeReader.open(place, pointer=read_pointer(place, number)) as reader:
        documents = reader.documents(99)
        return [
            [reader.document_text(one.id) for one in documents],
            reader.search_lexical("text", 99).text_ids.tolist(),
            reader.search_vectors(unit_vectors(1), 99).vector_ids.tolist(),
        ]


def test_generations_are_removed_together(place: Place) -> None:
    index = Location("lance", str(place.folder))
    with new_writer(index) as writer:
        writer.compact()
    numbers = generations(place)

    def age(number: int, hours: float) -> None:
        written = time.time() - hours * 3600
        os.utime(place.folder / pointer_name(number), (written, written))

    with new_writer(index) as writer:
        for number in numbers[:4]:
            age(number, 1.1)
        writer.maintain()  # some are due, but not for long
        assert generations(place) == numbers
        age(numbers[1], 1.2)
        writer.maintain()
        assert generations(place) == numbers[3:]
    assert list(verify(index)) == []


def test_what_no_generation_names_is_removed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    stray = place.folder / "words" / "lexical-0123.term"
    for path in (stray, place.folder / "commits" / "0123.tmp"):
        path.write_text("{")
    cleaning.clean(place)
    assert stray.exists()  # a writer may be about to name it
    monkeypatch.setattr(cleaning, "KEEP_SECONDS", 0.0)
    cleaning.clean(place)
    assert not stray.exists()
    assert len(list((place.folder / "commits").iterdir())) == 1
    assert list(verify(Location("lance", str(place.folder)))) == []


def test_views_of_words_stay_few(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    words = place.folder / "words"
    left = [words / "merging-0123.pending", words / "lexical-0123.tmp"]
    for folder in left:
        (folder / "inner").mkdir(parents=True)
    assert len(_folders(words)) >= 12 + len(left)
    old = read_pointer(place, generations(place)[KEPT_FROM])
    with LakeReader.open(place, pointer=old) as reader:
        expected = reader.search_lexical("text", 99)
        cleaning.clean(place)
        assert set(left) <= _folders(words)  # the writer may be at work
        monkeypatch.setattr(cleaning, "KEEP_SECONDS", 0.0)
        cleaning.clean(place)
        newest = read_pointer(place, generations(place)[-1])
        assert newest.words is not None
        assert _folders(words) == {find_view(words, newest.words)}
        assert repr(reader.search_lexical("text", 99)) == repr(expected)
    assert list(verify(Location("lance", str(place.folder)))) == []


def test_the_views_of_kept_generations_stay(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = generations(place)
    written = (place.folder / pointer_name(numbers[KEPT_FROM])).stat().st_mtime
    monkeypatch.setattr(cleaning, "KEEP_SECONDS", time.time() - written)
    monkeypatch.setattr(cleaning, "WRITE_SECONDS", 0.01)
    before = _folders(place.folder / "words")
    cleaning.clean(place)
    words = place.folder / "words"
    assert _folders(words) < before
    for number in generations(place):
        record = read_pointer(place, number).words
        assert record is not None
        assert find_view(words, record)


def _folders(words: Path) -> set[Path]:
    return {path for path in words.iterdir() if path.is_dir()}
