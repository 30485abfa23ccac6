"""JSON: records with a text and fields, or whatever else has words in it.

A record is an object. Its text is that of its text fields; where it has none of them, it is every
value in it, each on a line with its path.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from indexer.decode import decode
from indexer.parse.compose import Composer
from indexer.parse.damage import as_damage
from indexer.parse.outline import MAX_HEADING_CHARS, MAX_METADATA
from retrieval.records import Document

DEFAULT_TEXT_FIELDS: Final = ("text", "content", "contents", "body", "passage", "abstract")
"""Fields that are a record's text, where nothing else is said."""

_TITLES: Final = ("title", "headline", "subject", "name")

Json = str | bool | list[Any] | dict[str, Any] | None
"""A value; numbers stay as they are written."""

Field = tuple[str, str]
"""Path (``a.b``) and value."""


def parse_json(uri: str, data: bytes, text_fields: Sequence[str] = ()) -> Document:
    """Make a document of a JSON file (RFC 8259): one record, or a list of them.

    A record's title is its first field of ``title``, ``headline``, ``subject`` or ``name``. Values
    that are not in the text are metadata, by path; those for which there is no room there follow
    the text. Each record of a list is a section, with all its values in the text.

    Args:
        uri: see ``Document``.
        data: the file.
        text_fields: paths of the fields that make the text, alone; by default those of
            ``DEFAULT_TEXT_FIELDS`` that there are.

    Raises:
        SkipDocument: it is no JSON.
    """
    source, encoding = decode(data)
    with as_damage():
        value = json.loads(source, parse_int=str, parse_float=str, parse_constant=str)
    composer = Composer()
    if not isinstance(value, list) or not any(isinstance(record, dict) for record in value):
        fields = _add(composer, value, text_fields, has_metadata=True)
        return composer.document(uri, "json", [_title(value)], fields, encoding)
    for number, record in enumerate(value, 1):
        composer.begin_section(1, _title(record) or f"Record {number}")
        _add(composer, record, text_fields, has_metadata=False)
    return composer.document(uri, "json", encoding=encoding)


def _add(
    composer: Composer, record: Json, text_fields: Sequence[str], *, has_metadata: bool
) -> list[Field]:
    """Add a record's text; returns the fields that are not in it, or not only."""
    title = _title(record)
    names = text_fields or DEFAULT_TEXT_FIELDS
    texts: list[str] = []
    rest: list[Field] = []
    for path, value in _fields(record):
        if any(path == name or path.startswith(name + ".") for name in names):
            texts.append(value)
        elif not (value == title and path in _TITLES):
            rest.append((path, value))
    composer.add(title)
    composer.add("\n\n".join(texts))
    if text_fields:
        shown = []
    elif texts and has_metadata:
        shown = [
            (path, value)
            for number, (path, value) in enumerate(rest)
            if number >= MAX_METADATA or len(value) > MAX_HEADING_CHARS
        ]
    else:
        shown = rest
    composer.add("\n".join(f"{path}: {value}" if path else value for path, value in shown))
    return rest


def _title(record: Json) -> str:
    if not isinstance(record, dict):
        return ""
    return next((str(record[key]) for key in _TITLES if isinstance(record.get(key), str)), "")


def _fields(value: Json, path: str = "") -> Iterator[Field]:
    """Yield the values that say something, those of lists of words or numbers together."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _fields(part, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        words = [_text(part) for part in value if not isinstance(part, dict | list)]
        if joined := ", ".join(filter(None, words)):
            yield path, joined
        for part in value:
            if isinstance(part, dict | list):
                yield from _fields(part, path)
    elif text := _text(value):
        yield path, text


def _text(value: Json) -> str:
    """A value that is no object and no list; empty for null."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value).strip()
