"""What all parsers share: titles, metadata, and sections from the headings in a text."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath
from typing import Final

from retrieval.domain.records import Section

MAX_HEADING_CHARS: Final = 500
"""Titles, headings and texts in metadata are cut at this length."""
MAX_SECTIONS: Final = 100_000
"""Headings beyond this many start no section of their own; their text stays."""

_RAW_CHARS: Final = 4 * MAX_HEADING_CHARS
_LINE_END: Final = re.compile(r"\r\n?|\n")


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading as it stands in a document's text."""

    char_start: int
    """First character of its line (or of its block)."""
    level: int
    """As marked up, 1 = outermost; levels may be left out."""
    title: str


def words(text: str) -> frozenset[str]:
    """Return the set of the words in a text; for tables in the source that stay readable."""
    return frozenset(text.split())


def one_line(text: str) -> str:
    """Collapse white space and cut to ``MAX_HEADING_CHARS``."""
    # Cut first, generously: the text may be megabytes.
    return " ".join(text[:_RAW_CHARS].split())[:MAX_HEADING_CHARS].rstrip()


def usable(headings: Iterable[Heading]) -> list[Heading]:
    """Return the headings that have a title, at most ``MAX_SECTIONS``."""
    return list(islice((heading for heading in headings if heading.title), MAX_SECTIONS))


def sections_of(headings: Iterable[Heading]) -> tuple[Section, ...]:
    """Return the sections that tile a text with these headings.

    Args:
        headings: those that are ``usable``, in order of ``char_start``. Of two at one place the
            text is the second's.
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
    """Return the first candidate that is not empty, else the file's name without extension."""
    name = PurePosixPath(uri).name
    for candidate in (*candidates, PurePosixPath(uri).stem, name):
        if title := one_line(candidate):
            return title
    return uri


def line_starts(text: str) -> list[int]:
    r"""Offsets at which lines start; lines end at ``\n``, ``\r\n`` or ``\r``."""
    return [0, *(match.end() for match in _LINE_END.finditer(text))]
