"""Write text piece by piece, with its white space collapsed and line ends between blocks."""

from dataclasses import dataclass, field
from typing import Final

PARTS_PER_PIECE: Final = 2
"""A piece of text follows its separator from the piece before."""


@dataclass(slots=True)
class Writer:
    """Text under construction, and the separator due before its next piece."""

    parts: list[str] = field(default_factory=list)
    """Separators and pieces of text, in turn."""
    length: int = 0
    gap: int = 0
    """Number of line ends due."""
    space: bool = False
    """Whether a blank is due."""
    lead: str = ""
    """Mark of a list item, or bars between cells, due before the next piece."""
    repeatable: int = 100_000
    """Number of characters that spans of cells may still repeat; bounds hostile tables."""
    fresh: bool = False
    """Whether an item or cell has just begun, so that a block does not break its first line."""

    def break_line(self, line_ends: int) -> None:
        """Require a number of line ends, at least, before the next piece."""
        if not self.fresh:
            self.gap = max(self.gap, line_ends)
        self.space = False

    def write(self, text: str) -> None:
        """Add text with its white space collapsed."""
        words = " ".join(text.split())
        if words:
            self._add(words, after_space=self.space or text[0].isspace())
            self.space = text[-1].isspace()
        elif text:
            self.space = True

    def write_verbatim(self, text: str) -> None:
        """Add preformatted text."""
        if text:
            self._add(text, after_space=self.space)
            self.space = False

    def cut(self, parts: int) -> None:
        """Remove all but the first ``parts`` parts; what was due before them is due again."""
        if len(self.parts) == parts:
            return
        separator = self.parts[parts]
        self.length -= sum(map(len, self.parts[parts:]))
        del self.parts[parts:]
        self.lead = separator.lstrip("\n")
        if "\n" in separator:
            self.gap = max(self.gap, separator.count("\n") + self._line_ends())

    def since(self, parts: int) -> str:
        """Return the text after the first ``parts`` parts, without the separator before it."""
        return "".join(self.parts[parts + 1 :])

    def _add(self, text: str, *, after_space: bool) -> None:
        separator = self.lead
        if self.gap and self.parts:
            separator = "\n" * (self.gap - self._line_ends()) + self.lead
        elif self.parts and after_space and not self.lead:
            separator = " "
        self.parts += (separator, text)
        self.length += len(separator) + len(text)
        self.gap, self.lead, self.fresh = 0, "", False

    def _line_ends(self) -> int:
        """Return how many line ends the text ends with."""
        last = self.parts[-1] if self.parts else ""
        return len(last) - len(last.rstrip("\n"))
