"""Segments have a largest size, so an index may have any number of vectors."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.errors import InvalidArgument
from retrieval.store import open_reader, read_status, verify
from retrieval.store.disk.files import vector_file
from retrieval.store.disk.writing import maintenance
from tests.store.test_store import fill, new_writer, unit_vectors

LARGEST = vector_file.MAX_SEGMENT_ROWS
ROWS = 40
"""Of the largest segment here."""


@pytest.fixture(scope="module", autouse=True)
def small_segments() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(vector_file, "MAX_SEGMENT_ROWS", ROWS)
        patched.setattr(maintenance, "MIN_ANN_ROWS", 20)
        patched.setattr(maintenance, "MAX_PLAIN_ROWS", 10)
        patched.setattr(maintenance, "SMALL_SEGMENT_ROWS", 10)
        yield


@given(
    sizes=st.lists(st.integers(1, 3 * ROWS), min_size=1, max_size=6),
    kind=st.sampled_from(["flat", "hnsw"]),
    compacted=st.booleans(),
)
@settings(max_examples=8, deadline=None)
def test_no_segment_is_larger_and_every_vector_is_found(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], kind: str, compacted: bool
) -> None:
    folder = tmp_path_factory.mktemp("index")
    added = []
    for number, size in enumerate(sizes):
        added.append(fill(folder, size, name=f"d/{number}", seed=number))
        with new_writer(folder) as writer:
            with writer.commit() as commit:
                commit.set_index_type(kind, 0.9)
            writer.compact() if compacted else writer.maintain()
            before = writer.segments()
            assert writer.maintain().merged == 0, "what is done is done"
            assert writer.segments() == before
    found = read_status(folder).segments
    assert max(segment.rows for segment in found) <= ROWS
    assert sum(segment.rows for segment in found) == sum(sizes)
    assert list(verify(folder)) == []
    vectors, queries = np.concatenate(added), unit_vectors(3, 99)
    with open_reader(folder) as reader:
        scores = reader.search_vectors(queries, 10, exact=True).scores
    expected = -np.sort(-(queries @ vectors.T), axis=1)[:, :10]
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_what_is_full_is_not_written_again(tmp_path: Path) -> None:
    """However an index grows, a vector is moved a few times."""
    written = 0
    for number in range(12):
        fill(tmp_path, ROWS // 2, name=f"d/{number}", seed=number)
        before = {segment.file for segment in read_status(tmp_path).segments}
        with new_writer(tmp_path) as writer:
            with writer.commit() as commit:
                commit.set_index_type("hnsw", 0.9)
            writer.maintain()
        written += sum(
            segment.rows for segment in read_status(tmp_path).segments if segment.file not in before
        )
    assert written <= 3 * 12 * ROWS // 2


def test_the_largest_segment_is_one_that_sqlite_takes() -> None:
    """Its ids are one value of 8 bytes a row, in a row with little else."""
    with closing(sqlite3.connect(":memory:")) as connection:
        most = connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH)
    assert most / 4 < 8 * LARGEST < most - 10_000


def test_a_larger_one_is_refused_before_it_is_written(tmp_path: Path) -> None:
    vectors = unit_vectors(ROWS + 1)
    with (
        new_writer(tmp_path) as writer,
        writer.commit() as commit,
        pytest.raises(InvalidArgument, match="takes 40 rows, not 41"),
    ):
        commit.add_segment([vectors], np.arange(1, ROWS + 2), 8)
    assert not list(tmp_path.glob("vectors-*"))
