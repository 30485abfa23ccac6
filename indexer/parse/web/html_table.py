"""Rows and cells of a table in HTML: spans repeat their value, and header rows name the columns."""

from dataclasses import dataclass, field
from typing import Final

from selectolax.lexbor import LexborNode

from indexer.parse.base.compose import column_names
from indexer.parse.base.outline import MAX_HEADING_CHARS, one_line
from indexer.parse.web.html_writer import Writer
from retrieval.domain.records import Table

_BAR: Final = " | "
_MAX_SPAN: Final = 100
"""Wider and longer spans are taken for mistakes, as the 1000 that the HTML standard allows."""
_MAX_REPEATED_CHARS: Final = 200
"""Longer values of a span are written once: they are text in a layout."""
_MAX_COLUMNS: Final = 1000
_MAX_HEADER_ROWS: Final = 8
"""Further rows of ``<th>`` are taken for ordinary ones."""
_LOOK_AHEAD: Final = 20
"""Number of nodes to look at for the first row of a table."""


@dataclass(slots=True)
class HtmlTable:
    """A table that is still open: where its rows are, and the cells that reach into the next."""

    has_header: bool
    """Whether its first row names the columns; a table without such a row may be layout."""
    header: list[list[str]] = field(default_factory=list)
    """Cells of the rows that name the columns."""
    in_head: bool = False
    """Whether ``<thead>`` is open."""
    first: tuple[int, int] | None = None
    """State of the writer before the first row: its parts and length."""
    rows: tuple[int, int] | None = None
    """State of the writer before the first row below the header."""

    row: tuple[int, int] = (0, 0)
    """State of the writer before the last row."""
    row_broken: bool = False
    """Whether a cell of the last row has more than one line."""
    cells: list[str] = field(default_factory=list)
    """Cells of the last row, as far as they are written."""
    in_source: int = 0
    """Number of cells that the last row has in the source."""
    only_names: bool = True
    """Whether all of them are ``<th>`` or empty."""
    below: dict[int, tuple[int, str]] = field(default_factory=dict)
    """Number of further rows that a column's cell reaches into, and what is repeated there."""

    def begin_row(self, out: Writer) -> None:
        """Begin a row."""
        self.row = (len(out.parts), out.length)
        self.first = self.first or self.row
        self.row_broken, self.cells, self.in_source, self.only_names = False, [], 0, True

    def begin_cell(self, out: Writer) -> None:
        """Begin a cell, after those that reach into the row from above."""
        self._fill(out)
        self.in_source += 1
        self._separate(out)
        out.fresh = True

    def end_cell(self, out: Writer, node: LexborNode, parts: int) -> None:
        """End a cell, and repeat it in the columns that it spans.

        Args:
            out: where the table is written.
            node: the cell.
            parts: number of parts written before the cell.
        """
        pieces = out.parts[parts + 1 :]
        broken = any("\n" in piece for piece in pieces)
        self.row_broken |= broken
        name = one_line("".join(pieces)[:_MAX_REPEATED_CHARS])
        is_short = not broken and sum(map(len, pieces)) <= _MAX_REPEATED_CHARS
        repeated = name if is_short else ""
        attributes = node.attributes
        columns, rows = _span(attributes.get("colspan")), _span(attributes.get("rowspan"))
        self.only_names &= node.tag == "th" or not name
        columns = min(columns, max(1, _MAX_COLUMNS - len(self.cells)))
        # A row of one cell is a title: nothing stands beside it.
        is_alone = not self.cells and next_element(node) is None
        for column in range(columns):
            if rows > 1:
                self.below[len(self.cells)] = (rows - 1, repeated)
            if column and not is_alone:
                self._repeat(out, repeated)
            self.cells.append(name)

    def end_row(self, out: Writer) -> None:
        """End a row; find whether it names the columns."""
        self._fill(out)
        if self.rows is not None or not self.cells:
            return
        if self.in_source == 1 and (self.in_head or len(self.cells) > 1):
            return  # a title
        names = self.in_head or (self.only_names and self.in_source > 1)
        if names and len(self.header) < _MAX_HEADER_ROWS:
            self.header.append(self.cells)
        else:
            self.rows = self.row

    def record(self, out: Writer) -> Table | None:
        """Return where the table is, once it has ended; None if no row names its columns."""
        names = column_names(self.header)[:MAX_HEADING_CHARS]
        if not names or self.first is None or self.rows is None:
            return None
        if max(self.first[0], self.rows[0]) >= len(out.parts):
            return None  # nothing below the header
        starts = [length + len(out.parts[parts]) for parts, length in (self.first, self.rows)]
        return Table(starts[0], out.length, names, starts[1])

    def _fill(self, out: Writer) -> None:
        """Write the cells from above that stand next in the row."""
        while (column := len(self.cells)) in self.below:
            rows, text = self.below.pop(column)
            if rows > 1:
                self.below[column] = (rows - 1, text)
            self._repeat(out, text)
            self.cells.append(text)

    def _repeat(self, out: Writer, text: str) -> None:
        out.repeatable -= len(text) + len(_BAR)
        if out.repeatable >= 0:
            self._separate(out)
            out.write(text)

    def _separate(self, out: Writer) -> None:
        """Put a bar before a cell, or a blank line if a cell before it has several lines."""
        if self.row_broken:
            out.break_line(2)
        elif len(out.parts) > self.row[0]:
            out.gap = 0
            out.lead += "| " if out.lead else _BAR
        elif self.has_header and self.cells:
            out.lead += "| "


def opens_with_names(table: LexborNode) -> bool:
    """Whether the first row of a table consists of ``<th>``, or is in a ``<thead>``."""
    node = table.first_child
    for _ in range(_LOOK_AHEAD):
        if node is None:
            return False
        tag = node.tag
        if tag == "thead":
            return True
        if tag in {"tbody", "tr"} and node.first_child is not None:
            node = node.first_child
        elif tag in {"td", "th"}:  # <td> may be the empty corner above the names of the rows
            after = next_element(node)
            return after is not None and after.tag == "th"
        else:
            node = node.next
    return False


def next_element(node: LexborNode) -> LexborNode | None:
    """Return the element after a node, with the same parent."""
    after = node.next
    while after is not None and not after.is_element_node:
        after = after.next
    return after


def _span(value: str | None) -> int:
    """Return the number of rows or columns of a cell."""
    try:
        return min(max(int(value or 1), 1), _MAX_SPAN)
    except ValueError:
        return 1
