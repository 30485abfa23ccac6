"""Vectors of a client, with numpy and in an environment that has none."""

import sys
from array import array
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.client import RetrievalClient
from retrieval.client.vectors import answered, query_vector
from retrieval.errors import InvalidArgument
from tests.tiny_model import DIM


@pytest.fixture
def no_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make ``import numpy`` fail, as where it is not installed."""
    monkeypatch.setitem(sys.modules, "numpy", None)


@pytest.fixture(params=["with numpy", "without numpy"])
def either(request: pytest.FixtureRequest) -> None:
    if request.param == "without numpy":
        request.getfixturevalue("no_numpy")


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize(
    "values",
    [
        [1, 2.5, -3],
        (1.0, 2.5, -3.0),
        array("f", [1.0, 2.5, -3.0]),
        memoryview(array("d", [1.0, 2.5, -3.0])),
    ],
)
def test_a_sequence_of_numbers_is_a_vector(values: Any) -> None:
    assert list(query_vector(values).values) == [1.0, 2.5, -3.0]


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize(
    ("values", "message"),
    [
        (None, "the query is None; give a text, a passage, or a vector of numbers"),
        (b"bread", "the query is of type bytes"),
        ({1.0, 2.0}, "the query is of type set"),
        ({1.0: 2.0}, "the query is of type dict"),
        (3.0, "the query is of type float"),
        (iter([1.0, 2.0]), "the query is of type list_iterator"),
        (["a", "b"], "the query is of type list"),
        ([1.0, None], "the query is of type list"),
        ([True, False], "the query is of type list"),
        ([10**400], "the query is of type list"),
        ([1j], "the query is of type list"),
        ([[1.0, 2.0], [3.0, 4.0]], "; it must have one dimension"),
    ],
)
def test_what_is_no_vector(values: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message) as refused:
        query_vector(values)
    assert refused.value.metadata["field"] == "query"


@pytest.mark.usefixtures("no_numpy")
def test_without_numpy_vectors_are_arrays() -> None:
    assert answered([[1.0, 0.5], [0.0, 2.0]]) == [array("f", [1.0, 0.5]), array("f", [0.0, 2.0])]


@given(st.lists(st.floats(), max_size=8))
def test_both_ways_send_the_same(values: list[float]) -> None:
    with_numpy = query_vector(values).SerializeToString()
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(sys.modules, "numpy", None)
        assert query_vector(values).SerializeToString() == with_numpy


def test_with_numpy_vectors_are_its_arrays(client: RetrievalClient) -> None:
    one, several = client.embed("bread", "query"), client.embed(["bread"], "query")
    assert (one.dtype, one.shape, several.shape) == (np.float32, (DIM,), (1, DIM))
