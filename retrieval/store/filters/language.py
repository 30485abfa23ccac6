"""Parse filters, which restrict a search: ``path:guides/** AND modified>=2024-01-01``.

::

    filter     = and { "OR" and }
    and        = not { "AND" not }
    not        = "NOT" not | "(" filter ")" | comparison
    comparison = field ("=" | "!=" | "<" | "<=" | ">" | ">=") value
               | field ":" pattern
               | field ["NOT"] "IN" "(" [ value { "," value } ] ")"
    field      = name | "meta." name
    name       = letters and digits of any script, "_", "-" and "." | 'text' | "text"
    value      = 'text' | "text" | a word without spaces, quotes, commas, parentheses, "=!<>"

This module parses the language into the tree of ``filters.tree``. Each store translates the tree
into its own form: the store on disk into SQL, in ``disk.filtering``.
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from functools import cached_property, lru_cache
from typing import Final, NamedTuple, NoReturn

from retrieval.domain.metadata import field_name
from retrieval.errors import InvalidArgument
from retrieval.store.filters.tree import (
    BUILT_IN,
    OPERATORS,
    And,
    Comparison,
    Condition,
    Exists,
    Field,
    Glob,
    In,
    Not,
    Operator,
    Or,
    fields_of,
)
from retrieval.store.filters.values import Moment, Number, Text, Value, read_moment, read_value

MAX_FILTER_CHARS: Final = 1_000_000
"""Maximum length of a filter: enough for ``MAX_VALUES`` values of 50 characters, which take 30 ms
to parse."""
MAX_VALUES: Final = 20_000
"""Maximum number of values in all ``IN`` lists of a filter; they are looked up in a set."""
MAX_PATTERN_CHARS: Final = 1_024
"""Maximum length of a pattern. Python takes about 10 µs a character to compile one, and can't be
interrupted meanwhile."""
MAX_CONDITIONS: Final = 200
"""Maximum number of comparisons in a filter. SQLite takes expressions up to 1000 levels deep, and
each ``OR`` adds one."""
MAX_DEPTH: Final = 40
"""Maximum depth of parentheses and ``NOT``: SQLite's parser has a stack of 100."""

_SHORT_FILTER_CHARS: Final = 4_096
"""Filters up to this length have a larger cache: 256 of them, and 4 longer ones."""

_METADATA_PREFIX: Final = "meta."

