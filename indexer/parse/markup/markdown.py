"""Markdown and MDX: the text is the source itself, so offsets are those of the file.

A CommonMark parser, pulldown-cmark, finds the headings.
"""

import re
from collections.abc import Iterator
from typing import Final

from pyromark import Options, events_with_range

from indexer.decoding.decode import decode
from indexer.parse.base.fields import LISTS, bounded_metadata, split_list
from indexer.parse.base.outline import (
    MAX_HEADING_CHARS,
    Heading,
    one_line,
    sections_of,
    title_of,
    usable,
)
from retrieval.domain.metadata import Scalar, flat_texts, scalar_text
from retrieval.domain.records import Document

MAX_FRONT_MATTER_CHARS: Final = 64_000
"""Front matter that has not ended by here is taken for text: a thematic break began it."""

_FENCE_LINE: Final = re.compile(r"(?:---|\.\.\.)[ \t]*\r?$", re.MULTILINE)
_SCALAR: Final = re.compile(
    r"""(?P<key>"[^"]{1,100}"|'[^']{1,100}'|\w[^:#"'\[\]{},]{0,100}?)[ \t]*:"""
    r"""(?:[ \t]+(?P<value>.*))?$"""
)
_LIST_ITEM: Final = re.compile(r"[ \t]*-[ \t]+(.*)$")
_ITEM: Final = re.compile(r"""\s*("[^"]*"|'[^']*'|[^,]+)\s*(?:,|$)""")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,17})?", re.ASCII)
_WORDS: Final = {"true": True, "false": False, "null": None, "~": None}
_COMMENT: Final = re.compile(r"\s#.*$")
_ATTRIBUTES: Final = re.compile(r"\s*\{[#.:][^{}]*\}\s*$")


def parse_markdown(uri: str, data: bytes, encoding: str = "") -> Document:
    """Make a document of a Markdown file.

    Headings inside lists and quotations don't count. The title is that of the front matter, the
    first heading of level 1, the first heading, or the file's name, in this order. Front matter
    (simple ``key: value`` lines and lists) becomes metadata.

    Raises:
        SkipDocument: the data is binary.
    """
    return parse_markdown_text(uri, *decode(data, encoding), "markdown")


def parse_markdown_text(uri: str, text: str, encoding: str, format_: str) -> Document:
    """Make a document of a text in Markdown; see ``parse_markdown``."""
    matter, body_start = _front_matter(text)
    metadata = bounded_metadata(_read_front_matter(matter))
    headings = usable(_headings(text, body_start))
    outermost = (heading.title for heading in headings if heading.level == 1)
    return Document(
        uri=uri,
        title=title_of(
            uri,
            flat_texts(metadata).get("title", ""),
            next(outermost, ""),
            *(heading.title for heading in headings[:1]),
        ),
        format=format_,
        text=text,
        sections=sections_of(headings),
        encoding=encoding,
        metadata=metadata,
    )


def _front_matter(text: str) -> tuple[str, int]:
    """Return the front matter between its ``---`` lines and the offset of what follows it."""
    opening = _FENCE_LINE.match(text) if text.startswith("---") else None
    if opening is None:
        return "", 0
    closing = _FENCE_LINE.search(text, opening.end() + 1, MAX_FRONT_MATTER_CHARS)
    while closing and text[closing.start() - 1] != "\n":
        closing = _FENCE_LINE.search(text, closing.end(), MAX_FRONT_MATTER_CHARS)
    if closing is None:
        return "", 0
    return text[opening.end() : closing.start()], closing.end()


def _read_front_matter(matter: str) -> Iterator[tuple[str, object]]:
    """Yield top-level keys with a scalar or a list of scalars; the rest of YAML is left out."""
    key, value, items = "", None, list[Scalar | None]()
    for line in matter.splitlines():
        if scalar := _SCALAR.match(line):
            yield key, items or value
            key, items = scalar["key"], []
            key = key[1:-1] if key[0] in "\"'" else key
            value = _value(key, scalar["value"] or "")
        elif key and value in (None, "") and (item := _LIST_ITEM.match(line)):
            items.append(_scalar(item[1]))
    yield key, items or value


def _value(key: str, written: str) -> Scalar | list[Scalar | None] | None:
    """Return the value after a key: a scalar, or a list in brackets."""
    bare = _COMMENT.sub("", " " + written).strip()
    if bare.startswith("[") and bare.endswith("]"):
        return [_scalar(item[1]) for item in _ITEM.finditer(bare[1:-1])]
    value = _scalar(written)
    if isinstance(value, str) and key.lower() in LISTS and written.strip()[:1] not in "\"'":
        return list(split_list(value))
    return value


def _scalar(value: str) -> Scalar | None:
    """Return a YAML scalar with its type; empty for block scalars, mappings, anchors and so on.

    A number that would be printed differently, such as 007 or the version 3.10, stays a text.
    """
    value = value.strip()
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    value = _COMMENT.sub("", " " + value).strip()
    if value.lower() in _WORDS:
        return _WORDS[value.lower()]
    if _NUMBER.fullmatch(value):
        number = float(value) if "." in value else int(value)
        return number if scalar_text(number) == value else value
    return "" if value[:1] in {"|", ">", "{", "[", "&", "*", "!"} else value


def _headings(text: str, body_start: int) -> Iterator[Heading]:
    """Yield the headings that CommonMark sees outside lists and quotations."""
    offset = _CharOffsets(text[body_start:].encode(), body_start)
    depth, in_heading, parts = 0, False, list[str]()
    for event, span in events_with_range(text[body_start:], options=Options.ENABLE_TABLES):
        if isinstance(event, str):
            if in_heading:
                parts.append(" ")  # a line break
        elif "Start" in event:
            if depth == 0:
                in_heading, parts = "Heading" in event["Start"], []
            depth += 1
        elif "End" in event:
            depth -= 1
            end = event["End"]
            if depth == 0 and isinstance(end, dict) and "Heading" in end:
                title = "".join(parts)[: 4 * MAX_HEADING_CHARS]
                level = int(end["Heading"][1:])
                start = offset.of(span["start"])
                while start and text[start - 1] == " ":  # the start of its line
                    start -= 1
                yield Heading(start, level, one_line(_ATTRIBUTES.sub("", title)))
                in_heading = False
        elif in_heading:
            parts.append(str(event.get("Text") or event.get("Code") or ""))


class _CharOffsets:
    """Converts byte offsets in UTF-8 to character offsets, in one pass over the text."""

    def __init__(self, encoded: bytes, start: int) -> None:
        self._encoded = encoded
        self._bytes = 0
        self._chars = start

    def of(self, offset: int) -> int:
        """Return the character offset; byte offsets must not decrease from call to call."""
        self._chars += len(self._encoded[self._bytes : offset].decode())
        self._bytes = offset
        return self._chars
