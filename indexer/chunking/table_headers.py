"""The names of a table's columns, for chunks that begin in it below the rows that name them."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final, NamedTuple

from indexer.chunking.units import CHARS_PER_TOKEN
from retrieval.domain.records import Table, TokenCounter

_SHARE: Final = 4
"""Names take a quarter of a chunk at most: its rows are what it is about."""
_TOKENS_OF_WHOLE: Final = 64
"""Tokens of the names at most where a document is one chunk."""
_BAR: Final = " | "
_MORE: Final = " | …"


class Header(NamedTuple):
    """Names of columns, with the number of their tokens and of the line end after them."""

    names: str
    tokens: int


NO_HEADER: Final = Header("", 0)


class TableHeaders:
    """The names of the columns of a document's tables, cut where they are too many."""

    def __init__(self, tables: Sequence[Table], counter: TokenCounter, chunk_tokens: int) -> None:
        """Take over the tables.

        Args:
            tables: in order; none lies in another.
            counter: tokenizer of the model that the chunks are for.
            chunk_tokens: as in ``ChunkSettings``.
        """
        self._tables = tables
        self._starts = [table.char_start for table in tables]
        self._counter = counter
        self._room = chunk_tokens // _SHARE or _TOKENS_OF_WHOLE
        self._known: dict[str, Header] = {}

    def at(self, start: int) -> Header:
        """Return the names for a chunk that begins at a place; none if it needs none."""
        if not self._tables:
            return NO_HEADER
        table = self._tables[max(0, bisect_right(self._starts, start) - 1)]
        below = table.rows_start == start or table.char_start < start < table.char_end
        if not below or not table.header:
            return NO_HEADER
        if table.header not in self._known:
            self._known[table.header] = self._cut(table.header, self._room)
        return self._known[table.header]

    def names_columns(self, place: int) -> bool:
        """Whether a place is in the rows of a table that name its columns."""
        number = bisect_right(self._starts, place)
        return number > 0 and place < self._tables[number - 1].rows_start

    def within(self, start: int, room: int) -> str:
        """Return the names for a chunk that has room for so many tokens more."""
        header = self.at(start)
        return (
            header.names if header.tokens <= room else self._cut(header.names, max(0, room)).names
        )

    def _cut(self, names: str, room: int) -> Header:
        """Return as many names as fit, the first ones."""
        limit = CHARS_PER_TOKEN * room
        columns = names[:limit].split(_BAR)
        if len(names) > limit:
            columns.pop()  # it may be torn
        best = NO_HEADER
        least, most = 0, len(columns)
        count = most  # most often, all fit
        while least < most:
            line = _BAR.join(columns[:count])
            line += _MORE if len(line) < len(names) else ""
            (tokens,) = self._counter.count([f"{line}\n"])
            if tokens <= room:
                least, best = count, Header(line, tokens)
            else:
                most = count - 1
            count = (least + most + 1) // 2
        return best
