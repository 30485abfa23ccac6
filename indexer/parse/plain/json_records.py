"""JSON: records with a text and fields, or any other JSON with words in it.

A record is an object. Its text is that of its text fields. If it has none of them, its text is all
of its values, each on a line with its path.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import repeat
from typing import Any, Final

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


_Field = tuple[str, Json, str]
"""A value in a record, or the words and numbers of a list: its path, such as ``a.b``; the value;
and the value as it is written."""


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
        title = _title(value)
        _add(composer, value, title, names, kept, only=bool(text_fields))
        document = composer.document(uri, "json", [title], encoding=encoding)
        return replace(document, metadata={**document.metadata, **kept})
    for number, record in enumerate(value, 1):
        title = _title(record)
        composer.begin_section(1, title or f"Record {number}")
        _add(composer, record, title, names, None, only=bool(text_fields))
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
    composer: Composer,
    record: Json,
    title: str,
    names: _Names,
    kept: Metadata | None,
    *,
    only: bool,
) -> None:
    """Add the text of a record, and its fields that are not in the text or in the metadata.

    Args:
        composer: receives the text.
        record: the record.
        title: its title.
        names: paths of the fields that make up the text.
        kept: metadata of the record; None for a record in a list, which has none.
        only: whether the other fields are left out.
    """
    texts: list[str] = []
    rest: list[_Field] = []
    for one in _fields(record):
        path, _, text = one
        if path in names:
            texts.append(text)
        elif not only and not (text == title and path in _TITLES):
            rest.append(one)
    composer.add(title)
    composer.add("\n\n".join(texts))
    if texts and kept is not None:
        known = set(flat_pairs(kept))
        rest = [one for one in rest if (field_name(one[0]), _plain(one[1])) not in known]
    composer.add("\n".join([f"{path}: {text}" if path else text for path, _, text in rest]))


def _title(record: Json) -> str:
    if isinstance(record, dict):
        for key in _TITLES:
            if isinstance(value := record.get(key), str):
                return str(value)
    return ""


def _fields(value: Json) -> Iterator[_Field]:
    """Yield the values that are not empty; the words and numbers of a list make one."""
    pending: list[Iterator[tuple[str, Json]]] = [iter((("", value),))]
    while pending:
        for path, part in pending[-1]:
            if isinstance(part, str):
                if text := part.strip():
                    yield path, part, text
            elif isinstance(part, dict):
                paths = map(f"{path}.".__add__, part) if path else part
                pending.append(zip(paths, part.values(), strict=True))
                break
            elif isinstance(part, list):
                words = [one for one in part if not isinstance(one, dict | list) and _text(one)]
                if words:
                    yield path, words, ", ".join(map(_text, words))
                if len(words) < len(part):
                    nested = [one for one in part if isinstance(one, dict | list)]
                    pending.append(zip(repeat(path), nested, strict=False))
                    break
            elif text := _text(part):
                yield path, part, text
        else:
            pending.pop()


def _text(value: Json) -> str:
    """Return a text, number or boolean as it is written; empty for null."""
    if isinstance(value, str):
        return value.strip()
    return "" if value is None else str(value).lower()


def _plain(value: Json) -> str:
    """Return a value as metadata writes it, if it keeps the value whole."""
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return (
        scalar_text(value.number) if isinstance(value, Written) else " ".join(_text(value).split())
    )
