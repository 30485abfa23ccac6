"""Checks of a request's values before they are sent; the server checks its own limits."""

import math
from collections.abc import Collection, Iterable, Mapping
from numbers import Real
from operator import index
from typing import TypeVar

from retrieval.client.vectors import is_numpy
from retrieval.domain.arguments import check_text, kind_of
from retrieval.domain.passages import Passage
from retrieval.domain.wording import did_you_mean
from retrieval.errors import InvalidArgument

_Value = TypeVar("_Value")
_MAX_INT32 = 2**31 - 1
"""The contract's numbers are int32."""

_OTHER_NAMES = {
    **dict.fromkeys(("limit", "n", "n_results", "size", "top_k", "topk"), "k"),
    **dict.fromkeys(("where", "filters", "query_filter"), "filter"),
    **dict.fromkeys(("index", "collection_name"), "collection"),
    **dict.fromkeys(("rerank", "rerank_n"), "rerank_top"),
    **dict.fromkeys(("score_threshold", "threshold"), "min_score"),
}
"""An option's name in other search engines → its name here."""


def known_options(options: Mapping[str, object], known: Collection[str], *, method: str) -> None:
    """Refuse keywords that a method does not have.

    Args:
        options: the keywords that were passed.
        known: the keywords that the method has.
        method: its name, for the error.

    Raises:
        InvalidArgument: a keyword is unknown; the message proposes a similar one if there is one.
    """
    for name in options:
        if name not in known:
            other = _OTHER_NAMES.get(name, "")
            hint = f"; did you mean {other!r}?" if other in known else did_you_mean(name, known)
            raise InvalidArgument(
                f"{method} has no option {name!r}{hint or ': it has ' + ', '.join(sorted(known))}",
                field=name,
            )


def sendable(text: str, *, field: str) -> str:
    """Return a text, unless it can't be sent.

    Raises:
        InvalidArgument: the value is not a text, or has lone surrogates, as after wrong decoding.
    """
    check_text(text, field=field)
    return text


def count(value: int, *, field: str, minimum: int = 1) -> int:
    """Return a whole number, unless it is too small, or too large for the wire.

    Raises:
        InvalidArgument: the value is not a whole number from ``minimum`` to 2,147,483,647.
    """
    try:
        whole = index(value)
    except TypeError:
        whole = None
    if whole is None or isinstance(value, bool):
        raise InvalidArgument(f"{field} is {value!r}; it must be a whole number", field=field)
    if whole < minimum:
        raise InvalidArgument(f"{field} is {whole}; it must be {minimum} or more", field=field)
    if whole > _MAX_INT32:
        raise InvalidArgument(f"{field} is {whole}, which is too large", field=field)
    return whole


def number(value: float | None, *, field: str) -> float | None:
    """Return a number as a float, or None; the server checks the range.

    Raises:
        InvalidArgument: the value is neither.
    """
    if value is None:
        return None
    if isinstance(value, Real) and not isinstance(value, bool):  # numpy's numbers are real, too
        try:
            return float(value)
        except OverflowError:
            return math.copysign(math.inf, value)
    raise InvalidArgument(f"{field} is {value!r}; it must be a number", field=field)


def flag(value: bool, *, field: str) -> bool:
    """Return a truth value.

    Raises:
        InvalidArgument: the value is neither True nor False, but ``"false"``, for example.
    """
    if not isinstance(value, bool) and not is_numpy(value, "bool_"):
        raise InvalidArgument(f"{field} is {value!r}; it must be True or False", field=field)
    return bool(value)


def known_value(values: Mapping[str, _Value], name: str, *, field: str) -> _Value:
    """Return the value of a name.

    Raises:
        InvalidArgument: the name is unknown; the message lists the known ones.
    """
    if not isinstance(name, str) or name not in values:
        hint = did_you_mean(name, values) if isinstance(name, str) else ""
        known = ", ".join(values)
        raise InvalidArgument(f"{field} must be one of {known}, not {name!r}{hint}", field=field)
    return values[name]


def several(queries: Iterable[_Value]) -> list[_Value]:
    """Return the queries of a batch as a list.

    Raises:
        InvalidArgument: this is a single text or passage, or has no items.
    """
    single = isinstance(queries, str | bytes | Mapping | Passage)
    try:
        if not single:
            return list(queries)
    except TypeError:
        pass
    raise InvalidArgument(f"queries is {kind_of(queries)}; give a list of queries", field="queries")
