"""Put a text together from blocks, for formats whose source is not readable text."""

import re
from collections.abc import Iterable
from typing import Final

from indexer.parse.base.fields import bounded_metadata
from indexer.parse.base.outline import (
    MAX_SECTIONS,
    Heading,
    one_line,
    sections_of,
    title_of,
)
from retrieval.domain.records import Document

# Not part of any text: control characters except tab and line feed, lone surrogates, and
# noncharacters.
_UNWANTED: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
_LINE_END: Final = re.compile(r"\r\n?|\x0b|\x0c|\x85|\u2028|\u2029")
_TRAILING: Final = re.compile(r"[ \t]+$", re.MULTILINE)


def clean(text: str) -> str:
    r"""Return a text that any program accepts: line ends ``\n``, no control characters."""
    if text.isascii() and text.isprintable():
        return text
    return _UNWANTED.sub("", _LINE_END.sub("\n", text))


class Composer:
    """Builds a text block by block, and keeps where headings and pages begin."""

    def __init__(self) -> None:
        self.headings: list[Heading] = []
        self.length = 0
        self._parts: list[str] = []
        self._page_starts: list[int] = []
        self._pages_due = 0

    def add(self, text: str, line_ends: int = 2) -> None:
        """Add a block, unless it is only white space.

        Args:
            text: the block.
            line_ends: number of line ends before it; two make a blank line.
        """
        block = _TRAILING.sub("", clean(text)).strip("\n")
        if not block:
            return
        if self._parts:
            self._append("\n" * line_ends)
        self._begin_pages()
        self._append(block)

    def add_heading(self, level: int, title: str) -> None:
        """Add a heading as a block of its own."""
        if line := one_line(clean(title)):
            self.begin_section(level, line)
            self.add(line)

    def begin_section(self, level: int, title: str) -> None:
        """Begin a section with the next block; its title need not be in the text."""
        start = self.length + 2 if self._parts else 0
        if title and len(self.headings) < MAX_SECTIONS:
            self.headings.append(Heading(start, level, title))

    def begin_page(self) -> None:
        """Begin a page with the next block."""
        self._pages_due += 1

    def document(
        self,
        uri: str,
        format_: str,
        titles: Iterable[str] = (),
        metadata: Iterable[tuple[str, object]] = (),
        encoding: str = "utf-8",
    ) -> Document:
        """Make a document of the text.

        Args:
            uri: as in ``Document``.
            format_: as in ``Document``.
            titles: the first that is not empty becomes the title; if all are, the first heading.
            metadata: fields of the file; see ``fields.bounded_metadata``.
            encoding: as in ``Document``.
        """
        self._begin_pages()
        text = "".join(self._parts)
        # A heading that no block followed has no place in the text.
        headings = [heading for heading in self.headings if heading.char_start < len(text)]
        first = (heading.title for heading in headings[:1])
        return Document(
            uri=uri,
            title=title_of(uri, *map(clean, titles), *first),
            format=format_,
            text=text,
            sections=sections_of(headings),
            encoding=encoding,
            metadata=bounded_metadata(metadata),
            page_starts=tuple(self._page_starts),
        )

    def _append(self, part: str) -> None:
        self._parts.append(part)
        self.length += len(part)

    def _begin_pages(self) -> None:
        self._page_starts += [self.length] * self._pages_due
        self._pages_due = 0
