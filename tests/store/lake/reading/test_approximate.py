"""The approximate index of a lake: recall, filters, upkeep, damage; and what it never changes."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from retrieval.domain.records import ChunkSettings
from retrieval.errors import IndexDamaged, InvalidArgument
from retrieval.store import (
    IndexType,
    Location,
    Maintained,
    Reader,
    Writer,
    open_reader,
    open_writer,
    parse_filter,
    read_info,
    read_status,
    remove_documents,
    verify,
)
from retrieval.store.disk.vectors import tuning
from retrieval.store.lake.place import Place
from retrieval.store.lake.reading import search
from retrieval.store.lake.tables import pointer
from retrieval.store.lake.tables.layout import Fragment, Layout
from retrieval.store.lake.vectors import making
from retrieval.store.lake.vectors.row_sets import row_set
from retrieval.store.lake.writing import indexing
from tests.store.disk.vectors.test_approximate import DIM, MODEL, add, clustered, recall

ROWS = 3000
SAME = 1e-6


def lake(folder: Path) -> Location:
    return Location("lance", str(folder / "lake"))


def make(
    index: Location,
    vectors: NDArray[np.float32],
    index_type: IndexType = "ivf",
    target: float = 0.95,
) -> Maintained:
    with open_writer(index) as writer:
        writer.set_model(replace(MODEL, dim=vectors.shape[1]), ChunkSettings(100, 0))
        with writer.commit() as commit:
            commit.set_index_type(index_type, target)
        add(writer, vectors, "a")
        return writer.maintain()


@pytest.fixture(scope="module")
def vectors() -> NDArray[np.float32]:
    return clustered(ROWS, 1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, vectors: NDArray[np.float32]) -> Location:
    index = lake(tmp_path_factory.mktemp("approximate"))
    assert make(index, vectors).ann is not None
    return index


@pytest.fixture
def own(made: Location, tmp_path: Path) -> Location:
    """A copy of the index that a test may change."""
    shutil.copytree(made.path, tmp_path / "lake")
    return lake(tmp_path)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Index few vectors, too, and search them by the index."""
    monkeypatch.setattr(making, "MIN_ANN_ROWS", 20)
    monkeypatch.setattr(search, "_FEW_ROWS", 0)


