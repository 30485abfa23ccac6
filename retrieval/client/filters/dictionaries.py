"""Filters as dictionaries, in the form that MongoDB began and many vector stores share.

::

    filter_from_dict({"year": {"$gte": 2024}, "$or": [{"tag": "api"}, {"tag": "quota"}]})

It is for frameworks and programs that have such filters already. New code says it with ``F``.
"""

from collections.abc import Callable, Mapping, Sequence
from operator import eq, ge, gt, le, lt, ne
from typing import Any, Final, TypeVar

from retrieval.client.filters.expressions import F, FilterExpression, all_of, any_of
from retrieval.domain.arguments import kind_of
from retrieval.errors import InvalidArgument

_Made = TypeVar("_Made", F, FilterExpression)

_COMPARISONS: Final[Mapping[str, Callable[[Any, Any], FilterExpression]]] = {
    "$eq": eq,
    "$ne": ne,
    "$gt": gt,
    "$gte": ge,
    "$lt": lt,
    "$lte": le,
}
_OF_FIELDS: Final = (*_COMPARISONS, "$in", "$nin", "$exists", "$not")
_OF_CONDITIONS: Final = ("$and", "$or", "$not")
_MAX_DEPTH: Final = 40
"""Levels of parentheses and ``NOT`` that a server takes."""


def filter_from_dict(conditions: Mapping[str, Any]) -> FilterExpression:
    """Translate a filter from a dictionary.

    Several entries must all hold. An entry is one of:

    - ``field: value`` - the field equals the value, or is a list that contains it;
    - ``field: {operator: value, ...}`` with ``$eq``, ``$ne``, ``$gt``, ``$gte``, ``$lt``,
      ``$lte``, ``$in``, ``$nin``, ``$exists`` and ``$not``;
    - ``"$and": [...]`` and ``"$or": [...]`` with dictionaries, or ``"$not": {...}`` with one.

    Fields and values are those of ``F``. ``$ne``, ``$nin`` and ``$not`` also pass documents without
    the field.

    Raises:
        InvalidArgument: the dictionary is empty, or has an operator or value that the filter
            language does not have; the message says where.
    """
    return _all_of(conditions, "filter", 0)


def _all_of(conditions: Any, at: str, depth: int) -> FilterExpression:  # noqa: ANN401
    if not isinstance(conditions, Mapping):
        raise _refused(at, f"is {kind_of(conditions)}; give a dictionary")
    if not conditions:
        raise _refused(at, "is an empty dictionary; leave it out to pass all documents")
    if depth > _MAX_DEPTH:
        raise _refused("filter", f"has more than {_MAX_DEPTH} levels")
    return all_of([_entry(*entry, at, depth + 1) for entry in conditions.items()])


def _entry(name: Any, value: Any, at: str, depth: int) -> FilterExpression:  # noqa: ANN401
    """Translate one entry of a dictionary of conditions."""
    if not isinstance(name, str):
        raise _refused(at, f"has a key {kind_of(name)}; give the name of a field as a text")
    inside = f"{at}[{name!r}]"
    if name == "$not":
        return ~_all_of(value, inside, depth)
    if name in ("$and", "$or"):
        parts = _listed(value, inside, "dictionaries")
        if not parts:
            raise _refused(inside, "is an empty list; leave it out")
        translated = [_all_of(part, f"{inside}[{n}]", depth) for n, part in enumerate(parts)]
        return all_of(translated) if name == "$and" else any_of(translated)
    if name.startswith("$"):
        raise _unknown(name, at, _OF_CONDITIONS, "of conditions")
    return _field(_checked(lambda: F(name), at), value, inside, depth)


def _field(field: F, value: Any, at: str, depth: int) -> FilterExpression:  # noqa: ANN401
    """Translate the conditions on one field."""
    if isinstance(value, Mapping):
        if not value:
            raise _refused(at, "is an empty dictionary; give an operator, such as {'$eq': 1}")
        if depth > _MAX_DEPTH:
            raise _refused("filter", f"has more than {_MAX_DEPTH} levels")
        return all_of([_operator(field, *entry, at, depth + 1) for entry in value.items()])
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        raise _refused(at, f"is {kind_of(value)}; give {{'$in': [...]}} for one of several values")
    equals = _COMPARISONS["$eq"]
    return _checked(lambda: equals(field, value), at)


def _operator(field: F, name: Any, value: Any, at: str, depth: int) -> FilterExpression:  # noqa: ANN401
    """Translate one operator with its value."""
    inside = f"{at}[{name!r}]"
    if compare := _COMPARISONS.get(name):
        return _checked(lambda: compare(field, value), inside)
    match name:
        case "$in" | "$nin":
            listed = _listed(value, inside, "values")
            one_of = _checked(lambda: field.isin(listed), inside)
            return one_of if name == "$in" else ~one_of
        case "$exists":
            if not isinstance(value, bool):
                raise _refused(inside, f"is {kind_of(value)}; give True or False")
            has = _checked(field.exists, inside)
            return has if value else ~has
        case "$not":
            return ~_field(field, value, inside, depth)
        case str() if name.startswith("$"):
            raise _unknown(name, at, _OF_FIELDS, "of a field")
    raise _refused(
        at,
        f"has the key {name!r} and not an operator; a field within an object has a path, such as "
        "'author.name'",
    )


def _checked(make: Callable[[], _Made], at: str) -> _Made:
    """Return a field or a condition; if it can't be one, the error says where it is."""
    try:
        return make()
    except InvalidArgument as error:
        raise _refused(at, f"can't be translated: {error.message}") from None


def _listed(value: Any, at: str, what: str) -> list[Any]:  # noqa: ANN401
    if not isinstance(value, Sequence | set | frozenset) or isinstance(value, str | bytes):
        raise _refused(at, f"is {kind_of(value)}; give a list of {what}")
    return list(value)


def _unknown(name: str, at: str, known: Sequence[str], of: str) -> InvalidArgument:
    return _refused(at, f"has {name!r}, which is no operator {of}; these are {', '.join(known)}")


def _refused(at: str, why: str) -> InvalidArgument:
    return InvalidArgument(f"{at} {why}", field="filter")
