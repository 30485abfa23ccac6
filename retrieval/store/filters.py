"""Filters: which documents a search may find, as in ``path:guides/** AND modified>=2024-01-01``.

::

    filter     = and { "OR" and }
    and        = not { "AND" not }
    not        = "NOT" not | "(" filter ")" | comparison
    comparison = field ("=" | "!=" | "<" | "<=" | ">" | ">=") value
               | field ":" pattern
               | field ["NOT"] "IN" "(" value { "," value } ")"
    field      = letters, digits, "_", "-" and "."
    value      = 'text' | "text" | a word without spaces, quotes, commas, parentheses, "=!<>"

A filter becomes one SQL condition whose values are all parameters: nothing that a user writes is
ever read as SQL. ``filter_functions`` has the functions that conditions call.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import NoReturn

from retrieval.errors import InvalidArgument

MAX_FILTER_CHARS = 4_096
MAX_VALUES = 200
"""Of one filter, ``IN`` lists included; SQLite takes no more than 999 parameters everywhere."""
MAX_DEPTH = 40

TEXT_FIELDS = {
    "path": "filter_path(d.uri)",
    "uri": "d.uri",
    "root": "d.root",
    "title": "d.title",
    "format": "d.format",
    "encoding": "d.encoding",
    "extension": "filter_extension(d.uri)",
}
"""Fields of text that every document has, as SQL; every other name is a field of its metadata."""

PATH_FIELDS = {"path", "uri"}
"""Where ``*`` stays within a part of a path and ``**`` does not."""

NUMBER_FIELDS = {"size": "d.size", "characters": "d.char_count", "chunks": "d.chunk_count"}
TIME_FIELDS = {"modified": "d.mtime_ns"}

_TOKEN = re.compile(
    r"""\s*(?:(?P<end>$)
      | (?P<punctuation>[(),])
      | (?P<operator><=|>=|!=|=|<|>|:)
      | (?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<word>[^\s(),"'<>=!:]+)
      | (?P<stray>.))""",
    re.VERBOSE | re.DOTALL,
)
_FIELD = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,3})?)\s*([kmg]?)(?:i?b)?", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


@dataclass(frozen=True, slots=True)
class Filter:
    """A parsed filter: a condition over a row ``d`` of the documents, with its parameters."""

    text: str
    condition: str
    parameters: tuple[str | int | float, ...]


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int
    """Position of its first character."""


@lru_cache(maxsize=256)
def parse_filter(text: str) -> Filter:
    """Parse a filter.

    Raises:
        InvalidArgument: it is malformed; the message names the character, from 1.
    """
    if len(text) > MAX_FILTER_CHARS:
        raise InvalidArgument(
            f"the filter has {len(text)} characters; at most {MAX_FILTER_CHARS} are taken",
            field="filter",
        )
    parser = _Parser(text)
    condition = parser.filter(0)
    parser.expect_end()
    return Filter(text, condition, tuple(parser.parameters))


class _Parser:
    """Recursive descent; gathers the parameters in the order of their marks."""

    def __init__(self, text: str) -> None:
        self.parameters: list[str | int | float] = []
        self._text = text
        self._tokens = list(_tokens(text))
        self._next = 0

    def filter(self, depth: int) -> str:
        """``and { "OR" and }``."""
        if depth > MAX_DEPTH:
            self._fail(self._peek(), f"more than {MAX_DEPTH} levels of parentheses and NOT")
        return self._joined("OR", lambda: self._joined("AND", lambda: self._not(depth)))

    def expect_end(self) -> None:
        """Refuse what is left over."""
        token = self._peek()
        if token.kind != "end":
            self._fail(token, "expected AND, OR or the end")

    def _joined(self, word: str, part: Callable[[], str]) -> str:
        parts = [part()]
        while self._keyword(word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else "(" + f" {word} ".join(parts) + ")"

    def _not(self, depth: int) -> str:
        if self._keyword("NOT"):
            if depth >= MAX_DEPTH:
                self._fail(self._peek(), f"more than {MAX_DEPTH} levels of parentheses and NOT")
            return f"(NOT {self._not(depth + 1)})"
        if self._peek().text == "(" and self._peek().kind == "punctuation":
            self._take()
            inner = self.filter(depth + 1)
            self._punctuation(")")
            return inner
        return self._comparison()

    def _comparison(self) -> str:
        field = self._take()
        if field.kind != "word" or not _FIELD.fullmatch(field.text):
            self._fail(field, "expected a field, such as path, title, modified or tag")
        name = field.text.lower()
        if self._keyword("NOT"):
            if not self._keyword("IN"):
                self._fail(self._peek(), "expected IN")
            return f"(NOT {self._in(name)})"
        if self._keyword("IN"):
            return self._in(name)
        operator = self._take()
        if operator.kind != "operator":
            self._fail(operator, f"expected =, !=, <, <=, >, >=, : or IN after {name!r}")
        value = self._value(operator.text)
        if operator.text == ":":
            return self._glob(name, value)
        if operator.text == "!=":
            return f"(NOT {self._compare(name, '=', value)})"
        return self._compare(name, operator.text, value)

    def _in(self, name: str) -> str:
        self._punctuation("(")
        parts = [self._compare(name, "=", self._value(","))]
        while self._peek().text == "," and self._peek().kind == "punctuation":
            self._take()
            parts.append(self._compare(name, "=", self._value(",")))
        self._punctuation(")")
        return "(" + " OR ".join(parts) + ")"

    def _compare(self, name: str, operator: str, value: _Token) -> str:
        if name in TIME_FIELDS:
            return self._compare_time(TIME_FIELDS[name], operator, value)
        if name in NUMBER_FIELDS:
            return f"{NUMBER_FIELDS[name]} {operator} {self._mark(self._size(value))}"
        if name in TEXT_FIELDS:
            text = value.text.removeprefix(".").lower() if name == "extension" else value.text
            return f"{TEXT_FIELDS[name]} {operator} {self._mark(text)}"
        key = self._mark(name)
        if operator == "=":
            return f"filter_metadata_has(d.metadata, {key}, {self._mark(value.text)})"
        # A field that a document lacks is neither more nor less than anything.
        return f"coalesce(filter_metadata(d.metadata, {key}) {operator} {self._ordered(value)}, 0)"

    def _ordered(self, value: _Token) -> str:
        """A value that metadata is compared with: as numbers if it is one, else as text."""
        try:
            return self._mark(float(value.text))
        except ValueError:
            return self._mark(value.text)

    def _compare_time(self, column: str, operator: str, value: _Token) -> str:
        """Dates are whole days, UTC: ``<=`` takes the day in, ``=`` is any time of it."""
        first, last = self._span(value)
        if operator == "=":
            return f"{column} BETWEEN {self._mark(first)} AND {self._mark(last)}"
        return f"{column} {operator} {self._mark(last if operator in ('<=', '>') else first)}"

    def _span(self, value: _Token) -> tuple[int, int]:
        """First and last nanosecond of a date, or of a time's second."""
        try:
            if len(value.text) == len("2024-01-01"):
                day = datetime.combine(date.fromisoformat(value.text), datetime.min.time(), UTC)
                start, length = day, timedelta(days=1)
            else:
                start, length = datetime.fromisoformat(value.text), timedelta(seconds=1)
                start = start if start.tzinfo else start.replace(tzinfo=UTC)
        except ValueError:
            self._fail(value, "expected a date such as 2024-01-31 or 2024-01-31T12:00:00Z")
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        first = (start - epoch) // timedelta(microseconds=1) * 1000
        return first, first + length // timedelta(microseconds=1) * 1000 - 1

    def _size(self, value: _Token) -> float:
        match = _SIZE.fullmatch(value.text)
        if match is None:
            self._fail(value, "expected a number, such as 2000 or 1.5MB")
        return float(match[1]) * _UNITS[match[2].lower()]

    def _glob(self, name: str, value: _Token) -> str:
        if name in TIME_FIELDS or name in NUMBER_FIELDS:
            self._fail(value, f"{name} is compared with =, <, <=, > and >=, not with a pattern")
        if name in TEXT_FIELDS:
            function = "filter_path_glob" if name in PATH_FIELDS else "filter_glob"
            return f"{function}({self._mark(value.text)}, {TEXT_FIELDS[name]})"
        key = self._mark(name)
        return f"filter_metadata_glob(d.metadata, {key}, {self._mark(value.text)})"

    def _mark(self, value: str | float) -> str:
        if len(self.parameters) >= 2 * MAX_VALUES:
            self._fail(self._peek(), f"more than {MAX_VALUES} values")
        self.parameters.append(value)
        return "?"

    def _value(self, after: str) -> _Token:
        token = self._take()
        if token.kind == "quoted":
            return _Token("quoted", re.sub(r"\\(.)", r"\1", token.text[1:-1], flags=re.S), token.at)
        if token.kind != "word":
            self._fail(token, f"expected a value after {after!r}")
        # A time has colons in it.
        text = token.text
        while self._peek().text == ":" and self._peek().at == token.at + len(text):
            text += self._take().text
            if self._peek().kind == "word" and self._peek().at == token.at + len(text):
                text += self._take().text
        return _Token("word", text, token.at)

    def _keyword(self, word: str) -> bool:
        token = self._peek()
        if token.kind == "word" and token.text.upper() == word:
            self._next += 1
            return True
        return False

    def _punctuation(self, text: str) -> None:
        token = self._take()
        if token.kind != "punctuation" or token.text != text:
            self._fail(token, f"expected {text!r}")

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._peek()
        self._next = min(self._next + 1, len(self._tokens) - 1)
        return token

    def _fail(self, token: _Token, expected: str) -> NoReturn:
        found = repr(token.text) if token.text else "the end"
        raise InvalidArgument(
            f"the filter is wrong at character {token.at + 1}: {expected}, found {found}",
            field="filter",
            position=str(token.at + 1),
        )


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while True:
        match = _TOKEN.match(text, at)
        if match is None:  # never: "stray" takes whatever nothing else does
            return
        kind = str(match.lastgroup)
        yield _Token(kind, match[kind], match.start(kind))
        if kind == "end":
            return
        at = match.end()
