"""Extract the text of an HTML tree, block by block, with the places of its headings."""

from dataclasses import dataclass, field
from typing import Final

from selectolax.lexbor import LexborNode

from indexer.parse.base.outline import Heading, one_line, words

_DROPPED: Final = words(
    """
    audio button canvas datalist embed head iframe map nav noscript object script select style svg
    template textarea video
    """
)
_PAGE_PARTS: Final = frozenset({"aside", "footer", "header"})
"""Left out at the level of the page; inside content they are part of it."""
_CONTENT: Final = frozenset({"article", "aside", "main", "section"})

_BLOCKS: Final = words(
    """
    address article aside blockquote body caption center details dialog dir div dl fieldset
    figcaption figure footer form h1 h2 h3 h4 h5 h6 header hgroup hr html legend main menu ol p pre
    search section summary table ul
    """
)
_LINE_ENDS: Final = {
    **dict.fromkeys(_BLOCKS, (2, 2)),
    **dict.fromkeys(("dd", "li", "tr"), (1, 1)),
    "dt": (2, 1),
}
"""Number of line ends before and after an element; two make a blank line."""

_HEADINGS: Final = {f"h{level}": level for level in range(1, 7)}
_LISTS: Final = frozenset({"dir", "menu", "ol", "ul"})
_CELLS: Final = frozenset({"td", "th"})
_UNREAD_ROLES: Final = frozenset({"contentinfo", "navigation", "search"})
_PERMALINKS: Final = frozenset("#§¶🔗")
"""Texts of links to the heading itself, which generators put into headings."""

_PARTS_PER_PIECE: Final = 2
"""A piece of text follows its separator from the piece before."""

_MAX_INDENT: Final = 8
"""Lists nested deeper are not indented further, so that lines stay readable."""

_WRITE_CHARS: Final = 1 << 20
"""Number of characters to collapse white space in at once: bounds memory."""


def extract_text(root: LexborNode) -> tuple[str, list[Heading]]:
    """Return the text below a node as a reader would see it, and its headings in order.

    White space is collapsed except in ``<pre>``. A blank line separates blocks, a list item begins
    with ``- `` on a line of its own, and `` | `` separates table cells. The page's footers, asides
    and headers without a heading are left out, unless nothing else has text.
    """
    for keep_page_parts in (False, True):
        extraction = _Extraction(keep_page_parts)
        extraction.run(root)
        if extraction.out.parts:
            break
    return "".join(extraction.out.parts), extraction.headings


@dataclass(slots=True)
class _Writer:
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
        self.space = text[-1:].isspace() or (self.space and not words)

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


@dataclass(slots=True)
class _Open:
    """An element that is still open."""

    node: LexborNode
    tag: str
    parts: int
    """Number of parts written before it."""
    headings: int
    """Number of headings found before it."""
    heading: bool
    """Whether it is a heading that is not in another heading."""
    page_part: bool