@pytest.fixture(autouse=True)
def few_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tune with fewer queries, which takes less time."""
    monkeypatch.setattr(tuning, "QUERIES", 30)


def assert_right(reader: Reader, queries: NDArray[np.float32], least: float) -> None:
    """What is found has its exact score, in order; and enough of the best is found."""
    exact = reader.search_vectors(queries, 10, exact=True)
    found = reader.search_vectors(queries, 10)
    for row, query in enumerate(queries):
        scores = reader.vectors(found.vector_ids[row].tolist()) @ query
        np.testing.assert_allclose(found.scores[row], scores, atol=SAME)
        order = np.lexsort((found.vector_ids[row], -found.scores[row]))
        assert (order == np.arange(len(order))).all()
    assert (found.scores >= exact.scores[:, -1:] - SAME).mean() >= least


def parts(index: Location) -> int:
    ann = pointer.read_newest(Place.of(index)).ann
    return len(ann.parts) if ann else 0


def test_recall_is_measured_and_reached(made: Location, vectors: NDArray[np.float32]) -> None:
    (segment,) = read_status(made).segments
    assert segment.ann is not None
    assert segment.ann.kind == "ivf"
    assert segment.ann.recall >= 0.95
    assert segment.ann.queries == 200
    assert 0 < segment.ann_size < segment.size / 4
    queries = clustered(50, 2)
    with open_reader(made) as reader:
        assert not reader.is_exact
        assert_right(reader, queries, 0.95)
        exact = reader.search_vectors(queries, 10, exact=True)
        best = np.sort(queries @ vectors.T, axis=1)[:, ::-1][:, :10]
        np.testing.assert_allclose(exact.scores, best, atol=SAME)
        # One query gives what it gives among others, and a longer list begins like a shorter one.
        alone = reader.search_vectors(queries[7:8], 10)
        among = reader.search_vectors(queries, 10)
        assert alone.vector_ids[0].tolist() == among.vector_ids[7].tolist()
        everything = reader.search_vectors(queries[:2], 2 * ROWS)
        assert everything.vector_ids.shape == (2, ROWS)
        assert all(len(set(row)) == ROWS for row in everything.vector_ids.tolist())
    assert list(verify(made)) == []


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5, 0.9])
def test_filters_keep_recall(made: Location, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_FEW_ROWS", 0)
    queries = clustered(40, 3)
    where = parse_filter(f"number<{max(1, round(share * ROWS / 20))}")
    with open_reader(made) as reader:
        exact = reader.search_vectors(queries, 10, filter=where, exact=True)
        found = reader.search_vectors(queries, 10, filter=where)
    assert recall(found.vector_ids, exact.vector_ids) >= 0.99


def test_scores_are_those_of_an_index_in_a_folder(
    made: Location, vectors: NDArray[np.float32], tmp_path: Path
) -> None:
    make(Location("", str(tmp_path / "folder")), vectors, "flat")
    queries = clustered(20, 4)
    with open_reader(made) as one, open_reader(tmp_path / "folder") as two:
        exact = two.search_vectors(queries, 10)
        np.testing.assert_allclose(
            one.search_vectors(queries, 10, exact=True).scores, exact.scores, atol=SAME
        )
        found = one.search_vectors(queries, 10)
        for query, ids, scores in zip(queries, found.vector_ids, found.scores, strict=True):
            np.testing.assert_allclose(scores, two.score_vectors(query, ids), atol=SAME)


def test_new_vectors_are_beside_the_index_and_then_in_it(
    own: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = clustered(100, 5)
    with open_writer(own, create=False) as writer:
        add(writer, new, "b")
        assert writer.maintain() == Maintained()
        assert parts(own) == 1
        with open_reader(own) as reader:
            found = reader.search_vectors(new, 1)
            assert found.vector_ids[:, 0].tolist() == list(range(ROWS + 1, ROWS + 101))
            last = parse_filter("path:b/**")
            found = reader.search_vectors(new, 1, filter=last)
            assert found.vector_ids[:, 0].tolist() == list(range(ROWS + 1, ROWS + 101))
        # Maintenance adds many of them to the index, and a commit does so with more.
        monkeypatch.setattr(making, "MAX_PLAIN_ROWS", 50)
        writer.maintain()
        assert parts(own) == 2
        monkeypatch.setattr(making, "TAIL_BYTES", 10 * DIM * 4)
        for name in "cdef":
            add(writer, clustered(20, ord(name)), name)
        assert 1 < parts(own) <= making._MAX_PARTS
        with open_reader(own) as reader:
            assert_right(reader, clustered(30, 6), 0.95)
            found = reader.search_vectors(new, 1)
            assert found.vector_ids[:, 0].tolist() == list(range(ROWS + 1, ROWS + 101))
        # The lists were made for a part that is only half of the whole now.
        add(writer, clustered(ROWS, 7), "g")
        assert writer.maintain().ann is not None
        assert parts(own) == 1
    assert list(verify(own)) == []


def test_removed_documents_are_not_found_whatever_is_done(own: Location) -> None:
    queries = clustered(30, 8)
    gone = [f"docs/a/{number}.txt" for number in range(0, 150, 4)]
    remove_documents(own, gone)
    kept = {1 + row for row in range(ROWS) if row // 20 % 4}
    for step in ("removed", "maintained", "compacted"):
        with open_writer(own, create=False) as writer:
            done = {"maintained": writer.maintain, "compacted": writer.compact}.get(step)
            assert done is None or done() is not None
        with open_reader(own) as reader:
            found = reader.search_vectors(queries, 10)
            assert set(found.vector_ids.flat) <= kept, step
            assert_right(reader, queries, 0.95)
            again = reader.search_vectors(queries, 2000)
            assert set(again.vector_ids.flat) <= kept
    (segment,) = read_status(own).segments
    assert (segment.rows, segment.unused) == (len(kept), 0)
    assert segment.ann is not None
    assert list(verify(own)) == []


def test_joined_files_keep_the_index_right(own: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "MAX_PLAIN_ROWS", 10)
    monkeypatch.setattr("retrieval.store.lake.writing.maintenance.MANY_FILES", 2)
    with open_writer(own, create=False) as writer:
        for name in "bcd":
            add(writer, clustered(40, ord(name)), name)
        assert writer.maintain().merged > 2
    with open_reader(own) as reader:
        assert not reader.is_exact
        assert_right(reader, clustered(30, 9), 0.95)
        for name, first in zip("bcd", range(ROWS + 1, ROWS + 121, 40), strict=True):
            found = reader.search_vectors(clustered(40, ord(name)), 1)
            assert found.vector_ids[:, 0].tolist() == list(range(first, first + 40))


DEGENERATE = {
    "equal": np.repeat(clustered(1, 1), 1200, axis=0),
    "zero": np.zeros((1200, DIM), np.float32),
    "half zero": np.concatenate([np.zeros((600, DIM), np.float32), clustered(600, 1)]),
    "duplicates": np.repeat(clustered(60, 1), 20, axis=0),
    "one cluster": clustered(1, 1) + 1e-3 * clustered(1200, 2),
    "dimension 8": clustered(1200, 1)[:, :8].copy(),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_vectors_are_found_with_their_scores(name: str, tmp_path: Path) -> None:
    vectors = DEGENERATE[name]
    index = lake(tmp_path)
    done = make(index, vectors, target=0.9)
    assert done.ann is not None
    queries = clustered(20, 3)[:, : vectors.shape[1]].copy()
    with open_reader(index) as reader:
        assert_right(reader, queries, min(0.85, done.ann.recall - 0.1))
        assert reader.search_vectors(queries, 1500).vector_ids.shape == (20, 1200)


def test_the_type_decides(own: Location, tmp_path: Path) -> None:
    with open_writer(own, create=False) as writer:
        with writer.commit() as commit:
            with pytest.raises(InvalidArgument, match="type hnsw: use --index-type ivf"):
                commit.set_index_type("hnsw", 0.95)
            commit.set_index_type("flat", 0.95)
        assert writer.maintain() == Maintained()
    with open_reader(own) as reader:
        assert reader.is_exact
    assert read_status(own).segments[0].ann is None
    with open_writer(own, create=False) as writer, writer.commit() as commit:
        commit.set_index_type("auto", 0.95)
    with open_writer(own, create=False) as writer:
        assert writer.maintain() == Maintained()  # small enough to be searched exactly
    with open_writer(lake(tmp_path / "odd")) as writer:
        writer.set_model(replace(MODEL, dim=12), ChunkSettings(100, 0))
        with writer.commit() as commit, pytest.raises(InvalidArgument, match="multiple of 8"):
            commit.set_index_type("ivf", 0.95)


def test_another_recall_is_tuned_for(own: Location) -> None:
    for target in (0.8, 0.99):
        with open_writer(own, create=False) as writer:
            with writer.commit() as commit:
                commit.set_index_type("ivf", target)
            done = writer.maintain()
            assert done.tuned is not None
            assert done.tuned.recall >= done.tuned.target == target
            assert writer.maintain() == Maintained()
        with open_reader(own) as reader:
            assert_right(reader, clustered(30, 10), target - 0.05)


def test_auto_stays_exact_where_the_recall_is_missed(
    tmp_path: Path, vectors: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "EXACT_ROWS", 0)
    index = lake(tmp_path)
    monkeypatch.setattr(indexing, "tuned", _half_tuned)
    done = make(index, vectors[:1200], "auto")
    assert done.ann is None
    assert done.missed is not None
    with open_reader(index) as reader:
        assert reader.is_exact
    (segment,) = read_status(index).segments
    assert segment.ann is None
    assert segment.missed == done.missed
    with open_writer(index, create=False) as writer:
        assert writer.maintain() == Maintained()
        monkeypatch.undo()
        monkeypatch.setattr(making, "EXACT_ROWS", 0)
        with writer.commit() as commit:
            commit.set_index_type("auto", 0.4)
        assert writer.maintain().ann is not None
        assert read_status(index).segments[0].missed is None


def _half_tuned(*arguments: object) -> object:
    """Stand for data on which no setting reaches the target."""
    record, target = arguments[2:]
    assert isinstance(record, pointer.AnnRecord)
    assert isinstance(target, float)
    return replace(record.settings, recall=0.5, queries=200, target=target)


@pytest.mark.parametrize("how", ["missing", "half", "other bytes"])
def test_a_damaged_index_is_named_and_made_anew(own: Location, how: str) -> None:
    for file in Path(own.path).glob("tables/vectors.lance/_indices/*/*"):
        content = file.read_bytes()
        if how == "missing":
            file.unlink()
        else:
            half = len(content) // 2
            file.write_bytes(content[:half] if how == "half" else bytes(len(content)))
    with open_reader(own) as reader:
        with pytest.raises(IndexDamaged, match="indexer compact --index lance://"):
            reader.search_vectors(clustered(1, 1), 10)
        assert reader.search_vectors(clustered(1, 1), 10, exact=True).vector_ids.shape == (1, 10)
    assert ["compact" in problem.advice for problem in verify(own)] == [True]
    with open_writer(own, create=False) as writer:
        assert writer.compact().ann is not None
    assert list(verify(own)) == []
    with open_reader(own) as reader:
        assert_right(reader, clustered(20, 2), 0.9)


def test_pointers_of_earlier_versions_are_read(tmp_path: Path) -> None:
    index = lake(tmp_path)
    make(index, clustered(40, 1), "auto")
    place = Place.of(index)
    name = pointer.pointer_name(read_info(index).generation)
    path = Path(index.path) / name
    whole = json.loads(path.read_bytes())
    for field in ("ann", "missed"):
        del whole["commit"][field]
    whole["sha256"] = pointer._digest(whole["commit"])
    path.write_text(json.dumps(whole))
    assert pointer.read_newest(place).ann is None
    with open_reader(index) as reader:
        assert reader.search_vectors(clustered(1, 1), 10).vector_ids.shape == (1, 10)


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    fragments = []
    for number in draw(st.lists(st.integers(0, 99), unique=True, min_size=1, max_size=4)):
        written = draw(st.sampled_from([1, 50, 70_000]))
        share = draw(st.sampled_from([0.0, 0.3]))
        gone = np.flatnonzero(np.random.default_rng(number).random(written) < share)
        deletions = "some" if len(gone) else ""
        fragments.append(Fragment(number, (), deletions, written, gone.astype(np.uint32)))
    return Layout(sorted(fragments, key=lambda one: one.number))


@settings(max_examples=25, deadline=None)
@given(layouts(), st.floats(0, 1), st.integers(0, 9))
def test_rows_are_written_as_lance_writes_them(layout: Layout, share: float, seed: int) -> None:
    from lance.dataset import serialize_row_addrs

    mask = np.random.default_rng(seed).random(layout.rows) < share
    rows = np.flatnonzero(mask)
    addresses = layout.addresses(rows)
    assert row_set(layout, mask) == serialize_row_addrs(addresses)
    assert (layout.rows_at(np.array(addresses, np.uint64)) == rows).all()


@pytest.mark.usefixtures("small")
@settings(
    max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.sampled_from("aarmc"), min_size=3, max_size=7), st.integers(0, 9))
def test_any_writes_leave_what_was_added_and_not_removed(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], seed: int
) -> None:
    index = lake(tmp_path_factory.mktemp("any"))
    make(index, clustered(200, seed), target=0.9)
    held = {number: set(range(1 + 20 * number, 21 + 20 * number)) for number in range(10)}
    uris = {number: f"docs/a/{number}.txt" for number in held}
    following = 201
    with open_writer(index, create=False) as writer:
        for at, step in enumerate(steps):
            if step == "a":
                add(writer, clustered(20, seed + at), f"s{at}")
                number = len(held) + 100 * at
                held[number] = set(range(following, following + 20))
                uris[number] = f"docs/s{at}/0.txt"
                following += 20
            elif step == "r" and held:
                number = sorted(held)[(seed + at) % len(held)]
                _remove(writer, uris[number])
                del held[number]
            else:
                writer.maintain() if step == "m" else writer.compact()
            with open_reader(index) as reader:
                there = set().union(*held.values())
                queries = clustered(3, seed)
                for where in (None, parse_filter("number=0")):
                    found = reader.search_vectors(queries, 500, filter=where)
                    expected = reader.search_vectors(queries, 500, filter=where, exact=True)
                    assert found.vector_ids.tolist() == expected.vector_ids.tolist()
                    assert set(found.vector_ids.flat) <= there
                assert set(reader.search_vectors(queries, 500).vector_ids.flat) == there
                assert set(reader.search_vectors(queries, 3).vector_ids.flat) <= there


def _remove(writer: Writer, uri: str) -> None:
    with writer.commit() as commit:
        assert commit.remove_document(uri)
