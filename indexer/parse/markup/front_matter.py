"""Front matter of Markdown files: fields before the text, in YAML, TOML or JSON.

YAML stands between lines of ``---``, TOML between lines of ``+++``, as Hugo and Zola write it, and
a JSON object stands for itself.
"""

import json
import re
import tomllib
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time
from typing import Any, Final, NamedTuple

import yaml

from indexer.parse.base.fields import LISTS, Written, split_list
from retrieval.domain.metadata import Scalar, scalar_text

MAX_FRONT_MATTER_CHARS: Final = 64_000
"""Front matter that has not ended by here is taken for text: a thematic break began it."""

_FENCE: Final = re.compile(r"(?:(?:---|\.\.\.)|(?P<toml>\+\+\+))[ \t]*\r?$", re.MULTILINE)
_OBJECT_END: Final = re.compile(r"[ \t]*+(?:\r?\n|\Z)")
_SCALAR: Final = re.compile(
    r"""(?P<key>"[^"]{1,100}"|'[^']{1,100}'|\w[^:#"'\[\]{},]{0,100}?)[ \t]*:"""
    r"""(?:[ \t]+(?P<value>.*))?$"""
)
_SIMPLE: Final = re.compile(
    r"""(?:[ \t\r]*+\n|[A-Za-z_][\w-]*+:(?:[ ]++(?:"[^"\\\n]*+"|'[^'\n]*+'"""
    r"""|[A-Za-z0-9/.](?:[^\n:#]|:(?![ \t\r\n])|(?<![ \t])#)*+))?+[ \t\r]*+\n)*+"""
)
"""YAML of scalars alone, which is told by its lines in a fifth of the time."""
_LIST_ITEM: Final = re.compile(r"[ \t]*-[ \t]+(.*)$")
_ITEM: Final = re.compile(r"""\s*("[^"]*"|'[^']*'|[^,]+)\s*(?:,|$)""")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,17})?", re.ASCII)
_WORDS: Final = {"true": True, "false": False, "null": None, "~": None}
_COMMENT: Final = re.compile(r"\s#.*$")
_TEMPLATE: Final = re.compile(r"\{\{|\{%|<%")
"""What templates begin their blanks with: a file with one is no record yet."""

_MAX_DEPTH: Final = 50
"""Deeper YAML is read by its lines: no front matter is so deep."""
_DECODER: Final = json.JSONDecoder(parse_int=Written, parse_float=Written, parse_constant=str)
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class FrontMatter(NamedTuple):
    """Fields of a file, and where its text begins."""

    fields: Iterable[tuple[str, object]]
    end: int
    """First character after it."""


def read_front_matter(text: str) -> FrontMatter:
    """Return the front matter of a text; without fields, and of no length, if it has none.

    A field's value is a text, number, boolean, list or object. Unquoted numbers, ``true``,
    ``false`` and ``null`` have their types in YAML too, except numbers that would be written
    otherwise, such as the version 3.10.
    """
    if text.startswith("{"):
        return _json(text)
    opening = _FENCE.match(text)
    if opening is None or text.startswith("..."):
        return FrontMatter((), 0)
    toml = opening["toml"]
    position = opening.end() + 1
    while closing := _FENCE.search(text, position, MAX_FRONT_MATTER_CHARS):
        if closing["toml"] == toml and text[closing.start() - 1] == "\n":
            matter = text[opening.end() : closing.start()]
            return FrontMatter(list(_toml(matter) if toml else _yaml(matter)), closing.end())
        position = closing.end()
    return FrontMatter((), 0)


def _json(text: str) -> FrontMatter:
    """Return a JSON object at the start of a text, which must end with its line."""
    try:
        fields, end = _DECODER.raw_decode(text[:MAX_FRONT_MATTER_CHARS])
    except (ValueError, RecursionError):
        return FrontMatter((), 0)
    after = _OBJECT_END.match(text, end)
    if not isinstance(fields, dict) or not fields or after is None:
        return FrontMatter((), 0)
    return FrontMatter(list(fields.items()), after.end())


def _toml(matter: str) -> Iterator[tuple[str, object]]:
    """Yield the fields of TOML, and those that Zola keeps in tables of their own."""
    try:
        fields = tomllib.loads(matter.replace("\r\n", "\n"))
    except (ValueError, RecursionError):
        return
    for key, value in fields.items():
        if key == "taxonomies" and isinstance(value, dict):
            yield from ((name, _plain(part)) for name, part in value.items())
        else:
            yield key, _plain(value)


