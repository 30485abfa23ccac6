"""Vectors in requests and answers: numpy arrays if numpy is installed, else ``array("f")``.

A client needs no numpy. Where it is installed, it is imported with the first vector and not before,
because that takes 0.1 s.
"""

import sys
from array import array
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

from retrieval.domain.arguments import kind_of
from retrieval.errors import InvalidArgument
from retrieval.v1 import vector_pb2

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def answered(vectors: Iterable[Iterable[float]]) -> "NDArray[np.float32]":
    """Return n vectors as float32 [n, dim]; without numpy, as a list of n ``array("f")``."""
    try:
        import numpy as np
    except ModuleNotFoundError:
        # Where numpy is not installed, NDArray is Any for a type checker, too.
        arrays: Any = [array("f", vector) for vector in vectors]
        return arrays  # type: ignore[no-any-return]
    return np.array(list(vectors), dtype=np.float32)


def query_vector(values: Any) -> vector_pb2.Vector:  # noqa: ANN401  (anything else is refused)
    """Return a query's vector.

    Raises:
        InvalidArgument: the values are not real numbers, or not in one dimension.
    """
    if values is None or isinstance(values, str | bytes):
        raise _refused(values)
    try:
        import numpy  # noqa: F401
    except ModuleNotFoundError:
        return vector_pb2.Vector(values=_plain(values))
    return vector_pb2.Vector(values=_array(values))


def is_numpy(value: object, kind: str) -> bool:
    """Return whether a value is of a type of numpy's, such as ``bool_``; does not import numpy.

    A program that has such a value has imported numpy itself.
    """
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, getattr(numpy, kind))


def _array(values: Any) -> "NDArray[np.float32]":  # noqa: ANN401
    import numpy as np

    try:
        given = np.asarray(values)
        if given.dtype.kind not in "iuf" or not given.ndim:
            raise _refused(values)
        with np.errstate(over="ignore"):  # the server refuses what is not finite
            numbers = given.astype(np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise _refused(values) from error
    if numbers.ndim != 1:
        raise _not_flat(f"has the shape {numbers.shape}")
    return numbers


def _plain(values: Any) -> Iterable[float]:  # noqa: ANN401
    """Return the numbers of a flat sequence, as numpy would read them."""
    if not isinstance(values, Sequence | array | memoryview):
        raise _refused(values)
    if any(isinstance(value, Sequence | array) and not isinstance(value, str) for value in values):
        raise _not_flat("is a list of lists")
    if not all(isinstance(value, Real) and not isinstance(value, bool) for value in values):
        raise _refused(values)
    try:
        return array("f", values)
    except OverflowError as error:  # a whole number beyond all doubles
        raise _refused(values) from error


def _refused(values: object) -> InvalidArgument:
    return InvalidArgument(
        f"the query is {kind_of(values)}; give a text, a passage, or a vector of numbers",
        field="query",
    )


def _not_flat(found: str) -> InvalidArgument:
    return InvalidArgument(f"the query vector {found}; it must have one dimension", field="query")