@dataclass(slots=True)
class _Extraction:
    """One walk over a tree, with a stack of its own: a document may be nested deeply."""

    keep_page_parts: bool
    out: _Writer = field(default_factory=_Writer)
    headings: list[Heading] = field(default_factory=list)
    stack: list[_Open] = field(default_factory=list)
    in_content: int = 0
    """Number of open elements that hold content rather than parts of the page."""
    in_lists: int = 0
    in_pre: int = 0
    in_heading: bool = False
    row_parts: int = 0
    """Number of parts written before the last row began."""
    row_broken: bool = False
    """Whether a cell of the last row has more than one line."""

    def run(self, root: LexborNode) -> None:
        """Extract everything below ``root``."""
        node: LexborNode | None = root
        while node is not None:
            child = self._enter(node)
            if child is not None:
                node = child
                continue
            node = node.next
            while node is None and self.stack:
                opened = self.stack.pop()
                self._close(opened)
                node = opened.node.next

    def _enter(self, node: LexborNode) -> LexborNode | None:
        """Enter a node; return its first child if its children are to be read."""
        tag = node.tag or ""
        if tag == "-text":
            self._text(node.text_content or "")
            return None
        if tag.startswith("-") or tag in _DROPPED:
            return None
        if tag == "div" and node.attrs.sget("role") in _UNREAD_ROLES:
            return None
        opened = self._open(node, tag)
        child = node.first_child
        if child is None:
            self._close(opened)
        else:
            self.stack.append(opened)
        return child

    def _text(self, text: str) -> None:
        if self.in_pre and not self.in_heading:
            self.out.write_verbatim(text)
            return
        for start in range(0, len(text), _WRITE_CHARS):
            self.out.write(text[start : start + _WRITE_CHARS])

    def _open(self, node: LexborNode, tag: str) -> _Open:
        """Begin an element."""
        out = self.out
        heading = tag in _HEADINGS and not self.in_heading
        page_part = tag in _PAGE_PARTS and not self.in_content and not self.keep_page_parts
        if heading:
            out.lead, out.fresh = "", False
        self._break_before(tag)
        if tag in _LISTS:
            self.in_lists += 1
        elif tag == "li":
            out.lead, out.fresh = "  " * min(self.in_lists - 1, _MAX_INDENT) + "- ", True
        elif tag == "dd":
            out.fresh = True
        elif tag == "tr":
            self.row_parts, self.row_broken = len(out.parts), False
        elif tag in _CELLS:
            self._begin_cell()
        elif tag == "pre":
            self.in_pre += 1
        self.in_heading |= heading
        self.in_content += tag in _CONTENT
        return _Open(node, tag, len(out.parts), len(self.headings), heading, page_part)

    def _break_before(self, tag: str) -> None:
        """Break the line before an element that begins a line."""
        if self.in_heading:
            self.out.space |= tag in _LINE_ENDS or tag == "br"
        elif self.in_pre:
            if tag == "br":
                self.out.write_verbatim("\n")
            elif tag in _LINE_ENDS:
                self.out.break_line(1)
        elif tag == "br":
            self.out.break_line(min(self.out.gap + 1, 2))
        elif tag in _LISTS and self.in_lists:
            self.out.break_line(1)
        elif tag in _LINE_ENDS:
            self.out.break_line(_LINE_ENDS[tag][0])

    def _begin_cell(self) -> None:
        """Put a bar before a cell, or a blank line if the cell before has several lines."""
        out = self.out
        if self.row_broken:
            out.break_line(2)
        elif len(out.parts) > self.row_parts:
            out.gap = 0
            out.lead += "| " if out.lead else " | "
        out.fresh = True

    def _close(self, opened: _Open) -> None:
        """End an element."""
        out, tag = self.out, opened.tag
        if tag in _LISTS:
            self.in_lists -= 1
        elif tag in {"dd", "li", "tr"}:
            # A paragraph at the end of an item makes no blank line before the next item.
            out.lead, out.fresh, out.gap = "", False, min(out.gap, 1)
        elif tag in _CELLS:
            self.row_broken |= any("\n" in part for part in out.parts[opened.parts + 1 :])
        elif tag == "pre":
            self.in_pre -= 1
        elif (
            tag == "a"
            and len(out.parts) == opened.parts + _PARTS_PER_PIECE
            and out.parts[-1] in _PERMALINKS
        ):
            out.cut(opened.parts)
        if opened.heading:
            self._end_heading(opened)
        if opened.page_part and (tag != "header" or len(self.headings) == opened.headings):
            out.cut(opened.parts)
            del self.headings[opened.headings :]
        self.in_content -= tag in _CONTENT
        if tag in _LINE_ENDS and not self.in_heading:
            out.break_line(1 if self.in_pre else _LINE_ENDS[tag][1])

    def _end_heading(self, opened: _Open) -> None:
        """Add a heading, if it has any text."""
        self.in_heading = False
        parts = self.out.parts[opened.parts :]
        if parts:
            start = self.out.length - sum(map(len, parts)) + len(parts[0])
            title = one_line("".join(parts[1:]))
            self.headings.append(Heading(start, _HEADINGS[opened.tag], title))
