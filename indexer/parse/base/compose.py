"""Put a text together from blocks, for formats whose source is not readable text."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from indexer.parse.base.fields import UNREAD, bounded_metadata
from indexer.parse.base.outline import (
    MAX_SECTIONS,
    Heading,
    one_line,
    sections_of,
    title_of,
)
from retrieval.domain.records import Document, Table

# Not part of any text: control characters except tab and line feed, lone surrogates, noncharacters,
# and what only says where a line may end: soft hyphens, zero-width spaces, word joiners.
_UNWANTED: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f\xad\u200b\u2060\ud800-\udfff\ufeff\ufffe\uffff]"
)
_LINE_END: Final = re.compile(r"\r\n?|\x0b|\x0c|\x85|\u2028|\u2029")
_BAR: Final = " | "
"""What stands between the cells of a row."""
_UNUSUAL: Final = re.compile(f"{_UNWANTED.pattern}|[\r\x0b\x0c\x85\u2028\u2029]")
_TRAILING: Final = re.compile(r"(?<![ \t])[ \t]++$", re.MULTILINE)


def clean(text: str) -> str:
    r"""Return a text that any program accepts: line ends ``\n``, no control characters."""
    if text.isascii() and text.isprintable():
        return text
    if not _UNUSUAL.search(text):
        return text
    return _UNWANTED.sub("", _LINE_END.sub("\n", text))


def column_names(header: Sequence[Sequence[str]]) -> str:
    """Return the names of a table's columns on one line, between bars.

    Args:
        header: the rows that name the columns, white space collapsed; a column's different cells
            are joined from top to bottom.
    """
    width = max(map(len, header), default=0)
    columns = (dict.fromkeys(row[n] for row in header if n < len(row)) for n in range(width))
    return _BAR.join(" ".join(filter(None, cells)) for cells in columns).strip()


def _row_line(row: Sequence[str]) -> str:
    return _BAR.join(row).rstrip()


class Composer:
    """Builds a text block by block, and keeps where headings and pages begin."""

    def __init__(self) -> None:
        self.headings: list[Heading] = []
        self.length = 0
        self._parts: list[str] = []
        self._page_starts: list[int] = []
        self._tables: list[Table] = []
        self._unread: dict[str, None] = {}
        self._pages_due = 0

    def add(self, text: str, line_ends: int = 2) -> None:
        """Add a block, unless it is only white space.

        Args:
            text: the block.
            line_ends: number of line ends before it; two make a blank line.
        """
        block = clean(text)
        # Looking at each space takes ten times as long as looking for one before a line end.
        if " \n" in block or "\t\n" in block:
            block = _TRAILING.sub("", block)
        block = block.rstrip(" \t\n").lstrip("\n")
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

    def add_table(self, rows: Sequence[Sequence[str]], header_rows: int = 0) -> None:
        """Add a table as a block: a line for each row that is not empty, with bars between cells.

        Passages that begin below the header get the names of its columns as context.

        Args:
            rows: the cells of each row; a cell's white space is collapsed. A cell that spans
                several rows or columns is repeated in each.
            header_rows: number of rows at the top that name the columns. Where there are several,
                a column's name is made of all its different cells.
        """
        lines = [[" ".join(clean(cell).split()) for cell in row] for row in rows]
        header = [row for row in lines[:header_rows] if any(row)]
        body = [row for row in lines[header_rows:] if any(row)]
        if not header and not body:
            return
        above, below = ("\n".join(map(_row_line, part)) for part in (header, body))
        self.add("\n".join(filter(None, (above, below))))
        rows_start = self.length - len(below)
        start = rows_start - len(above) - bool(above and below)
        self._tables.append(Table(start, self.length, column_names(header), rows_start))

    def add_document(self, document: Document) -> None:
        """Add the text of a document as a block, with its headings and tables.

        What of it could not be read counts as unread here, too.
        """
        unread = document.metadata.get(UNREAD)
        for part in unread if isinstance(unread, list) else ():
            self.unread(str(part))
        text = document.text.rstrip()
        if not text:
            return
        if self._parts:
            self._append("\n\n")
        self._begin_pages()
        start = self.length
        for section in document.sections:
            if section.level and len(self.headings) < MAX_SECTIONS:
                title = section.heading_path[-1]
                self.headings.append(Heading(start + section.char_start, section.level, title))
        self._tables += [
            Table(
                start + table.char_start,
                start + table.char_end,
                table.header,
                start + table.rows_start,
            )
            for table in document.tables
        ]
        self._append(text)

    def unread(self, part: str) -> None:
        """Note a part that could not be read, such as ``page 2``; named in the metadata."""
        self._unread[part] = None

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
            metadata: fields of the file; see ``fields.bounded_metadata``. The parts that could not
                be read come first, as ``unread``.
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
            metadata=bounded_metadata([(UNREAD, list(self._unread)), *metadata]),
            page_starts=tuple(self._page_starts),
            tables=tuple(self._tables),
        )

    def _append(self, part: str) -> None:
        self._parts.append(part)
        self.length += len(part)

    def _begin_pages(self) -> None:
        self._page_starts += [self.length] * self._pages_due
        self._pages_due = 0
