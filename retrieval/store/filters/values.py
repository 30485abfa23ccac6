"""Types of values in filters and metadata, and the rows of metadata to compare filters with.

A value's type depends only on its text, both in a filter and in metadata: a front matter's
``year: "2024"`` and a JSON file's ``{"year": 2024}`` are the same number. There is one exception: a
JSON number is a number in any notation.
"""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from enum import IntEnum
from typing import Final, NamedTuple

from retrieval.domain.metadata import Metadata, Scalar, leaves, scalar_text

_FIRST: Final = frozenset("-0123456789")
"""First characters of numbers and dates."""
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,18})(?:\.[0-9]{1,30})?", re.ASCII)
_DATE: Final = re.compile(
    r"""(?P<day>\d{4}-\d\d-\d\d)
        (?:[T ](?P<minute>\d\d:\d\d)(?P<second>:\d\d(?P<fraction>\.\d{1,9})?)?
           (?P<zone>Z|[+-]\d\d:?\d\d)?)?""",
    re.VERBOSE | re.ASCII,
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_MAX_INT64: Final = 2**63 - 1

DAY: Final = 86_400_000_000
"""Length of a day in microseconds; the lengths below have the same unit."""
_MINUTE: Final = 60_000_000
_SECOND: Final = 1_000_000


class Kind(IntEnum):
    """The type of a value; the table ``metadata_values`` stores these numbers."""

    TEXT = 1
    NUMBER = 2
    DATE = 3
    BOOLEAN = 4
    OBJECT = 5
    """A placeholder for an object, whose fields have rows of their own."""


class Number(NamedTuple):
    """A number in plain decimal notation, without an exponent or leading zeros."""

    text: str
    value: int | float


class Moment(NamedTuple):
    """A date or a time, which is an interval: the whole day, minute or second."""

    text: str
    first: int
    """First microsecond of the interval, counted from 1970 in UTC."""
    length: int
    """Length of the interval in microseconds."""

    @property
    def last(self) -> int:
        """Last microsecond of the interval."""
        return self.first + self.length - 1


class Text(NamedTuple):
    """A value that is neither a number nor a date."""

    text: str


Value = Number | Moment | Text


def read_value(text: str) -> Value:
    """Return a text as a value of its type."""
    if text[:1] not in _FIRST:
        return Text(text)
    if (number := read_number(text)) is not None:
        return Number(text, number)
    return read_moment(text) or Text(text)


def read_number(text: str) -> int | float | None:
    """Parse a number in plain decimal notation; return None for any other text.

    An integer of more than 64 bits is not a number: it is likely an identifier, and two different
    ones may be equal as doubles.
    """
    if not _NUMBER.fullmatch(text):
        return None
    if "." in text:
        return float(text)
    number = int(text)
    return number if abs(number) <= _MAX_INT64 else None


def read_moment(text: str) -> Moment | None:
    """Parse a date or time, in UTC unless it names a zone; return None for any other text."""
    match = _DATE.fullmatch(text)
    if match is None:
        return None
    try:
        if not match["minute"]:
            start, length = datetime.combine(date.fromisoformat(text), datetime.min.time()), DAY
        else:
            fraction = (match["fraction"] or "")[:7].ljust(7, "0")  # to the microsecond
            seconds = (match["second"] or ":00")[:3]
            written = f"{match['day']}T{match['minute']}{seconds}"
            start = datetime.fromisoformat(
                f"{written}{fraction if match['fraction'] else ''}{match['zone'] or ''}"
            )
            length = 1 if match["fraction"] else _SECOND if match["second"] else _MINUTE
    except ValueError:
        return None
    start = start if start.tzinfo else start.replace(tzinfo=UTC)
    return Moment(text, (start - _EPOCH) // _MICROSECOND, length)


class ValueRow(NamedTuple):
    """A row of ``metadata_values`` without the document's id."""

    key: str
    place: int
    """Number that distinguishes a document's values under one key."""
    kind: Kind
    text: str | None
    """The value as written; None for an object."""
    number: int | float | None
    """A number's value, or a date's first microsecond since 1970; None for other kinds."""


def value_rows(metadata: Metadata) -> Iterator[ValueRow]:
    """Yield a row for each distinct value in a document's metadata."""
    places: dict[str, int] = {}
    seen: set[tuple[str, Kind, str | None]] = set()
    for key, value in leaves(metadata):
        kind, text, number = _typed(value)
        if (key, kind, text) not in seen:
            seen.add((key, kind, text))
            place = places[key] = places.get(key, -1) + 1
            yield ValueRow(key, place, kind, text, number)


def _typed(value: Scalar | None) -> tuple[Kind, str | None, int | float | None]:
    if value is None:
        return Kind.OBJECT, None, None
    text = scalar_text(value)
    if isinstance(value, bool):
        return Kind.BOOLEAN, text, None
    if isinstance(value, float):
        return Kind.NUMBER, text, value
    match read_value(text):
        case Number(value=number):
            return Kind.NUMBER, text, number
        case Moment(first=first):
            return Kind.DATE, text, first
        case _:
            return Kind.TEXT, text, None
