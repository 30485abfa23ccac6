"""Conditions on documents as Python expressions, which become texts of the filter language.

::

    from retrieval.client import F

    recent = (F("year") >= 2024) & F("tag").isin(["api", "quota"]) & ~F("draft").exists()
    client.search("leases", filter=recent)

The language is that of ``docs/filters.md``; the server parses the text.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final, NoReturn

from retrieval.client.vectors import is_numpy
from retrieval.domain.arguments import check_text, kind_of
from retrieval.errors import InvalidArgument

FilterValue = str | int | float | Decimal | bool | date | datetime
"""What a field can be compared with. A text is read as in a filter's text: ``"2024"`` is a number
and ``"2024-01-31"`` a day."""

BUILT_IN: Final = frozenset(
    {
        *("path", "uri", "root", "title", "format", "encoding", "extension"),
        *("size", "characters", "chunks", "modified"),
    }
)
"""Fields that every document has, whatever its metadata."""

_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
"""Names that need no quotes; quotes do no harm to other names that would not need them."""
_KEYWORDS: Final = frozenset({"and", "or", "not", "in"})
_PREFIX: Final = "meta."
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,18})(?:\.[0-9]{1,30})?", re.ASCII)
"""Numbers in the language."""
_MAX_INT: Final = 2**63 - 1
_MAX_DIGITS: Final = 19
"""Digits of a number before its point."""
_MAX_DECIMALS: Final = 30
"""Digits of a number after its point."""

_OR, _AND, _ONE = range(3)
"""How tightly the parts of a text belong together: a part that binds less needs parentheses."""


@dataclass(frozen=True, slots=True)
class FilterExpression:
    """A condition on documents: a comparison of an ``F``, or several joined by ``&, |, ~``."""

    text: str
    """The condition in the filter language."""
    _binding: int = field(default=_OR, repr=False, compare=False)

    def __str__(self) -> str:
        """Return ``text``."""
        return self.text

    def __and__(self, other: "FilterExpression") -> "FilterExpression":
        """Return the condition that both hold."""
        return all_of([self, other]) if isinstance(other, FilterExpression) else NotImplemented

    def __or__(self, other: "FilterExpression") -> "FilterExpression":
        """Return the condition that at least one of the two holds."""
        return any_of([self, other]) if isinstance(other, FilterExpression) else NotImplemented

    def __invert__(self) -> "FilterExpression":
        """Return the condition that passes exactly the documents that this one leaves out."""
        return FilterExpression(f"NOT {self._within(_ONE)}", _ONE)

    def __bool__(self) -> NoReturn:
        """Refuse ``and``, ``or``, ``not`` and chains such as ``2020 <= F("year") < 2024``.

        Python can't hand them over: it would take one of the conditions for all of them.
        """
        raise InvalidArgument(
            f"the condition {self.text[:100]} is neither true nor false: join conditions with "
            "&, | and ~ in place of and, or and not, and put parentheses around each",
            field="filter",
        )

    def _within(self, binding: int) -> str:
        return self.text if self._binding >= binding else f"({self.text})"


FilterLike = str | FilterExpression
"""A filter: a text in the filter language, or an expression."""


class F:
    """A field of documents, to be compared with values: ``F("year") >= 2024``.

    A document passes a comparison if it has the field with a value of the same type, or a list with
    one, that compares as stated. ``!=`` and ``~`` pass exactly the other documents, also those
    without the field.

    A ``date`` is the whole day. A ``datetime`` needs a time zone, and is the exact moment. A text
    that looks like a number or a date is one, as in a filter's text.
    """

    __slots__ = ("_name", "_text")
    __hash__ = None  # type: ignore[assignment]  # == does not say whether two fields are equal

    def __init__(self, name: str) -> None:
        """Name a field.

        Args:
            name: a field of the metadata, the path of one within an object (``author.name``), a
                built-in field such as ``path`` or ``modified``, or ``meta.size`` for a field of the
                metadata with the name of a built-in one.

        Raises:
            InvalidArgument: the name is not a text, or empty.
        """
        _check_text(name, what="the name of a field")
        self._name = name
        self._text = _name_text(name)

    def __repr__(self) -> str:
        """Return the call that makes the field."""
        return f"F({self._name!r})"

    def __eq__(self, value: FilterValue) -> FilterExpression:  # type: ignore[override]
        """Return the condition that a value of the field equals the given one."""
        return self._compared("=", value)

    def __ne__(self, value: FilterValue) -> FilterExpression:  # type: ignore[override]
        """Return the condition that no value of the field equals the given one."""
        return self._compared("!=", value)

    def __lt__(self, value: FilterValue) -> FilterExpression:
        """Return the condition that a value of the field comes before the given one."""
        return self._compared("<", value)

    def __le__(self, value: FilterValue) -> FilterExpression:
        """Return the condition that a value of the field comes before the given one, or equals."""
        return self._compared("<=", value)

    def __gt__(self, value: FilterValue) -> FilterExpression:
        """Return the condition that a value of the field comes after the given one."""
        return self._compared(">", value)

    def __ge__(self, value: FilterValue) -> FilterExpression:
        """Return the condition that a value of the field comes after the given one, or equals."""
        return self._compared(">=", value)

    def isin(self, values: Iterable[FilterValue]) -> FilterExpression:
        """Return the condition that a value of the field equals one of the given ones.

        Args:
            values: any number; none passes no document.

        Raises:
            InvalidArgument: this is a single value, or one of the values can't be in a filter.
        """
        if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
            raise InvalidArgument(
                f"{self!r}.isin has a value {kind_of(values)}; give a list of values",
                field="filter",
            )
        listed = ", ".join(_value_text(value, what=f"a value of {self!r}") for value in values)
        return FilterExpression(f"{self._text} IN ({listed})", _ONE)

    def matches(self, pattern: str) -> FilterExpression:
        """Return the condition that a value of the field matches a pattern as a whole.

        Args:
            pattern: ``*`` stands for any characters, ``?`` for one, ``[abc]`` for one of these. In
                ``path`` and ``uri`` they stay within one part, and ``**`` is any number of parts.

        Raises:
            InvalidArgument: the pattern is not a text.
        """
        _check_text(pattern, what=f"the pattern of {self!r}")
        return FilterExpression(f"{self._text}:{_quoted(pattern)}", _ONE)

    def exists(self) -> FilterExpression:
        """Return the condition that a document's metadata have the field.

        Raises:
            InvalidArgument: the field is built in, so that every document has it.
        """
        if self._name.strip().lower() in BUILT_IN:
            raise InvalidArgument(
                f"every document has the field {self._name!r}; for one of the metadata, give "
                f"F('{_PREFIX}{self._name}')",
                field="filter",
            )
        return FilterExpression(f"{self._text}:*", _ONE)

    def _compared(self, operator: str, value: FilterValue) -> FilterExpression:
        text = _value_text(value, what=f"the value of {self!r}")
        if text in ("true", "false") and operator not in ("=", "!="):
            raise InvalidArgument(
                f"the value of {self!r} is {value}, and booleans have no order: compare them with "
                "== or !=",
                field="filter",
            )
        return FilterExpression(f"{self._text}{operator}{text}", _ONE)

    def _joined(self, _: object) -> NoReturn:
        raise self._no_condition()

    __and__ = __rand__ = __or__ = __ror__ = _joined

    def __bool__(self) -> NoReturn:
        """Refuse a field in place of a condition."""
        raise self._no_condition()

    def _no_condition(self) -> InvalidArgument:
        return InvalidArgument(
            f"{self!r} is a field and no condition yet: compare it, and put parentheses around "
            f"each comparison that & or | joins, such as ({self!r} == 1) & ...",
            field="filter",
        )


def all_of(parts: Sequence[FilterExpression]) -> FilterExpression:
    """Return the condition that all parts hold, of which there is at least one."""
    return _joined(" AND ", parts, _AND)


def any_of(parts: Sequence[FilterExpression]) -> FilterExpression:
    """Return the condition that one of the parts holds, of which there is at least one."""
    return _joined(" OR ", parts, _OR)


def _joined(word: str, parts: Sequence[FilterExpression], binding: int) -> FilterExpression:
    if len(parts) == 1:
        return parts[0]
    return FilterExpression(word.join(part._within(binding) for part in parts), binding)


def filter_text(given: Any, *, field: str = "filter") -> str:  # noqa: ANN401  (anything is refused)
    """Return the text of a filter that is a text already, or an expression.

    Raises:
        InvalidArgument: the filter is neither, or no text in valid Unicode.
    """
    if isinstance(given, FilterExpression):
        return given.text
    if isinstance(given, F):
        raise given._no_condition()
    if isinstance(given, Mapping):
        raise InvalidArgument(
            f"{field} is {kind_of(given)}; translate it with filter_from_dict(...), or give a "
            "text or an F expression",
            field=field,
        )
    check_text(given, field=field)
    text: str = given
    return text


def _name_text(name: str) -> str:
    """Return the name of a field as the language has it."""
    prefix, rest = "", " ".join(name.split())
    if rest.lower().startswith(_PREFIX):
        prefix, rest = _PREFIX, rest[len(_PREFIX) :].lstrip()
    if not rest:
        raise InvalidArgument(f"{name!r} names no field; give a name", field="filter")
    if _PLAIN_NAME.fullmatch(rest) and rest.lower() not in _KEYWORDS:
        return prefix + rest
    return prefix + _quoted(rest)


def _value_text(value: Any, *, what: str) -> str:  # noqa: ANN401  (anything else is refused)
    """Return a value as the language has it.

    Raises:
        InvalidArgument: the value is of no type that the language has, or out of its range.
    """
    if is_numpy(value, "generic") and not is_numpy(value, "datetime64"):
        value = value.item()
    if isinstance(value, str):
        _check_text(value, what=what)
        return _quoted(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | Decimal):
        return _number_text(value, what=what)
    if isinstance(value, datetime):
        return _moment_text(value, what=what)
    if isinstance(value, date):
        return value.isoformat()
    advice = "to find documents without the field, give ~F(...).exists()"
    kinds = "give a text, number, boolean, date or datetime"
    raise InvalidArgument(
        f"{what} is {kind_of(value)}; {advice if value is None else kinds}", field="filter"
    )


def _number_text(value: int | float | Decimal, *, what: str) -> str:
    """Return a number in plain decimal notation, without an exponent."""
    if isinstance(value, int):
        text = format(value, "d") if abs(value) <= _MAX_INT else ""
    else:
        exact = value if isinstance(value, Decimal) else Decimal(repr(float(value)))
        text = format(exact, "f") if _is_short(exact) else ""
        # Without a point it would be an integer: another number than a rounded one, or too large.
        if text.lstrip("-").isdigit() and (exact is not value or abs(int(text)) > _MAX_INT):
            text += ".0"
    if not _NUMBER.fullmatch(text):
        shown = "a whole number of more than 64 bits" if isinstance(value, int) else value
        raise InvalidArgument(
            f"{what} is {shown}; numbers in filters have at most 19 digits before the point and 30 "
            "after it, and a longer identifier is a text: give it as one",
            field="filter",
        )
    return text


def _is_short(number: Decimal) -> bool:
    """Return whether a number has so few digits in plain notation that it can be written out."""
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int):  # NaN or infinite
        return False
    return exponent >= -_MAX_DECIMALS and (number.adjusted() < _MAX_DIGITS or not number)


def _moment_text(value: datetime, *, what: str) -> str:
    """Return a time as a moment in UTC, to the microsecond: shorter texts are whole seconds."""
    if value.tzinfo is None:
        raise InvalidArgument(
            f"{what} has no time zone: give one, such as datetime.now(UTC)", field="filter"
        )
    try:
        moment = value.astimezone(UTC)
    except OverflowError as error:
        raise InvalidArgument(f"{what} is out of range: {value}", field="filter") from error
    return _quoted(f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}Z")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _check_text(text: object, *, what: str) -> None:
    """Refuse what is no text, or has characters that no filter can contain."""
    try:
        check_text(text, field=what)
    except InvalidArgument as error:
        raise InvalidArgument(error.message, field="filter") from None
    if "\x00" in str(text):
        raise InvalidArgument(f"{what} has a null character, which no document has", field="filter")
