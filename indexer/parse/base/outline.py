"""Outline of a text: its headings, the sections that they make, and the title."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath
from typing import Final

from retrieval.domain.records import Document, Section

MAX_HEADING_CHARS: Final = 500
"""Maximum length of titles, headings and texts in metadata: longer ones are usually text that was
marked up as a heading."""
MAX_SECTIONS: Final = 100_000
"""Maximum number of sections; further headings start none, and their text stays. Bounds what a
hostile file can make the index hold."""

_RAW_CHARS: Final = 4 * MAX_HEADING_CHARS
"""Number of characters to collapse the white space of: enough for a heading with some."""
_WORD: Final = re.compile(r"[^\W_]+")
_LONG_WORD: Final = 3
"""Number of letters of a word that says something."""
_NAMELESS: Final = frozenset({"readme", "index", "_index", "main"})
"""Names of files, without their extension, that say nothing about their content."""
_TAG: Final = re.compile("<[^<>]*+>")


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading in a document's text."""

    char_start: int
    """First character of its line or block."""
    level: int
    """Level as marked up, from 1, which is outermost; levels may be skipped."""
    title: str


def words(text: str) -> frozenset[str]:
    """Return the words of a text as a set; keeps long sets in the source readable."""
    return frozenset(text.split())


def one_line(text: str) -> str:
    """Collapse the white space of a text, and cut it to ``MAX_HEADING_CHARS``."""
    # Cut roughly first: the text may have megabytes.
    return " ".join(text[:_RAW_CHARS].split())[:MAX_HEADING_CHARS].rstrip()


def lines_of(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text without white space at their end, each with its offset."""
    start = 0
    for line in text.splitlines(keepends=True):
        yield start, line.rstrip()
        start += len(line)


def heading_source(source: str) -> str:
    """Return the start of a heading's source: enough for any title, whatever its markup."""
    return source[:_RAW_CHARS].rstrip()


def usable(headings: Iterable[Heading]) -> list[Heading]:
    """Return the headings that have a title, at most ``MAX_SECTIONS``."""
    return list(islice((heading for heading in headings if heading.title), MAX_SECTIONS))


def sections_of(headings: Iterable[Heading]) -> tuple[Section, ...]:
    """Return the sections that tile a text with these headings.

    Args:
        headings: ``usable`` headings in order of ``char_start``. If two are at the same place, the
            text belongs to the second.
    """
    sections: list[Section] = []
    outer: list[Heading] = []
    for heading in headings:
        if not sections and heading.char_start > 0:
            sections.append(Section(0, ()))
        while outer and outer[-1].level >= heading.level:
            outer.pop()
        outer.append(heading)
        path = tuple(step.title for step in outer)
        if sections and sections[-1].char_start == heading.char_start:
            sections.pop()  # nothing stands between the two
        sections.append(Section(heading.char_start, path, len(path)))
    return tuple(sections) or (Section(0, ()),)


def title_of(uri: str, *candidates: str) -> str:
    """Return the first candidate that is not empty; otherwise the file's name, no extension."""
    name = PurePosixPath(uri).name
    for candidate in (*candidates, PurePosixPath(uri).stem, name):
        if title := one_line(candidate):
            return title
    return uri


def plain_document(uri: str, text: str, encoding: str) -> Document:
    """Return a document of plain text: one section, named after the file."""
    return Document(uri, title_of(uri), "text", text, sections_of(()), encoding)


def title_heading(
    uri: str,
    text: str,
    headings: Sequence[Heading],
    *,
    start: int = 0,
    omitted: Sequence[tuple[int, int]] = (),
) -> str:
    """Return the heading that names a document whose text is its source; empty if none does.

    That is the first of level 1. Without one it is the first heading, if the text begins with it
    or with HTML without words, and if it is the only one of its level, has a word of the file's
    name, or that says nothing, as "README". A heading below other text names a part.

    Args:
        uri: of the document.
        text: its text.
        headings: its headings.
        start: first character of the text proper, such as after front matter.
        omitted: ranges that readers don't see.
    """
    if title := next((heading.title for heading in headings if heading.level == 1), ""):
        return title
    if not headings:
        return ""
    first = headings[0]
    above = list[str]()
    for left, right in sorted(omitted):
        if left < first.char_start:
            above.append(text[start:left])
            start = max(start, right)
    above.append(text[start : first.char_start])
    if _TAG.sub("", "".join(above)).strip():
        return ""
    is_only = sum(heading.level <= first.level for heading in headings) == 1
    name = PurePosixPath(uri).stem.casefold()
    names = is_only or name in _NAMELESS or _long_words(name) & _long_words(first.title)
    return first.title if names else ""


def _long_words(text: str) -> set[str]:
    return {word for word in _WORD.findall(text.casefold()) if len(word) >= _LONG_WORD}
