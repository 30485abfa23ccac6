"""JSON: records with a text and fields, or any other JSON with words in it.

A record is an object. Its text is that of its text fields. If it has none of them, its text is all
of its values, each on a line with its path.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from indexer.decoding.decode import decode
from indexer.parse.base.compose import Composer
from indexer.parse.base.fields import Written, bounded_metadata, read_json
from indexer.parse.base.outline import sections_of, title_of
from indexer.skip import SkipDocument, SkipReason, parser_errors_as_damage
from retrieval.domain.metadata import Metadata, field_name, flat_pairs, scalar_text
from retrieval.domain.records import Document

DEFAULT_TEXT_FIELDS: Final = ("text", "content", "contents", "body", "passage", "abstract")
"""Fields that make up the text of a record, unless the user names others."""

_TITLES: Final = ("title", "headline", "subject", "name")

_BETWEEN: Final = re.compile(r"[\s,]*+")
"""What may stand between the values of a file; the comma is not in the standard."""
_DECODER: Final = json.JSONDecoder(parse_int=Written, parse_float=Written, parse_constant=str)
_MAX_BAD: Final = 100
"""A file with more lines that are not JSON is no JSON lines."""

Json = str | bool | list[Any] | dict[str, Any] | None
"""A JSON value; numbers are ``Written``."""


class Field(NamedTuple):
    """A value in a record, or the words and numbers of a list."""

    path: str
    """Path of the value, such as ``a.b``."""
    value: Json
    text: str
    """The value as it is written."""

    @property
    def plain(self) -> str:
        """The value as metadata writes it, if it keeps the value whole."""
        if isinstance(self.value, list):
            return ", ".join(map(_plain, self.value))
        return _plain(self.value)


class _Names:
    """Paths of fields, to look up whether a field is one of them or lies in one."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = frozenset(paths)
        self._prefixes = tuple(f"{path}." for path in paths)
        self.nested = frozenset(path.partition(".")[0] for path in paths if "." in path)
        """Names of the fields in which there may be others."""

    def __contains__(self, path: str) -> bool:
        return path in self._paths or path.startswith(self._prefixes)


def parse_json(
    uri: str, data: bytes, text_fields: Sequence[str] = (), encoding: str = ""
) -> Document:
    """Make a document of a JSON file (RFC 8259): one record, or a list of records.

    The title of a record is its first field of ``title``, ``headline``, ``subject`` or ``name``.
    Values that are not in the text become metadata, by path; values that metadata has no room for
    follow the text. Each record of a list is a section, with all its values in the text. So is each
    record of JSON lines. What is not JSON, such as a file with comments, is read as plain text.

    Args:
        uri: as in ``Document``.
        data: the file.
        text_fields: paths of the only fields that make up the text; by default the fields of
            ``DEFAULT_TEXT_FIELDS`` that the record has.
        encoding: as in ``indexer.decoding.decode.decode``.

    Raises:
        SkipDocument: the file is binary, or neither JSON nor has words.
    """
    source, encoding = decode(data, encoding)
    composer = Composer()
    with parser_errors_as_damage():
        try:
            value = read_json(source)
        except (json.JSONDecodeError, RecursionError) as error:
            value, bad = _read_lines(source)
            if not value:
                return _as_text(uri, source, encoding, error)
            for line in bad:
                composer.unread(f"line {line}")
    names = _Names(text_fields or DEFAULT_TEXT_FIELDS)
    if not isinstance(value, list) or not any(isinstance(record, dict) for record in value):
        kept = bounded_metadata(_metadata(value, names))
        _add(composer, value, names, kept, only=bool(text_fields))
        document = composer.document(uri, "json", [_title(value)], encoding=encoding)
        return replace(document, metadata={**document.metadata, **kept})
    for number, record in enumerate(value, 1):
        composer.begin_section(1, _title(record) or f"Record {number}")
        _add(composer, record, names, None, only=bool(text_fields))
    return composer.document(uri, "json", encoding=encoding)


