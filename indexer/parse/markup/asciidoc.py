"""AsciiDoc: the text is the source itself; section titles are found outside delimited blocks.

Titles, blocks and the header follow https://docs.asciidoctor.org/asciidoc/latest. Macros and
includes are not processed.
"""

import re
from collections.abc import Iterator
from typing import Final

from indexer.decoding.decode import decode
from indexer.parse.base.compose import column_names
from indexer.parse.base.fields import bounded_metadata, with_lists
from indexer.parse.base.outline import (
    MAX_HEADING_CHARS,
    Heading,
    lines_of,
    one_line,
    sections_of,
    title_heading,
    title_of,
    usable,
)
from retrieval.domain.metadata import flat_texts
from retrieval.domain.records import Document, Table

_TITLE: Final = re.compile(r"(={1,6}|#{1,6})[ \t]+(\S.*?)(?:[ \t]+\1)?\s*$")
_UNDERLINES: Final = "=-~^+"
"""Underlines of two-line titles, by level."""
_UNDERLINE: Final = re.compile(r"([=\-~^+])\1{2,}\s*$")
_UNDERLINE_TOLERANCE: Final = 1
"""Difference in length that the specification allows between a title and its underline."""
_BLOCK: Final = re.compile(r"(?:([-.=*_+/])\1{3,}|--|[|,:!]={3,}|`{3,}.*)\s*$")
_TABLE: Final = re.compile(r"\|={3,}")
_DISCRETE: Final = re.compile(r"\[(?:discrete|float)\b.*\]\s*$")
_ATTRIBUTE: Final = re.compile(r":([A-Za-z_][\w-]*):(?:[ \t]+(.*))?$")
_ANCHOR: Final = re.compile(r"\[\[[^\]]*\]\]|\[#[^\]]*\]")
_MARKUP: Final = re.compile(r"(?<!\w)([*_`+#]{1,2})(?=\S)(.+?)(?<=\S)\1(?!\w)")
_LINK: Final = re.compile(r"(?:link:|https?://)\S*?\[([^\]]*)\]|<<[^,>]*,\s*([^>]*)>>")
_MAX_HEADER_LINES: Final = 200
"""A header has no blank line; this bounds the search in a file without any."""


def parse_asciidoc(uri: str, data: bytes, encoding: str = "") -> Document:
    """Make a document of an AsciiDoc file.

    The title is that of the document (``= Title``), that of ``title_heading``, or the file's name,
    in this order. The header's attributes (``:key: value``) and authors become metadata.

    Raises:
        SkipDocument: the data is binary.
    """
    text, encoding = decode(data, encoding)
    headings = usable(_headings(text))
    metadata = bounded_metadata(with_lists(_header(text)))
    comments = tuple(_comments(text))
    heading = title_heading(uri, text, headings, omitted=comments)
    return Document(
        uri=uri,
        title=title_of(uri, heading, flat_texts(metadata).get("title", "")),
        format="asciidoc",
        text=text,
        sections=sections_of(headings),
        encoding=encoding,
        metadata=metadata,
        tables=tuple(_tables(text)),
        omitted=comments,
    )


def _comments(text: str) -> Iterator[tuple[int, int]]:
    """Yield the ranges of comments: lines of ``//``, and blocks between lines of ``////``."""
    if "//" not in text:
        return
    block, block_start = "", 0
    for start, line in lines_of(text):
        if block:
            if line == block:
                if block.startswith("////"):
                    yield block_start, start + len(line)
                block = ""
        elif _BLOCK.match(line):
            block, block_start = (line if not line.startswith("```") else "```"), start
        elif line.startswith("//") and not line.startswith("///"):
            yield start, start + len(line)


def _tables(text: str) -> Iterator[Table]:
    """Yield the tables between lines of ``|===``.

    The first row names the columns if a blank line, but none before it, follows it, or if the
    attributes above the table say so.
    """
    if "|===" not in text:
        return
    above = ""
    rows: list[tuple[int, str]] = []
    opened = -1
    for start, line in lines_of(text):
        if not _TABLE.fullmatch(line):
            if opened >= 0:
                rows.append((start, line))
            elif line:
                above = line if line.startswith("[") else ""
        elif opened < 0:
            opened, rows = start, []
        else:
            yield _table(opened, start + len(line), rows, above)
            opened, above = -1, ""


def _table(start: int, end: int, rows: list[tuple[int, str]], attributes: str) -> Table:
    """Return a table with the names of its columns."""
    first = next((number for number, (_, line) in enumerate(rows) if line), len(rows))
    below = [place for place, line in rows[first + 1 :] if line]
    is_named = first == 0 and len(rows) > 1 and not rows[1][1] and rows[0][1].count("|") > 1
    if "header" in attributes or (is_named and "noheader" not in attributes):
        cells = [_plain(cell.strip()) for cell in rows[first][1].split("|")[1:]] if below else []
        return Table(start, end, column_names([cells]), below[0] if below else end)
    return Table(start, end, "", rows[first][0] if first < len(rows) else end)


def _headings(text: str) -> Iterator[Heading]:
    """Yield section titles, in one line or underlined; discrete headings are left out."""
    block = ""
    discrete = False
    above = (0, "")
    before = ""
    for start, line in lines_of(text):
        if block:
            block = "" if line == block else block
        elif two := _underlined(above[1], line, before):
            yield Heading(above[0], *two)
        elif _BLOCK.match(line):
            # A fence ends without the language that it began with.
            block = line.rstrip() if not line.startswith("```") else "```"
        elif (title := _TITLE.match(line)) and not discrete:
            yield Heading(start, len(title[1]), _plain(title[2]))
        if line and not _ANCHOR.fullmatch(line):
            discrete = bool(_DISCRETE.match(line))
        before, above = above[1], (start, line)


def _underlined(title: str, line: str, before: str) -> tuple[int, str] | None:
    """Return the level and text of a two-line title; None if the lines are not one."""
    match = _UNDERLINE.match(line)
    if match is None or not title or not title[0].isalnum() or (before and before[0].isalnum()):
        return None
    if abs(len(title) - len(line)) > _UNDERLINE_TOLERANCE:
        return None
    return _UNDERLINES.index(match[1]) + 1, _plain(title)


def _plain(title: str) -> str:
    """Return a title without inline markup."""
    title = _ANCHOR.sub("", title[: 4 * MAX_HEADING_CHARS])
    title = _LINK.sub(lambda match: match[1] or match[2] or "", title)
    return one_line(_MARKUP.sub(r"\2", title))


def _header(text: str) -> Iterator[tuple[str, str]]:
    """Yield the attributes before the first blank line after the title, and its authors."""
    after_title = False
    for number, (_, line) in enumerate(lines_of(text)):
        if number == _MAX_HEADER_LINES or (after_title and not line):
            return
        if match := _ATTRIBUTE.match(line):
            yield match[1], match[2] or ""
        elif after_title and line[:1].isalpha() and "@" in line:
            yield "author", line.partition("<")[0].strip()
        elif _TITLE.match(line):
            after_title = True
