"""JSON: records with a text and fields, or any other JSON with words in it.

A record is an object. Its text is that of its text fields. If it has none of them, its text is all
of its values, each on a line with its path.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from indexer.decoding.decode import decode
from indexer.parse.base.compose import Composer
from indexer.parse.base.fields import Written, bounded_metadata, read_json
from indexer.skip import parser_errors_as_damage
from retrieval.domain.metadata import Metadata, field_name, flat_pairs, scalar_text
from retrieval.domain.records import Document

DEFAULT_TEXT_FIELDS: Final = ("text", "content", "contents", "body", "passage", "abstract")
"""Fields that make up the text of a record, unless the user names others."""

_TITLES: Final = ("title", "headline", "subject", "name")

Json = str | bool | list[Any] | dict[str, Any] | None
"""A JSON value; numbers are ``Written``."""


class Field(NamedTuple):
    """A value in a record."""

    path: str
    """Path of the value, such as ``a.b``."""
    text: str
    """The value as it is written."""
    plain: str
    """The value as metadata writes it, if it keeps the value whole."""


def parse_json(
    uri: str, data: bytes, text_fields: Sequence[str] = (), encoding: str = ""
) -> Document:
    """Make a document of a JSON file (RFC 8259): one record, or a list of records.

    The title of a record is its first field of ``title``, ``headline``, ``subject`` or ``name``.
    Values that are not in the text become metadata, by path; values that metadata has no room for
    follow the text. Each record of a list is a section, with all its values in the text.

    Args:
        uri: as in ``Document``.
        data: the file.
        text_fields: paths of the only fields that make up the text; by default the fields of
            ``DEFAULT_TEXT_FIELDS`` that the record has.
        encoding: as in ``indexer.decoding.decode.decode``.

    Raises:
        SkipDocument: the file is not JSON.
    """
    source, encoding = decode(data, encoding)
    with parser_errors_as_damage():
        value = read_json(source)
    composer = Composer()
    if not isinstance(value, list) or not any(isinstance(record, dict) for record in value):
        kept = bounded_metadata(_metadata(value, text_fields or DEFAULT_TEXT_FIELDS))
        _add(composer, value, text_fields, kept)
        return composer.document(uri, "json", [_title(value)], kept.items(), encoding)
    for number, record in enumerate(value, 1):
        composer.begin_section(1, _title(record) or f"Record {number}")
        _add(composer, record, text_fields, None)
    return composer.document(uri, "json", encoding=encoding)


def _metadata(record: Json, names: Sequence[str]) -> Iterator[tuple[str, Json]]:
    """Yield the fields of a record that are not in its text or its title."""
    if isinstance(record, dict):
        title = _title(record)
        for key, value in record.items():
            if not _is_text(key, names) and not (key in _TITLES and _text(value) == title):
                yield key, _without_texts(value, key, names)


def _without_texts(value: Json, path: str, names: Sequence[str]) -> Json:
    """Return a value without the fields, at any depth, that make up the record's text."""
    if isinstance(value, list):
        return [_without_texts(part, path, names) for part in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _without_texts(part, f"{path}.{key}", names)
        for key, part in value.items()
        if not _is_text(f"{path}.{key}", names)
    }


def _is_text(path: str, names: Sequence[str]) -> bool:
    return any(path == name or path.startswith(name + ".") for name in names)


def _add(
    composer: Composer, record: Json, text_fields: Sequence[str], kept: Metadata | None
) -> None:
    """Add the text of a record, and its fields that are not in the text or in the metadata.

    Args:
        composer: receives the text.
        record: the record.
        text_fields: paths of the only fields that make up the text, if the user named any.
        kept: metadata of the record; None for a record in a list, which has none.
    """
    title = _title(record)
    names = text_fields or DEFAULT_TEXT_FIELDS
    texts: list[str] = []
    rest: list[Field] = []
    for field in _fields(record):
        if _is_text(field.path, names):
            texts.append(field.text)
        elif not (field.text == title and field.path in _TITLES):
            rest.append(field)
    composer.add(title)
    composer.add("\n\n".join(texts))
    if text_fields:
        rest = []
    elif texts and kept is not None:
        known = set(flat_pairs(kept))
        rest = [field for field in rest if (field_name(field.path), field.plain) not in known]
    composer.add("\n".join(f"{path}: {text}" if path else text for path, text, _ in rest))


def _title(record: Json) -> str:
    if not isinstance(record, dict):
        return ""
    return next((str(record[key]) for key in _TITLES if isinstance(record.get(key), str)), "")


def _fields(value: Json, path: str = "") -> Iterator[Field]:
    """Yield the values that are not empty; the words and numbers of a list make one."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _fields(part, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        words = [part for part in value if not isinstance(part, dict | list) and _text(part)]
        if words:
            yield Field(path, ", ".join(map(_text, words)), ", ".join(map(_plain, words)))
        for part in value:
            if isinstance(part, dict | list):
                yield from _fields(part, path)
    elif text := _text(value):
        yield Field(path, text, _plain(value))


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