def _read_lines(source: str) -> tuple[list[Json], list[int]]:
    """Return the values of a file that follow each other, such as JSON lines.

    Returns:
        the values, and the numbers of lines that are none; no values if the file is something else.
    """
    values: list[Json] = []
    bad: list[int] = []
    position = _end_of(source, 0)
    while position < len(source):
        try:
            value, position = _DECODER.raw_decode(source, position)
            values.append(value)
        except (json.JSONDecodeError, RecursionError):
            if not values or len(bad) == _MAX_BAD:
                return [], []
            bad.append(source.count("\n", 0, position) + 1)
            position = source.find("\n", position) + 1 or len(source)
        position = _end_of(source, position)
    return (values, bad) if len(values) > max(1, len(bad)) else ([], [])


def _end_of(source: str, position: int) -> int:
    """Return the end of what stands between two values."""
    between = _BETWEEN.match(source, position)
    return between.end() if between else position


def _as_text(uri: str, source: str, encoding: str, error: Exception) -> Document:
    """Make a document of a file that is not JSON.

    Raises:
        SkipDocument: it has no words either.
    """
    if not any(map(str.isalnum, source)):
        raise SkipDocument(SkipReason.DAMAGED, f"{type(error).__name__}: {error}")
    return Document(uri, title_of(uri), "json", source, sections_of(()), encoding)


def _metadata(record: Json, names: _Names) -> Iterator[tuple[str, Json]]:
    """Yield the fields of a record that are not in its text or its title."""
    if isinstance(record, dict):
        title = _title(record)
        for key, value in record.items():
            if key not in names and not (key in _TITLES and _text(value) == title):
                yield key, _without_texts(value, key, names) if key in names.nested else value


def _without_texts(value: Json, path: str, names: _Names) -> Json:
    """Return a value without the fields, at any depth, that make up the record's text."""
    if isinstance(value, list):
        return [_without_texts(part, path, names) for part in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _without_texts(part, f"{path}.{key}", names)
        for key, part in value.items()
        if f"{path}.{key}" not in names
    }


def _add(
    composer: Composer, record: Json, names: _Names, kept: Metadata | None, *, only: bool
) -> None:
    """Add the text of a record, and its fields that are not in the text or in the metadata.

    Args:
        composer: receives the text.
        record: the record.
        names: paths of the fields that make up the text.
        kept: metadata of the record; None for a record in a list, which has none.
        only: whether the other fields are left out.
    """
    title = _title(record)
    texts: list[str] = []
    rest: list[Field] = []
    for field in _fields(record):
        if field.path in names:
            texts.append(field.text)
        elif not (field.text == title and field.path in _TITLES):
            rest.append(field)
    composer.add(title)
    composer.add("\n\n".join(texts))
    if only:
        rest = []
    elif texts and kept is not None:
        known = set(flat_pairs(kept))
        rest = [field for field in rest if (field_name(field.path), field.plain) not in known]
    composer.add("\n".join([f"{path}: {text}" if path else text for path, _, text in rest]))


def _title(record: Json) -> str:
    if not isinstance(record, dict):
        return ""
    return next((str(record[key]) for key in _TITLES if isinstance(record.get(key), str)), "")


def _fields(value: Json) -> Iterator[Field]:
    """Yield the values that are not empty; the words and numbers of a list make one."""
    pending: list[tuple[str, Json]] = [("", value)]
    while pending:
        path, value = pending.pop()
        if isinstance(value, dict):
            start = f"{path}." if path else ""
            pending += [(start + key, part) for key, part in reversed(value.items())]
        elif isinstance(value, list):
            words = [part for part in value if not isinstance(part, dict | list) and _text(part)]
            if words:
                yield Field(path, words, ", ".join(map(_text, words)))
            if len(words) < len(value):
                pending += [(path, one) for one in reversed(value) if isinstance(one, dict | list)]
        elif text := value.strip() if isinstance(value, str) else _text(value):
            yield Field(path, value, text)


def _text(value: Json) -> str:
    """Return a text, number or boolean as it is written; empty for null."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value).strip()


def _plain(value: Json) -> str:
    """Return a text, number or boolean as metadata writes it."""
    return (
        scalar_text(value.number) if isinstance(value, Written) else " ".join(_text(value).split())
    )
