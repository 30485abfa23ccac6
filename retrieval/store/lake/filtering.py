"""Evaluate filters over columns of documents and their metadata, with the meaning of ``filters``.

Comparisons run on whole columns. They are made here instead of in the engine's SQL, because that
compares 64-bit integers with floating-point numbers by rounding them.
"""

import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import reduce
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from retrieval.domain.deadline import check_wanted
from retrieval.store.disk.tables.filter_functions import filter_glob, filter_path_glob
from retrieval.store.filters.tree import (
    And,
    Comparison,
    Condition,
    Exists,
    Glob,
    In,
    Not,
    Operator,
    Or,
)
from retrieval.store.filters.values import Kind, Moment, Number, Text, Value
from retrieval.store.lake.tables.generation import Generation
from retrieval.store.lake.tables.keyed import Keyed
from retrieval.store.lake.tables.schema import DOCUMENTS, VALUES

Mask = NDArray[np.bool_]

COLUMNS: Final[Mapping[str, str]] = {
    **{name: name for name in ("path", "uri", "root", "title", "format", "encoding")},
    **{name: name for name in ("extension", "size")},
    "characters": "char_count",
    "chunks": "chunk_count",
    "modified": "mtime_ns",
}
"""Column of each built-in field."""

VALUE_COLUMNS: Final = ("document_id", "kind", "text", "whole", "real")
_NANOSECONDS: Final = 1000
_MOST_EXACT: Final = 1 << 53
"""Integers up to this one are floating-point numbers, too."""
_INT64: Final = range(-(2**63), 2**63)
_ANY_TEXT: Final = (Kind.TEXT, Kind.NUMBER, Kind.DATE, Kind.BOOLEAN)
_COMPARE: Final[Mapping[Operator, Callable[[Any, Any], Any]]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_COMPARE_TEXTS: Final[Mapping[Operator, Callable[[Any, Any], Any]]] = {
    "=": pc.equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}
_SPECIAL: Final = "*?["


class Documents(Protocol):
    """Documents that a filter is evaluated on."""

    @property
    def ids(self) -> NDArray[np.int64]:
        """Their ids, int64 [n]."""
        ...

    def column(self, name: str) -> Any:  # noqa: ANN401
        """Return a column of the table of documents, an Arrow array [n]."""
        ...

    def values(self, keys: Sequence[str]) -> Any:  # noqa: ANN401
        """Return ``VALUE_COLUMNS`` of the metadata stored under some keys, an Arrow table."""
        ...


class Stored:
    """The documents of a generation."""

    def __init__(self, generation: Generation) -> None:
        """Read from a generation."""
        self._generation = generation

    @property
    def ids(self) -> NDArray[np.int64]:
        """See ``Documents``."""
        return self._generation.numbers(DOCUMENTS, "id")

    def column(self, name: str) -> Any:  # noqa: ANN401
        """See ``Documents``."""
        return self._generation.column(DOCUMENTS, name)

    def values(self, keys: Sequence[str]) -> Any:  # noqa: ANN401
        """See ``Documents``."""
        return self._generation.read(VALUES, VALUE_COLUMNS, pc.field("key").isin(list(keys)))


def passing(condition: Condition, documents: Documents) -> Mask:
    """Return whether each of n documents passes a condition, bool [n].

    Raises:
        DeadlinePassed: no client waits for the answer any more.
    """
    check_wanted()
    match condition:
        case And(parts):
            return reduce(np.logical_and, (passing(part, documents) for part in parts))
        case Or(parts):
            return reduce(np.logical_or, (passing(part, documents) for part in parts))
        case Not(part):
            return ~passing(part, documents)
        case _ if condition.field.kind == "metadata":
            return _with_values(condition, documents)
        case _:
            return _built_in(condition, documents.column(COLUMNS[condition.field.name]))


def _with_values(condition: Comparison | In | Glob | Exists, documents: Documents) -> Mask:
    """Return which documents have a value that passes."""
    values = documents.values(condition.field.keys)
    chosen = values.filter(pa.array(_typed(condition, values)))
    found, _ = Keyed(documents.ids).find(chosen["document_id"].to_numpy())
    mask = np.zeros(len(documents.ids), bool)
    mask[found] = True
    return mask


def _built_in(condition: Comparison | In | Glob | Exists, column: Any) -> Mask:  # noqa: ANN401
    match condition:
        case Comparison(_, compare, value):
            return _compare(column, compare, value)
        case In(_, values):
            return _in_column(column, values)
        case Glob(field, pattern):
            return _glob(column, pattern, filter_path_glob if field.kind == "path" else filter_glob)
        case Exists():
            return np.ones(len(column), bool)


def _compare(column: Any, compare: Operator, value: Value) -> Mask:  # noqa: ANN401
    """Compare a column whose values all have the type of the given value."""
    match value:
        case Moment():
            return _compare_moment(_numbers(column), compare, value, _NANOSECONDS)
        case Number(value=number):
            return _compare_whole(_numbers(column), compare, number)
        case Text(text):
            return _mask(_COMPARE_TEXTS[compare](column, text))


def _in_column(column: Any, values: Sequence[Value]) -> Mask:  # noqa: ANN401
    numbers, moments, texts = _by_type(values)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return _mask(pc.is_in(column, pa.array(texts, column.type)))
    found = _numbers(column)
    mask = _whole_in(found, numbers)
    for length, firsts in moments.items():
        step = length * _NANOSECONDS
        starts = [first * _NANOSECONDS for first in firsts if first * _NANOSECONDS in _INT64]
        mask |= _whole_in(found - found % step, starts)
    return mask


def _typed(condition: Comparison | In | Glob | Exists, values: Any) -> Mask:  # noqa: ANN401
    """Return which rows of metadata pass."""
    any_text = np.isin(_numbers(values["kind"]), _ANY_TEXT)
    match condition:
        case Comparison(_, compare, value):
            return _compare_typed(compare, value, values)
        case In(_, members):
            none = np.zeros(len(any_text), bool)
            return reduce(np.logical_or, _in_typed(values, members), none)
        case Glob(_, pattern):
            found: Mask = any_text & _glob(values["text"], pattern, filter_glob)
            return found
        case Exists():
            return np.ones(len(any_text), bool)


def _compare_typed(compare: Operator, value: Value, values: Any) -> Mask:  # noqa: ANN401
    """Compare values of metadata; values of another type do not pass."""
    kinds = _numbers(values["kind"])
    found: Mask
    match value:
        case Moment():
            passed = _compare_moment(_numbers(values["whole"]), compare, value, 1)
            found = (kinds == Kind.DATE) & passed
        case Number(value=number):
            found = (kinds == Kind.NUMBER) & _compare_number(values, compare, number)
        case Text(text):
            kind = np.isin(kinds, _ANY_TEXT) if compare == "=" else kinds == Kind.TEXT
            found = kind & _mask(_COMPARE_TEXTS[compare](values["text"], text))
    return found


def _in_typed(values: Any, members: Sequence[Value]) -> Iterator[Mask]:  # noqa: ANN401
    kinds = _numbers(values["kind"])
    numbers, moments, texts = _by_type(members)
    whole = _numbers(values["whole"])
    if numbers:
        is_whole = _mask(pc.is_valid(values["whole"]))
        reals = values["real"].to_numpy()
        equal = np.isin(reals, [float(one) for one in numbers if float(one) == one])
        yield (kinds == Kind.NUMBER) & np.where(is_whole, _whole_in(whole, numbers), equal)
    if texts:
        found = _mask(pc.is_in(values["text"], pa.array(texts, pa.string())))
        yield np.isin(kinds, _ANY_TEXT) & found
    for length, firsts in moments.items():
        yield (kinds == Kind.DATE) & _whole_in(whole - whole % length, firsts)


def _by_type(
    values: Sequence[Value],
) -> tuple[list[int | float], dict[int, list[int]], list[str]]:
    """Return the numbers, the first microseconds of dates and times by length, and the texts."""
    numbers: list[int | float] = []
    moments: dict[int, list[int]] = {}
    texts: list[str] = []
    for value in values:
        match value:
            case Number(value=number):
                numbers.append(number)
            case Moment(first=first, length=length):
                moments.setdefault(length, []).append(first)
            case Text(text):
                texts.append(text)
    return numbers, moments, texts


def _whole_in(column: NDArray[np.int64], members: Sequence[int | float]) -> Mask:
    whole = [int(one) for one in members if one == int(one) and int(one) in _INT64]
    return np.isin(column, np.array(whole, np.int64))


def _compare_moment(
    column: NDArray[np.int64], compare: Operator, moment: Moment, unit: int
) -> Mask:
    """Compare times with an interval: ``<=`` includes the whole day, ``=`` is any time in it.

    Args:
        column: times in units of 1/``unit`` microseconds.
        compare: operator of the comparison.
        moment: interval to compare with.
        unit: number of the column's units in a microsecond.
    """
    first, last = moment.first * unit, (moment.last + 1) * unit - 1
    if compare == "=":
        return _compare_whole(column, ">=", first) & _compare_whole(column, "<=", last)
    return _compare_whole(column, compare, last if compare in ("<=", ">") else first)


def _compare_whole(column: NDArray[np.int64], compare: Operator, number: int | float) -> Mask:
    """Compare integers with a number exactly."""
    bound = number
    if isinstance(number, float):
        if compare == "=" and not number.is_integer():
            return np.zeros(len(column), bool)
        bound = math.ceil(number) if compare in ("<", ">=") else math.floor(number)
    if bound not in _INT64:
        is_passed = _COMPARE[compare](0, bound)
        return np.full(len(column), is_passed, dtype=bool)
    found: Mask = _COMPARE[compare](column, np.int64(bound))
    return found


def _compare_number(values: Any, compare: Operator, number: int | float) -> Mask:  # noqa: ANN401
    """Compare numbers of metadata, which are integers or floating-point numbers, exactly."""
    is_whole = _mask(pc.is_valid(values["whole"]))
    whole = _compare_whole(_numbers(values["whole"]), compare, number)
    reals = values["real"].to_numpy()
    if isinstance(number, float) or abs(number) <= _MOST_EXACT:
        real = _COMPARE[compare](reals, float(number))
    else:
        real = np.array([_COMPARE[compare](float(one), number) for one in reals], dtype=bool)
    return np.where(is_whole, whole, real)


def _glob(column: Any, pattern: str, matches: Callable[[str, str], bool]) -> Mask:  # noqa: ANN401
    """Return which texts a pattern matches; each distinct text is looked at once."""
    fixed = pattern[: next((at for at, one in enumerate(pattern) if one in _SPECIAL), None)]
    distinct = pc.unique(column.filter(pc.starts_with(column, fixed)) if fixed else column)
    texts = (text for text in distinct.to_pylist() if text is not None)
    found = [text for text in texts if matches(pattern, text)]
    return _mask(pc.is_in(column, pa.array(found, column.type)))


def _numbers(column: Any) -> NDArray[np.int64]:  # noqa: ANN401
    """Return a column of numbers, int64 [n]; 0 stands for missing ones."""
    found: NDArray[np.int64] = pc.fill_null(column, 0).to_numpy()
    return found


def _mask(column: Any) -> Mask:  # noqa: ANN401
    """Return a column of truth values, bool [n]; missing ones are false."""
    filled = pc.fill_null(column, False)
    found: Mask = (
        filled.to_numpy(zero_copy_only=False) if isinstance(filled, pa.Array) else filled.to_numpy()
    )
    return found
