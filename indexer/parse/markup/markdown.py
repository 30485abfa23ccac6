"""Markdown and its relatives (MDX, Quarto, R Markdown): the text is the source itself.

Offsets are those of the file. A CommonMark parser, pulldown-cmark, finds headings and tables.
"""

import re
from collections.abc import Iterator
from typing import Final

from indexer.decoding.decode import decode
from indexer.decoding.decompress import without_compression
from indexer.parse.base.fields import bounded_metadata
from indexer.parse.base.outline import Heading, sections_of, title_heading, title_of, usable
from indexer.parse.markup.comments import find_comments, may_have_comments
from indexer.parse.markup.commonmark import Found, find_blocks
from indexer.parse.markup.front_matter import read_front_matter
from indexer.parse.markup.mdx import ESM, Shadow, shadow_of
from retrieval.domain.metadata import flat_texts
from retrieval.domain.records import Document, Table

_MODULE: Final = re.compile(r"\s*+import\b[^\n]*['\"];?[ \t]*\r?\n")
"""First line of a text that is MDX in a file named Markdown, as Docusaurus allows."""


def parse_markdown(uri: str, data: bytes, encoding: str = "") -> Document:
    """Make a document of a Markdown file.

    Headings inside lists and quotations don't count. The title is that of the front matter, that
    of ``title_heading``, or the file's name, in this order. Front matter becomes metadata.

    Raises:
        SkipDocument: the data is binary.
    """
    text, name = decode(data, encoding)
    is_mdx = without_compression(uri).lower().endswith(".mdx")
    return parse_markdown_text(uri, text, name, "markdown", is_mdx=is_mdx)


def parse_markdown_text(
    uri: str, text: str, encoding: str, format_: str, *, is_mdx: bool = False
) -> Document:
    """Make a document of a text in Markdown; see ``parse_markdown``.

    Args:
        uri: as in ``Document``.
        text: the text.
        encoding: as in ``Document``.
        format_: as in ``Document``.
        is_mdx: whether tags don't hide Markdown from the parser.
    """
    matter = read_front_matter(text)
    metadata = bounded_metadata(matter.fields)
    module = _MODULE.match(text, matter.end)
    is_mdx = is_mdx or (module is not None and ESM.match(module[0].lstrip()) is not None)
    shadow = shadow_of(text, matter.end) if is_mdx else _same(text, matter.end)
    is_obsidian = format_ == "markdown" and not is_mdx
    has_comments = may_have_comments(text, mdx=is_mdx, obsidian=is_obsidian)
    found = find_blocks(shadow.text, code=has_comments)
    headings = usable(_headings(text, shadow, found))
    code = [_in_file(shadow, *span) for span in found.code]
    comments: list[tuple[int, int]] = []
    if has_comments:
        comments = find_comments(text, matter.end, code, mdx=is_mdx, obsidian=is_obsidian)
    hidden = (_in_file(shadow, *span) for span in found.hidden)
    omitted = (*comments, *hidden, *shadow.scripts)
    heading = title_heading(uri, text, headings, start=matter.end, omitted=omitted)
    return Document(
        uri=uri,
        title=title_of(uri, flat_texts(metadata).get("title", ""), heading),
        format=format_,
        text=text,
        sections=sections_of(headings),
        encoding=encoding,
        metadata=metadata,
        tables=tuple(_tables(shadow, found)),
        omitted=omitted,
    )


def _same(text: str, start: int) -> Shadow:
    """Return a text after its front matter as it is."""
    return Shadow(text[start:], [0], [start], [])


def _headings(text: str, shadow: Shadow, found: Found) -> Iterator[Heading]:
    """Yield the headings, each from the start of its line."""
    for place, level, title in found.headings:
        start = shadow.origin(place)
        while start and text[start - 1] in " \t":
            start -= 1
        yield Heading(start, level, title)


def _tables(shadow: Shadow, found: Found) -> Iterator[Table]:
    """Yield the tables."""
    for start, block_end, rows, header in found.tables:
        end = block_end - shadow.text.endswith("\n", start, block_end)
        rows_start = shadow.origin(rows) if rows < end else shadow.origin(end - 1) + 1
        yield Table(*_in_file(shadow, start, end), header, rows_start)


def _in_file(shadow: Shadow, start: int, end: int) -> tuple[int, int]:
    """Return where a range, not empty, is in the file."""
    return shadow.origin(start), shadow.origin(end - 1) + 1
