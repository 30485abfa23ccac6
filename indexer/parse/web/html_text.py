"""Extract the text of an HTML tree, block by block, with the places of its headings and tables."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from selectolax.lexbor import LexborNode

from indexer.parse.base.outline import Heading, one_line, words
from indexer.parse.web.html_hidden import hidden_in
from indexer.parse.web.html_parts import (
    MAY_BE_PARTS,
    Part,
    leads_elsewhere,
    part_of,
)
from indexer.parse.web.html_table import HtmlTable, opens_with_names
from indexer.parse.web.html_writer import PARTS_PER_PIECE, Writer
from retrieval.domain.records import Table

_DROPPED: Final = words(
    """
    annotation annotation-xml audio canvas datalist defs desc embed head iframe map metadata object
    rp rt script select style symbol template textarea title video
    """
)
"""Elements without text that a reader sees in its place. ``annotation`` repeats a formula, and
``rt`` says how the characters before it are pronounced."""
_INLINE: Final = words(
    """
    abbr acronym b bdi bdo big cite code del dfn em font g i ins kbd label mark math mi mn mo mrow
    msqrt msub msubsup msup mtext q ruby s samp small span strike strong sub sup svg switch time
    tspan tt u var wbr
    """
)
"""Elements that only pass their text on."""
_CONTENT: Final = frozenset({"article", "main"})
"""Elements that hold the content of a page."""
_LINES: Final = words("div h2 h3 h4 h5 h6 p")
"""Elements whose text may lead to another page, or be the title of a part that does."""
_MAY_BE_LEFT_OUT: Final = _LINES | {"aside"}
_ENDS: Final = frozenset({"article", "body", "main"})

_BLOCKS: Final = words(
    """
    address article aside blockquote body button caption center details dialog dir div dl fieldset
    figcaption figure footer form h1 h2 h3 h4 h5 h6 header hgroup hr html legend main menu nav ol p
    pre search section summary table ul
    """
)
_LINE_ENDS: Final = {
    **dict.fromkeys(_BLOCKS, (2, 2)),
    **dict.fromkeys(("dd", "li", "text", "tr"), (1, 1)),
    "dt": (2, 1),
}
"""Number of line ends before and after an element; two make a blank line."""

_HEADINGS: Final = {f"h{level}": level for level in range(1, 7)}
_DEFAULT_LEVEL: Final = 2
"""Level of an element with the role of a heading that names none, by WAI-ARIA."""
_LISTS: Final = frozenset({"dir", "menu", "ol", "ul"})
_PARTS_OF_TABLES: Final = frozenset({"td", "th", "thead", "tr"})
_PERMALINKS: Final = frozenset("#§¶🔗")
"""Texts of links to the heading itself, which generators put into headings."""

_LABEL_CHARS: Final = 100
"""A button with more text is content in a button's clothes, or was never closed."""
_FILE_NAME: Final = re.compile(r"\S*\.(?:avif|bmp|gif|jpe?g|png|svg|tiff?|webp)|https?:\S*", re.I)
"""Descriptions of pictures that programs make of their names."""

_MAX_INDENT: Final = 8
"""Lists nested deeper are not indented further, so that lines stay readable."""

_WRITE_CHARS: Final = 1 << 20
"""Number of characters to collapse white space in at once: bounds memory."""

