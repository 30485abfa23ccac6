"""Markdown and MDX: the source itself is the text, so offsets are those of the file.

Headings are found by a CommonMark parser. It takes a second or more for a megabyte of short
lines, so longer documents get a plain scan for ``#`` headings instead.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

from indexer.decode import decode
from indexer.parse.outline import (
    MAX_HEADING_CHARS,
    Heading,
    bounded_metadata,
    line_starts,
    one_line,
    sections_of,
    title_of,
    usable,
)
from retrieval.records import Document

MAX_COMMONMARK_CHARS: Final = 500_000
"""Longer documents are scanned for ``#`` headings, fenced code left out, and not parsed."""
MAX_FRONT_MATTER_CHARS: Final = 64_000
"""Front matter that has not ended by here is none."""

_FENCE_LINE: Final = re.compile(r"(?:---|\.\.\.)[ \t]*\r?$", re.MULTILINE)
_SCALAR: Final = re.compile(r"([A-Za-z_][\w.-]*)[ \t]*:(?:[ \t]+(.*))?$")
_LIST_ITEM: Final = re.compile(r"[ \t]*-[ \t]+(.*)$")
_COMMENT: Final = re.compile(r"\s#.*$")
_ATTRIBUTES: Final = re.compile(r"\s*\{[#.:][^{}]*\}\s*$")
_SCAN: Final = re.compile(r"^ {0,3}(?:(#{1,6})(?=[ \t\r\n]|\Z)|(`{3,}|~{3,}))", re.MULTILINE)
_CLOSING_HASHES: Final = re.compile(r"(?:^|[ \t])#+[ \t\r]*$")


def parse_markdown(uri: str, data: bytes) -> Document:
    """Make a document of a Markdown file.

    Only headings of the document itself count, not those inside lists and quotations. The title
    is the front matter's, else the first heading of level 1, else the first heading, else the
    file's name. Front matter (simple ``key: value`` lines and lists) becomes metadata.

    Raises:
        SkipDocument: the data is binary.
    """
    text, encoding = decode(data)
    matter, body_start = _front_matter(text)
    metadata = bounded_metadata(_read_front_matter(matter))
    find = _parsed_headings if len(text) <= MAX_COMMONMARK_CHARS else _scanned_headings
    headings = usable(find(text, body_start))
    outermost = (heading.title for heading in headings if heading.level == 1)
    return Document(
        uri=uri,
        title=title_of(
            uri,
            metadata.get("title", ""),
            next(outermost, ""),
            *(heading.title for heading in headings[:1]),
        ),
        format="markdown",
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


def _read_front_matter(matter: str) -> Iterator[tuple[str, str]]:
    """Yield top-level keys with a scalar or a list of scalars; all else in YAML is left out."""
    key, items = "", list[str]()
    for line in matter.splitlines():
        if scalar := _SCALAR.match(line):
            yield key, ", ".join(items)
            key, items = scalar[1], [_scalar(scalar[2] or "")]
        elif key and not any(items) and (item := _LIST_ITEM.match(line)):
            items = [_scalar(item[1])]
        elif key and items and (item := _LIST_ITEM.match(line)):
            items.append(_scalar(item[1]))
    yield key, ", ".join(items)


def _scalar(value: str) -> str:
    """Return a YAML scalar as text; empty for block scalars, mappings, anchors and the like."""
    value = value.strip()
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    value = _COMMENT.sub("", " " + value).strip()
    if value.startswith("[") and value.endswith("]"):
        return ", ".join(_scalar(item) for item in value[1:-1].split(","))
    return "" if value[:1] in {"|", ">", "{", "[", "&", "*", "!"} else value


def _parsed_headings(text: str, body_start: int) -> Iterator[Heading]:
    """Yield the headings that CommonMark sees outside lists and quotations."""
    markdown = MarkdownIt("commonmark").enable("table")
    # Inline markup is parsed for headings alone, which is most of the work saved.
    markdown.core.ruler.disable(["inline", "text_join"])
    environment: dict[str, object] = {}
    body = text[body_start:]
    tokens = markdown.parse(body, environment)
    starts = line_starts(body)
    for opening, inline in pairwise(tokens):
        if opening.type != "heading_open" or opening.level > 0 or opening.map is None:
            continue
        children: list[Token] = []
        content = inline.content[: 4 * MAX_HEADING_CHARS]
        markdown.inline.parse(content, markdown, environment, children)
        title = one_line(_ATTRIBUTES.sub("", _plain(children)))
        yield Heading(body_start + starts[opening.map[0]], int(opening.tag[1:]), title)


def _plain(tokens: Iterable[Token]) -> str:
    """Return inline tokens without their markup."""
    parts = []
    for token in tokens:
        if token.type in {"text", "text_special", "code_inline", "image"}:
            parts.append(token.content)
        elif token.type in {"softbreak", "hardbreak"}:
            parts.append(" ")
    return "".join(parts)


def _scanned_headings(text: str, body_start: int) -> Iterator[Heading]:
    """Yield the lines that start with ``#`` outside fenced code, in time linear in the text."""
    fence = ""
    for match in _SCAN.finditer(text, body_start):
        if marker := match[2]:
            if not fence:
                fence = marker
            elif marker.startswith(fence):
                fence = ""
        elif not fence:
            line_end = text.find("\n", match.end())
            line = text[match.end() : line_end if line_end >= 0 else len(text)]
            title = one_line(
                _ATTRIBUTES.sub("", _CLOSING_HASHES.sub("", line[: 4 * MAX_HEADING_CHARS]))
            )
            yield Heading(match.start(), len(match[1]), title)
