"""Parts of a document's text, by characters or by lines.

Passages know their lines, so a line is found from the passage before it, without reading the text
from its beginning.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Final, NamedTuple

from retrieval.domain.deadline import check_wanted
from retrieval.domain.records import CharRange, DocumentRow, TextPart, TextRange
from retrieval.store.disk.tables.rows import Rows, TextPiece, damaged_row, read_texts
from retrieval.store.disk.tables.schema import TEXT_PART_CHARS

_BLOCK_CHARS: Final = 16 * TEXT_PART_CHARS
"""Characters to look through at once: 4 MiB of memory at most, read in about 2 ms."""


class Mark(NamedTuple):
    """A position whose line is known."""

    char: int
    line: int


_TOP: Final = Mark(0, 1)


class TextParts(ABC):
    """Reads parts of one document's text."""

    def __init__(self, document: DocumentRow) -> None:
        """Read parts of a document."""
        self._document = document
        self._end = document.char_count

    @abstractmethod
    def mark(self, ordinal: int) -> Mark:
        """Return the beginning of a passage.

        Raises:
            IndexDamaged: there is no such passage.
        """

    @abstractmethod
    def text(self, start: int, end: int) -> str:
        """Return the text between two positions.

        Raises:
            IndexDamaged: the stored text is shorter than its document.
        """

    def read(self, asked: TextRange, most_chars: int | None = None) -> TextPart:
        """Read a part of the text; see ``Reader.text_part``.

        Raises:
            DeadlinePassed: no client waits for the answer any more.
            IndexDamaged: the stored text has another length than its document.
        """
        if isinstance(asked, CharRange):
            start, end = asked.start, self._end if asked.end is None else asked.end
        else:
            start = self._start_of_line(asked.start)
            end = self._end if asked.end is None else self._start_of_line(asked.end + 1)
        start, end = min(start, self._end), min(end, self._end)
        is_cut = most_chars is not None and end - start > most_chars
        if most_chars is not None and is_cut:
            end = start + most_chars
        text = self.text(start, end)
        if is_cut and not isinstance(asked, CharRange):
            text = text[: text.rfind("\n") + 1] or text
        return self._placed(text, start)

    def _placed(self, text: str, start: int) -> TextPart:
        end = start + len(text)
        line_count = self._line_at(self._end - 1) if self._end else 0
        if not text:
            return TextPart("", start, end, 0, 0, line_count)
        line = self._line_at(start)
        return TextPart(text, start, end, line, line + text.count("\n", 0, -1), line_count)

    def _line_at(self, position: int) -> int:
        """Return the line of a character, from 1."""
        mark = self._mark_before(position, by_line=False)
        return mark.line + sum(
            block.count("\n") for _, block in self._blocks(mark.char, min(position, self._end))
        )

    def _start_of_line(self, line: int) -> int:
        """Return the position of a line's first character; the end of the text if it is short."""
        if line <= 1:
            return 0
        mark = self._mark_before(line, by_line=True)
        left = line - mark.line
        for start, block in self._blocks(mark.char, self._end):
            count = block.count("\n")
            if count >= left:
                found = -1
                for _ in range(left):
                    found = block.index("\n", found + 1)
                return start + found + 1
            left -= count
        return self._end

    def _mark_before(self, place: int, *, by_line: bool) -> Mark:
        """Return the beginning of a passage near to a place and before it, found by bisection.

        Args:
            place: a position, or a line.
            by_line: whether it is a line; the beginning is then in a line before it.
        """
        below, above, mark = -1, self._document.chunk_count, _TOP
        while above - below > 1:
            middle = (below + above) // 2
            at = self.mark(middle)
            if at.line < place if by_line else at.char <= place:
                below, mark = middle, at
            else:
                above = middle
        return mark

    def _blocks(self, start: int, end: int) -> Iterator[tuple[int, str]]:
        """Yield the text between two positions in blocks, each with its position."""
        for at in range(start, end, _BLOCK_CHARS):
            check_wanted()
            yield at, self.text(at, min(at + _BLOCK_CHARS, end))


class StoredTextParts(TextParts):
    """Reads parts of a text from the tables of an index on disk."""

    def __init__(self, rows: Rows, document: DocumentRow) -> None:
        """Read from a generation's tables by running queries with ``rows``."""
        super().__init__(document)
        self._rows = rows

    def mark(self, ordinal: int) -> Mark:
        """See ``TextParts``."""
        rows = self._rows(
            "SELECT char_start, line_start FROM chunks WHERE document_id = ? AND ordinal = ?",
            [self._document.id, ordinal],
        )
        if not rows:
            raise damaged_row(f"passage {ordinal} of {self._document.uri!r} is missing")
        return Mark(*rows[0])

    def text(self, start: int, end: int) -> str:
        """See ``TextParts``."""
        text = next(read_texts(self._rows, [TextPiece(self._document.id, start, end)]))
        if len(text) != end - start:
            raise damaged_row(f"the text of {self._document.uri!r} has another length")
        return text