# What tells the parts of a page from its content; measured as html_parts says.
_MANY_LINKS: Final = 0.4
"""Share of characters in links from which on an element whose name says so consists of links."""
_LINKS_ELSEWHERE: Final = 0.35
"""The same for what follows a title such as "You might also like"."""
_TITLE_CHARS: Final = 60
_LINE_CHARS: Final = 200
_NOTHING_CHARS: Final = 30
"""With fewer characters, what follows a title is not what it is the title of."""
_RESTORED_SHARE: Final = 1.5
"""A part with more text outside of links than this share of all that was kept is content after all,
whatever it is called, if it has more than a few lines."""
_RESTORED_CHARS: Final = 200
_MAX_RESTORES: Final = 2
"""Maximum number of times to read a page again with such parts."""
_LITTLE_CHARS: Final = 500
_HIDDEN_TIMES: Final = 5
"""A page that shows fewer characters than the one, and hides more than the other times as many in
one element, is shown by a script once it is loaded."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """Text of a tree."""

    text: str
    headings: list[Heading]
    tables: tuple[Table, ...] = ()


def extract_text(root: LexborNode | None, *, whole: bool = False) -> Extracted:
    """Return the text below a node as a reader would see it, its headings and tables in order.

    White space is collapsed except in ``<pre>``. A blank line separates blocks, a list item begins
    with ``- `` on a line of its own, and `` | `` separates table cells. The descriptions of
    pictures are text. The parts of the page around its content are left out, unless too little else
    has text.

    Args:
        root: the node; None is an empty tree.
        whole: whether all of it is content, as in a book or a message.
    """
    if root is None:
        return Extracted("", [])
    hidden = hidden_in(root)
    extraction = _Extraction(_marks(root, hidden), keep_parts=whole)
    extraction.run(root)
    for _ in range(_MAX_RESTORES):
        shown, missed = extraction.shown_by_scripts(hidden), extraction.missed()
        if not shown and not missed:
            break
        hidden = [node for node in hidden if node.mem_id not in shown]
        restored = extraction.restored | missed
        extraction = _Extraction(_marks(root, hidden), keep_parts=whole, restored=restored)
        extraction.run(root)
    if not extraction.out.parts:
        extraction = _Extraction({}, keep_parts=True, keep_noscript=True)
        extraction.run(root)
    text = "".join(extraction.out.parts)
    return Extracted(text, extraction.headings, tuple(extraction.tables))


def _marks(root: LexborNode, hidden: Iterable[LexborNode]) -> Mapping[int, int]:
    """Return the level of elements with the role of a heading; 0 for hidden elements."""
    marks = {}
    for node in root.css("[role=heading]"):
        level = node.attributes.get("aria-level") or ""
        marks[node.mem_id] = int(level) if level and level in "123456789" else _DEFAULT_LEVEL
    return marks | dict.fromkeys((node.mem_id for node in hidden), 0)


@dataclass(slots=True)
class _Open:
    """An element that is still open, and what was written before it."""

    tag: str
    parts: int
    """Number of parts before it."""
    length: int
    """Length of the text before it."""
    headings: int
    """Number of headings before it."""
    link_chars: int
    """Number of characters in links before it."""
    contents: int
    """Number of elements before it that hold the content of the page."""
    level: int
    """Level of a heading that is not in another heading; otherwise 0."""
    part: Part
    title: "_Title | None" = None
    """A title in it that leads elsewhere."""


@dataclass(frozen=True, slots=True)
class _Title:
    """A title that says that links to other pages, or comments, follow."""

    opened: _Open
    end: int
    """Length of the text with it."""
    link_chars: int
    """Number of characters in links with it."""


@dataclass(slots=True)
class _Extraction:
    """One walk over a tree, with a stack of its own: a document may be nested deeply."""

    marks: Mapping[int, int]
    """See ``_marks``."""
    keep_parts: bool
    """Whether to keep the parts of the page that surround its content."""
    restored: frozenset[int] = frozenset()
    """Identities of elements that look like such parts but hold the text of the page."""
    keep_noscript: bool = False
    """Whether to read what is meant for browsers without scripts."""
    out: Writer = field(default_factory=Writer)
    headings: list[Heading] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    left_out: list[tuple[LexborNode, int]] = field(default_factory=list)
    """Elements that were left out, with the number of their characters outside of links; -1 if they
    were not read."""
    stack: list[tuple[LexborNode, _Open | None]] = field(default_factory=list)
    open_tables: list[HtmlTable] = field(default_factory=list)
    content_tags: list[str] = field(default_factory=lambda: ["main"])
    """Tags of the elements that hold the content of the page."""
    contents: int = 0
    """Number of those elements so far."""
    in_content: int = 0
    """Number of open elements whose parts are not those of the page."""
    link_chars: int = 0
    """Number of characters in links."""
    in_lists: int = 0
    in_pre: int = 0
    in_heading: bool = False

    def run(self, root: LexborNode) -> None:
        """Extract everything below ``root``."""
        # Several may be teasers of other pages, and the titles of widgets.
        self.content_tags += [tag for tag in ("article", "h1") if len(root.css(tag)) == 1]
        node: LexborNode | None = root
        stack, marks, write = self.stack, self.marks, self.out.write
        while node is not None:
            tag = node.tag or ""
            if tag == "-text":
                text = node.text_content or ""
                if self.in_pre or len(text) > _WRITE_CHARS:
                    self._text(text)
                else:
                    write(text)
                child = None
            elif tag in _INLINE and not (marks and node.mem_id in marks):
                child = node.first_child
                if child is not None:
                    stack.append((node, None))
            else:
                child = self._enter(node, tag)
            if child is not None:
                node = child
                continue
            node = node.next
            while node is None and stack:
                closed, opened = stack.pop()
                if opened is not None:
                    self._close(closed, opened)
                node = closed.next

    def missed(self) -> frozenset[int]:
        """Return the elements that were left out though they hold much of the page's text."""
        most = max(_RESTORED_CHARS, _RESTORED_SHARE * self._kept_chars())
        return frozenset(
            node.mem_id
            for node, length in self.left_out
            if (_unlinked_chars(node, most) if length < 0 else length) > most
        )

    def shown_by_scripts(self, hidden: Sequence[LexborNode]) -> frozenset[int]:
        """Return the hidden elements that hold nearly all of the page's text."""
        if self._kept_chars() >= _LITTLE_CHARS:
            return frozenset()
        most = _HIDDEN_TIMES * _LITTLE_CHARS
        return frozenset(node.mem_id for node in hidden if _unlinked_chars(node, most) > most)

    def _kept_chars(self) -> int:
        return max(1, self.out.length - self.link_chars)

    def _enter(self, node: LexborNode, tag: str) -> LexborNode | None:
        """Enter an element; return its first child if its children are to be read."""
        if tag in _DROPPED or tag[:1] == "-":
            return None
        level = _HEADINGS.get(tag, 0)
        if self.marks and (mark := self.marks.get(node.mem_id)) is not None:
            if not mark:
                return None
            level = level or mark
        part = Part.CONTENT
        if tag == "img":
            self._describe(node)
            return None
        if tag == "noscript" and not self.keep_noscript:
            return None
        if tag in MAY_BE_PARTS and not self.keep_parts:
            part = part_of(node, tag)
            if part and node.mem_id in self.restored:
                part = Part.CONTENT
            elif part is Part.FURNITURE and node.css_first(",".join(self.content_tags)) is None:
                self.left_out.append((node, -1))
                return None
        opened = self._open(node, tag, level, part)
        child = node.first_child
        if child is None:
            self._close(node, opened)
        else:
            self.stack.append((node, opened))
        return child

    def _text(self, text: str) -> None:
        if self.in_pre and not self.in_heading:
            self.out.write_verbatim(text)
            return
        for start in range(0, len(text), _WRITE_CHARS):
            self.out.write(text[start : start + _WRITE_CHARS])

    def _describe(self, image: LexborNode) -> None:
        """Write the description of a picture, unless the text beside it says the same."""
        text = " ".join((image.attributes.get("alt") or "").split())
        if not text or _FILE_NAME.fullmatch(text) or self.in_pre:
            return
        for beside in (image.prev, image.next):
            if beside is not None and text in (beside.text_content or ""):
                return
        self.out.space = True
        self.out.write(text)
        self.out.space = True

    def _open(self, node: LexborNode, tag: str, level: int, part: Part) -> _Open:
        """Begin an element."""
        out = self.out
        if self.in_heading:
            level = 0
        if level:
            out.lead, out.fresh = "", False
        self._break_before(tag)
        if tag in _LISTS:
            self.in_lists += 1
        elif tag == "li":
            out.lead, out.fresh = "  " * min(self.in_lists - 1, _MAX_INDENT) + "- ", True
        elif tag == "dd":
            out.fresh = True
        elif tag == "pre":
            self.in_pre += 1
        elif tag == "table":
            self.open_tables.append(HtmlTable(opens_with_names(node)))
        elif self.open_tables and tag in _PARTS_OF_TABLES:
            self._begin_part_of_table(tag)
        opened = _Open(
            tag,
            len(out.parts),
            out.length,
            len(self.headings),
            self.link_chars,
            self.contents,
            level,
            part,
        )
        self.in_heading |= level > 0
        self.contents += tag in self.content_tags
        self.in_content += tag in _CONTENT
        return opened

    def _begin_part_of_table(self, tag: str) -> None:
        table = self.open_tables[-1]
        if tag == "tr":
            table.begin_row(self.out)
        elif tag == "thead":
            table.in_head = True
        else:
            table.begin_cell(self.out)

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
            if self.open_tables and self.open_tables[-1].has_header:
                self.out.space = True  # a row stays on its line
            else:
                self.out.break_line(min(self.out.gap + 1, 2))
        elif tag in _LISTS and self.in_lists:
            self.out.break_line(1)
        elif tag in _LINE_ENDS:
            self.out.break_line(_LINE_ENDS[tag][0])

    def _close(self, node: LexborNode, opened: _Open) -> None:
        """End an element."""
        out, tag = self.out, opened.tag
        if tag in _LISTS:
            self.in_lists -= 1
        elif tag in {"dd", "li"}:
            self._end_line()
        elif tag == "pre":
            self.in_pre -= 1
        elif tag == "a":
            self._end_link(opened)
        elif self.open_tables and (tag in _PARTS_OF_TABLES or tag == "table"):
            self._end_part_of_table(node, opened)
        if opened.level:
            self._end_heading(opened)
        if tag == "button" and self._is_control(node, opened):
            self._cut(opened)
        elif not self.keep_parts and (
            tag in _MAY_BE_LEFT_OUT or opened.title is not None or opened.part is not Part.CONTENT
        ):
            self._leave_out(node, opened)
        self.in_content -= tag in _CONTENT
        if tag in _LINE_ENDS and not self.in_heading:
            out.break_line(1 if self.in_pre else _LINE_ENDS[tag][1])

    def _end_line(self) -> None:
        """End an item or row; a paragraph at its end makes no blank line before the next."""
        self.out.lead, self.out.fresh, self.out.gap = "", False, min(self.out.gap, 1)

    def _end_link(self, opened: _Open) -> None:
        out = self.out
        if len(out.parts) == opened.parts + PARTS_PER_PIECE and out.parts[-1] in _PERMALINKS:
            out.cut(opened.parts)
        self.link_chars += out.length - opened.length

    def _end_part_of_table(self, node: LexborNode, opened: _Open) -> None:
        table, tag = self.open_tables[-1], opened.tag
        if tag == "tr":
            table.end_row(self.out)
            self._end_line()
        elif tag == "thead":
            table.in_head = False
        elif tag != "table":
            table.end_cell(self.out, node, opened.parts)
        else:
            self.open_tables.pop()
            if (record := table.record(self.out)) is not None:
                while self.tables and self.tables[-1].char_start >= record.char_start:
                    self.tables.pop()
                self.tables.append(record)

    def _end_heading(self, opened: _Open) -> None:
        """Add a heading, if it has any text."""
        self.in_heading = False
        parts = self.out.parts[opened.parts :]
        if parts:
            start = self.out.length - sum(map(len, parts)) + len(parts[0])
            title = one_line("".join(parts[1:]))
            self.headings.append(Heading(start, opened.level, title))

    def _is_control(self, button: LexborNode, opened: _Open) -> bool:
        """Whether a button only does something, and does not open or title a part of the text."""
        if self.in_heading or len(self.headings) > opened.headings:
            return False
        attributes = button.attributes
        opens = "aria-expanded" in attributes or attributes.get("role") == "tab"
        return not opens and self.out.length - opened.length <= _LABEL_CHARS

    def _leave_out(self, node: LexborNode, opened: _Open) -> None:
        """Remove an element that is no content, or what follows a title in it that says so."""
        chars = self.out.length - opened.length
        if not chars or (self.restored and node.mem_id in self.restored):
            return
        links = self.link_chars - opened.link_chars
        if self.contents == opened.contents and self._is_left_out(opened, chars, links):
            self.left_out.append((node, chars - links))
            self._cut(opened)
        elif (
            chars <= _LINE_CHARS
            and opened.tag in _LINES
            and leads_elsewhere(self.out.since(opened.parts))
        ):
            if links >= _MANY_LINKS * chars:
                self._cut(opened)
            elif chars <= _TITLE_CHARS:
                self._pass_on(_Title(opened, self.out.length, self.link_chars))
        elif opened.title is not None:
            self._end_part(opened, opened.title)

    def _is_left_out(self, opened: _Open, chars: int, links: int) -> bool:
        """Whether an element is a part of the page without any of its content.

        Args:
            opened: the element.
            chars: number of its characters.
            links: number of those in links.
        """
        part, tag = opened.part, opened.tag
        if part is Part.FURNITURE:
            return True
        if (part is Part.LINKS or tag == "aside") and links >= _MANY_LINKS * chars:
            return True
        if self.in_content or (tag == "header" and len(self.headings) > opened.headings):
            return False
        return part is Part.PAGE

    def _end_part(self, opened: _Open, title: _Title) -> None:
        """Remove a title and what follows it in its element, if that consists of links."""
        rest = self.out.length - title.end
        links = self.link_chars - title.link_chars
        if rest < _NOTHING_CHARS:
            if opened.tag in _ENDS:
                self._cut(title.opened)
            else:
                self._pass_on(title)
        elif (
            links >= _LINKS_ELSEWHERE * rest
            and rest <= title.opened.length
            and self.contents == title.opened.contents
        ):
            self._cut(title.opened)

    def _pass_on(self, title: _Title) -> None:
        """Note a title in the element around the one that has just ended."""
        outer = next((opened for _, opened in reversed(self.stack) if opened is not None), None)
        if outer is not None and outer.title is None:
            outer.title = title

    def _cut(self, opened: _Open) -> None:
        """Remove the text since an element began."""
        self.link_chars = opened.link_chars
        self.out.cut(opened.parts)
        del self.headings[opened.headings :]
        while self.tables and self.tables[-1].char_end > self.out.length:
            self.tables.pop()


def _unlinked_chars(node: LexborNode, enough: float) -> int:
    """Return about how many characters of an element are not in links; 0 if surely too few."""
    length = len(node.text(deep=True))
    if length <= enough:
        return 0
    return length - sum(len(part.text(deep=True)) for part in node.css("a,script,style,noscript"))
