"""The approximate index beside commits, and what other writers do to it meanwhile."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from retrieval.errors import IndexLocked
from retrieval.store import Location, Maintained, open_reader, open_writer, verify
from retrieval.store.disk.vectors import tuning
from retrieval.store.lake.place import Place
from retrieval.store.lake.tables.generation import Generation
from retrieval.store.lake.tables.pointer import read_newest
from retrieval.store.lake.tables.schema import VECTORS, TableChange
from retrieval.store.lake.vectors import making
from retrieval.store.lake.writing import indexing
from tests.store.disk.vectors.test_approximate import add, clustered
from tests.store.lake.reading.test_approximate import lake, make


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Location:
    index = lake(tmp_path_factory.mktemp("indexing"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(making, "MIN_ANN_ROWS", 100)
        patch.setattr(tuning, "QUERIES", 10)
        assert make(index, clustered(400, 1), target=0.5).ann is not None
    return index


@pytest.fixture
def own(made: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Location:
    """A copy of an index of 400 vectors that a test may change."""
    monkeypatch.setattr(making, "MIN_ANN_ROWS", 100)
    monkeypatch.setattr(tuning, "QUERIES", 10)
    shutil.copytree(made.path, tmp_path / "lake", symlinks=True)
    return lake(tmp_path)


def test_a_commit_without_vectors_beside_a_large_tail(
    own: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_writer(own, create=False) as writer:
        add(writer, clustered(40, 2), "b")
        monkeypatch.setattr(making, "TAIL_BYTES", 0)
        with writer.commit() as commit:
            assert commit.remove_document("docs/a/0.txt")
        with open_reader(own) as reader:
            assert "docs/a/0.txt" not in {one.uri for one in reader.documents(99)}
        add(writer, clustered(20, 3), "c")
    ann = read_newest(Place.of(own)).ann
    assert ann is not None
    assert ann.rows == 460
    # Few queries tune it, so the recall of others may be lower.
    assert all("recall" in one.what for one in verify(own))


def _while_tuning(
    monkeypatch: pytest.MonkeyPatch, index: Location, act: Callable[[], None]
) -> Maintained:
    """Tune for another target; let something happen before the result is recorded."""
    real = indexing.tuned

    def tuned(*arguments: object) -> object:
        monkeypatch.setattr(indexing, "tuned", real)
        found = real(*arguments)  # type: ignore[arg-type]
        act()
        return found

    with open_writer(index, create=False) as writer:
        with writer.commit() as commit:
            commit.set_index_type("ivf", 0.4)
        monkeypatch.setattr(indexing, "tuned", tuned)
        return indexing.keep_index(writer)  # type: ignore[arg-type]


@pytest.mark.parametrize("change", ["dropped", "made anew", "extended"])
def test_another_writer_changes_the_index_while_it_is_tuned(
    own: Location, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    def act() -> None:
        with open_writer(own, shared=True) as other:
            if change == "dropped":
                indexing.forget_index(other)  # type: ignore[arg-type]
            elif change == "made anew":
                indexing.keep_index(other, anew=True)  # type: ignore[arg-type]
            else:
                with monkeypatch.context() as patch:
                    patch.setattr(making, "TAIL_BYTES", 0)
                    add(other, clustered(20, 2), "b")

    done = _while_tuning(monkeypatch, own, act)
    ann = read_newest(Place.of(own)).ann
    if change == "dropped":
        assert ann is None
    else:
        assert ann is not None
        assert ann.rows == 400 + 20 * (change == "extended")
        assert ann.settings.target == 0.4
    assert done == (
        Maintained(tuned=ann.settings) if ann and change == "extended" else Maintained()
    )
    # Few queries tune it, so the recall of others may be lower.
    assert all("recall" in one.what for one in verify(own))


def test_another_writer_s_rows_are_not_taken_for_a_change_of_the_index(own: Location) -> None:
    """Lance changes nothing if an index is complete, so the next version may be another's."""
    place = Place.of(own)
    base = Generation(place, read_newest(place))
    named = base.pointer.tables[VECTORS]
    ours = TableChange(place, VECTORS, named, base.schema(VECTORS))
    rows = base.table(VECTORS).to_table(limit=1)

    def change(table: object) -> None:
        del table
        TableChange(place, VECTORS, named, base.schema(VECTORS)).append(rows)

    with pytest.raises(IndexLocked, match="nothing was changed"):
        ours.apply(change)