_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<end>$)
      | (?P<punctuation>[(),])
      | (?P<operator><=|>=|!=|=|<|>|:)
      | (?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<word>[^\s(),"'<>=!:]+)
      | (?P<stray>.))""",
    re.VERBOSE | re.DOTALL,
)
_MEMBER: Final = r"""[^\s(),"'<>=!:][^\s(),"'<>=!]*|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'"""
_MEMBERS: Final = re.compile(_MEMBER, re.DOTALL)
_LIST: Final = re.compile(rf"\s*(?:{_MEMBER})(?:\s*,\s*(?:{_MEMBER}))*\s*(?=\))", re.DOTALL)
"""The content of a well-formed list, without its parentheses."""
_SIZE: Final = re.compile(r"(\d{1,15}(?:\.\d{1,3})?)\s*([kmg]?)(?:i?b)?", re.I | re.ASCII)
_UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_NO_TEXT: Final = re.compile("[\x00\ud800-\udfff]")
_KEYWORDS: Final = frozenset({"and", "in", "not", "or"})


@dataclass(frozen=True)
class Filter:
    """A parsed filter."""

    text: str
    tree: Condition = dataclass_field(compare=False)
    """The filter as a tree; equal texts have equal trees."""

    @cached_property
    def metadata_fields(self) -> tuple[Field, ...]:
        """The distinct metadata fields that the filter names."""
        named = (field for field in fields_of(self.tree) if field.kind == "metadata")
        return tuple(dict.fromkeys(named))


class _Token(NamedTuple):
    kind: str
    text: str
    at: int
    """Position of the token's first character."""


def parse_filter(text: str) -> Filter:
    """Parse a filter.

    Raises:
        InvalidArgument: the filter is malformed; the message names the character, counted from 1.
    """
    return _parse_short(text) if len(text) <= _SHORT_FILTER_CHARS else _parse_long(text)


def _parse(text: str) -> Filter:
    if len(text) > MAX_FILTER_CHARS:
        raise InvalidArgument(
            f"the filter has {len(text)} characters; at most {MAX_FILTER_CHARS} are taken",
            field="filter",
        )
    if match := _NO_TEXT.search(text):
        raise InvalidArgument(
            f"the filter is wrong at character {match.start() + 1}: it is not Unicode text there",
            field="filter",
            position=str(match.start() + 1),
        )
    parser = _Parser(text)
    tree = parser.filter(0)
    parser.expect_end()
    return Filter(text, tree)


_parse_short = lru_cache(maxsize=256)(_parse)
_parse_long = lru_cache(maxsize=4)(_parse)


def parse_field(text: str) -> Field:
    """Parse the name of a field, written as in a filter.

    Raises:
        InvalidArgument: it is malformed.
    """
    parser = _Parser(text)
    try:
        field = parser.field()
        parser.expect_end()
    except InvalidArgument as error:
        raise InvalidArgument(
            f"{text[:100]!r} is not a field: name it as filters do, such as tag, author.name or "
            '"Team Name"',
            field="field",
        ) from error
    return field


def metadata_name(key: str) -> str:
    """Return how a filter names a field of the metadata.

    Args:
        key: the field's name as ``field_name`` returns it.
    """
    plain = key and _is_name(key) and key not in BUILT_IN and key not in _KEYWORDS
    if plain and not key.startswith(_METADATA_PREFIX):
        return key
    return f"{_METADATA_PREFIX}{_quoted(key)}"


def equality(name: str, value: str) -> str:
    """Return the condition that a field has a value; empty if no filter can contain the value.

    Args:
        name: the field as a filter names it.
        value: as it was written.
    """
    return "" if _NO_TEXT.search(value) else f"{name}={_quoted(value)}"


class _Parser:
    """Recursive-descent parser of one filter."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._ahead = _token_at(text, 0)
        self._values = 0
        self._conditions = 0

    def filter(self, depth: int) -> Condition:
        """Parse ``and { "OR" and }``."""
        if depth > MAX_DEPTH:
            self._fail(self._peek(), f"more than {MAX_DEPTH} levels of parentheses and NOT")
        return self._joined("OR", Or, lambda: self._joined("AND", And, lambda: self._not(depth)))

    def expect_end(self) -> None:
        """Refuse any text after the filter."""
        token = self._peek()
        if token.kind != "end":
            self._fail(token, "expected AND, OR or the end")

    def _joined(
        self, word: str, node: type[And] | type[Or], part: Callable[[], Condition]
    ) -> Condition:
        parts = [part()]
        while self._keyword(word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else node(tuple(parts))

    def _not(self, depth: int) -> Condition:
        if self._keyword("NOT"):
            if depth >= MAX_DEPTH:
                self._fail(self._peek(), f"more than {MAX_DEPTH} levels of parentheses and NOT")
            return Not(self._not(depth + 1))
        if self._peek_is("("):
            self._take()
            inner = self.filter(depth + 1)
            self._punctuation(")")
            return inner
        return self._comparison()

    def _comparison(self) -> Condition:
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            self._fail(self._peek(), f"more than {MAX_CONDITIONS} conditions; join values with IN")
        field = self.field()
        if self._keyword("NOT"):
            if not self._keyword("IN"):
                self._fail(self._peek(), "expected IN")
            return Not(self._in(field))
        if self._keyword("IN"):
            return self._in(field)
        operator = self._take()
        if operator.kind != "operator":
            self._fail(operator, f"expected =, !=, <, <=, >, >=, : or IN after {field.name!r}")
        value = self._value(operator.text)
        if operator.text == ":":
            return self._glob(field, value)
        if operator.text == "!=":
            return Not(Comparison(field, "=", self._typed(field, value)))
        return Comparison(field, _operator(operator.text), self._typed(field, value))

    def field(self) -> Field:
        """Parse a field's name."""
        token = self._take()
        if token.kind == "word" and token.text.lower() == _METADATA_PREFIX:
            inner = self._take()
            if inner.kind != "quoted" or inner.at != token.at + len(token.text):
                self._fail(inner, f"expected a name right after {token.text!r}")
            return _metadata_field(field_name(_unquoted(inner.text)))
        name = ""
        if token.kind == "quoted":
            name = field_name(_unquoted(token.text))
        elif token.kind == "word" and _is_name(token.text):
            name = token.text.lower()
            if name.startswith(_METADATA_PREFIX):
                return _metadata_field(name.removeprefix(_METADATA_PREFIX))
        if not name:
            self._fail(
                token,
                "expected a field, such as path, title, modified or tag; put quotes around a name "
                "with other characters than letters, digits, _, - and .",
            )
        return Field(name, BUILT_IN[name]) if name in BUILT_IN else Field(name, "metadata", (name,))

    def _in(self, field: Field) -> In:
        self._punctuation("(")
        values: list[Value] = []
        if self._peek_is(")"):
            self._take()
            return In(field, ())
        if (whole := self._whole_list(field)) is not None:
            return In(field, whole)
        while True:
            values.append(self._typed(field, self._value(",")))
            self._values += 1
            if self._values > MAX_VALUES:
                self._fail(self._peek(), f"more than {MAX_VALUES} values")
            if not self._peek_is(","):
                break
            self._take()
        self._punctuation(")")
        return In(field, tuple(values))

    def _whole_list(self, field: Field) -> tuple[Value, ...] | None:
        """Read a whole list at once, which is faster than value by value if there are thousands.

        Returns:
            the values, or None if the list is malformed; reading it value by value then finds the
            error.
        """
        match = _LIST.match(self._text, self._ahead.at)
        if match is None:
            return None
        texts = [_member(text) for text in _MEMBERS.findall(match[0])]
        try:
            values = tuple(map(self._reader_of(field, match.start()), texts))
        except InvalidArgument:
            return None
        if self._values + len(values) > MAX_VALUES:
            return None
        self._values += len(values)
        self._ahead = _token_at(self._text, match.end())
        self._punctuation(")")
        return values

    def _reader_of(self, field: Field, at: int) -> Callable[[str], Value]:
        """Return a function that parses the text of a value for the field's kind."""
        if field.kind == "metadata":
            return read_value
        return lambda text: self._typed(field, _Token("word", text, at))

    def _typed(self, field: Field, token: _Token) -> Value:
        """Parse a value for the field's kind."""
        match field.kind:
            case "time":
                return self._moment(field, token)
            case "number":
                return self._size(field, token)
            case "extension":
                return Text(token.text.removeprefix(".").lower())
            case "metadata":
                return read_value(token.text)
            case _:
                return Text(token.text)

    def _moment(self, field: Field, token: _Token) -> Moment:
        moment = read_moment(token.text)
        if moment is None:
            expected = "expected a date such as 2024-01-31 or 2024-01-31T12:00:00Z"
            self._fail(token, f"{expected}{_or_metadata(field)}")
        return moment

    def _size(self, field: Field, token: _Token) -> Number:
        match = _SIZE.fullmatch(token.text)
        if match is None:
            expected = "expected a number, such as 2000 or 1.5MB"
            self._fail(token, f"{expected}{_or_metadata(field)}")
        return Number(token.text, float(match[1]) * _UNITS[match[2].lower()])

    def _glob(self, field: Field, token: _Token) -> Glob | Exists:
        if field.kind in ("time", "number"):
            name = field.name
            self._fail(token, f"{name} is compared with =, <, <=, > and >=, not with a pattern")
        if len(token.text) > MAX_PATTERN_CHARS:
            length = f"a pattern of at most {MAX_PATTERN_CHARS} characters"
            self._fail(token._replace(text=f"{token.text[:20]}…"), f"expected {length}")
        if field.kind == "metadata" and token.text == "*":
            return Exists(field)
        return Glob(field, token.text)

    def _value(self, after: str) -> _Token:
        token = self._take()
        if token.kind == "quoted":
            return _Token("quoted", _unquoted(token.text), token.at)
        if token.kind != "word":
            self._fail(token, f"expected a value after {after!r}")
        # A time contains colons, so join the words and colons that follow without a space.
        text = token.text
        while self._peek().text == ":" and self._peek().at == token.at + len(text):
            text += self._take().text
            if self._peek().kind == "word" and self._peek().at == token.at + len(text):
                text += self._take().text
        return _Token("word", text, token.at)

    def _keyword(self, word: str) -> bool:
        token = self._peek()
        if token.kind == "word" and token.text.upper() == word:
            self._take()
            return True
        return False

    def _punctuation(self, text: str) -> None:
        if not self._peek_is(text):
            self._fail(self._peek(), f"expected {text!r}")
        self._take()

    def _peek_is(self, punctuation: str) -> bool:
        return self._ahead.kind == "punctuation" and self._ahead.text == punctuation

    def _peek(self) -> _Token:
        return self._ahead

    def _take(self) -> _Token:
        token = self._ahead
        if token.kind != "end":
            self._ahead = _token_at(self._text, token.at + len(token.text))
        return token

    def _fail(self, token: _Token, expected: str) -> NoReturn:
        found = repr(token.text) if token.text else "the end"
        raise InvalidArgument(
            f"the filter is wrong at character {token.at + 1}: {expected}, found {found}",
            field="filter",
            position=str(token.at + 1),
        )


def _operator(text: str) -> Operator:
    return next(operator for operator in OPERATORS if operator == text)


def _metadata_field(name: str) -> Field:
    """Return the field of ``meta.NAME``: NAME itself, or NAME in an object called ``meta``."""
    return Field(name, "metadata", (name, f"{_METADATA_PREFIX}{name}"))


def _or_metadata(field: Field) -> str:
    return f" (a field of the metadata that has this name is {_METADATA_PREFIX}{field.name})"


def _member(text: str) -> str:
    return _unquoted(text) if text[0] in "\"'" else text


def _unquoted(text: str) -> str:
    if "\\" not in text:
        return text[1:-1]
    return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _is_name(text: str) -> bool:
    """Whether a word is a valid field name without quotes."""
    return text[0] not in "-." and all(
        char in "_-." or char.isalnum() or unicodedata.category(char).startswith("M")
        for char in text
    )


def _token_at(text: str, at: int) -> _Token:
    """Return the first token at or after a position; at the end, a token of kind ``end``."""
    match = _TOKEN.match(text, at)
    if match is None:  # never happens, because "stray" matches any character
        return _Token("end", "", len(text))
    kind = str(match.lastgroup)
    return _Token(kind, match[kind], match.start(kind))