def _plain(value: Any) -> object:  # noqa: ANN401  (any TOML value)
    """Return a value of TOML with its dates and times as text."""
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return value


def _yaml(matter: str) -> Iterator[tuple[str, object]]:
    """Yield the top-level fields; line by line if the whole is not valid YAML."""
    is_simple = _SIMPLE.fullmatch(matter) is not None
    fields = None if is_simple or _TEMPLATE.search(matter) else _read_yaml(matter)
    for key, value in _read_lines(matter) if fields is None else fields.items():
        if isinstance(value, _Bare) and key.lower() in LISTS:
            yield key, split_list(value)
        else:
            yield key, str(value) if isinstance(value, _Bare) else value


class _Bare(str):
    """A text without quotes in YAML, which may be a list by custom."""

    __slots__ = ()


def _read_yaml(matter: str) -> dict[str, Any] | None:
    """Return the fields of YAML; None if it is not valid, or not fields."""
    try:
        return _build(yaml.parse(matter, Loader=_LOADER))
    except (yaml.YAMLError, ValueError, RecursionError):
        return None


def _build(events: Iterable[Any]) -> dict[str, Any] | None:
    """Return the mapping that the events of a YAML parser describe; None if it is another value.

    Aliases stand for scalars only: those of lists and objects could make a small file huge.

    Raises:
        ValueError: it is nested too deeply.
    """
    root: list[Any] = []
    open_: list[tuple[list[Any], bool]] = [(root, False)]
    anchors: dict[str, Any] = {}
    for event in events:
        if isinstance(event, yaml.SequenceStartEvent | yaml.MappingStartEvent):
            if len(open_) > _MAX_DEPTH:
                raise ValueError("nested too deeply")
            open_.append(([], isinstance(event, yaml.MappingStartEvent)))
        elif isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
            values, is_mapping = open_.pop()
            open_[-1][0].append(_mapping(values) if is_mapping else values)
        elif isinstance(event, yaml.ScalarEvent):
            value = _typed(event.value) if event.implicit[0] else event.value
            if event.anchor:
                anchors[event.anchor] = value
            open_[-1][0].append(value)
        elif isinstance(event, yaml.AliasEvent):
            open_[-1][0].append(anchors.get(event.anchor or ""))
    return root[0] if len(root) == 1 and isinstance(root[0], dict) else None


def _mapping(values: list[Any]) -> dict[str, Any]:
    """Return a mapping of keys and values that follow each other; the last of a key counts."""
    keys = (str(key) if isinstance(key, str | int | float) else "" for key in values[::2])
    return dict(zip(keys, values[1::2], strict=True))


def _read_lines(matter: str) -> Iterator[tuple[str, object]]:
    """Yield top-level keys with a scalar or a list of scalars, as far as lines show them."""
    key, value, items = "", None, list[Scalar | None]()
    for line in matter.splitlines():
        if scalar := _SCALAR.match(line):
            yield key, items or value
            key, items = scalar["key"], []
            key = key[1:-1] if key[0] in "\"'" else key
            value = _value(scalar["value"] or "")
        elif key and value in (None, "") and (item := _LIST_ITEM.match(line)):
            items.append(_scalar(item[1]))
    yield key, items or value


def _value(written: str) -> Scalar | list[Scalar | None] | None:
    """Return the value after a key: a scalar, or a list in brackets."""
    bare = _COMMENT.sub("", " " + written).strip()
    if bare.startswith("[") and bare.endswith("]"):
        return [_scalar(item[1]) for item in _ITEM.finditer(bare[1:-1])]
    return _scalar(written)


def _scalar(value: str) -> Scalar | None:
    """Return a scalar with its type; empty for block scalars, mappings, anchors and so on."""
    value = value.strip()
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    value = _COMMENT.sub("", " " + value).strip()
    return "" if value[:1] in {"|", ">", "{", "[", "&", "*", "!"} else _typed(value)


def _typed(bare: str) -> Scalar | None:
    """Return what a text without quotes stands for.

    A number that would be printed differently, such as 007 or the version 3.10, stays a text.
    """
    if bare.lower() in _WORDS:
        return _WORDS[bare.lower()]
    if _NUMBER.fullmatch(bare):
        number = float(bare) if "." in bare else int(bare)
        return number if scalar_text(number) == bare else bare
    return _Bare(bare)
