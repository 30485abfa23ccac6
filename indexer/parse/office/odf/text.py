"""Read the text of an OpenDocument file as a reader sees it, changes accepted."""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from lxml import etree

from indexer.parse.base.compose import Composer
from indexer.parse.base.outline import one_line, words
from indexer.parse.base.titles import is_junk_title
from indexer.parse.office.grid import Cell, add_table, spread
from indexer.parse.office.odf.package import OpenDocument, children, repeats
from indexer.parse.office.odf.styles import TITLE, Styles
from indexer.parse.office.ooxml import PART_ERRORS, Element, attribute, local, whole_text
from indexer.parse.office.repeats import Repeats

_UNREAD: Final = words(
    """
    annotation annotation-end bibliography-configuration hidden-text notes-configuration ruby-text
    script sequence-decls settings shapes tracked-changes user-field-decls variable-decls
    dde-connection-decls
    """
)
"""Elements that a reader doesn't see: comments, deleted text, pronunciations, declarations."""
_BREAKS: Final = {"tab": "\t", "line-break": "\n"}
_ROWS: Final = frozenset({"table-header-rows", "table-rows", "table-row-group"})
_MAX_SPACES: Final = 100
"""A run of more spaces is cut: it aligns words, as tabs do."""
_MAX_INDENT: Final = 8
"""List items nested deeper are not indented further: Writer has ten levels."""
_MAX_REPEATED: Final = 100
"""Cells and rows of a table in a text that are repeated more often are cut."""
_DRAWN: Final = words("frame rect line polyline polygon path circle ellipse g connector control")
_SPACES: Final = re.compile(r"[ \t\r\n]++")


class _Above(NamedTuple):
    """What stood above, which tells whether a blank line follows."""

    is_code: bool = False
    is_item: bool = False


class TextWalk:
    """One walk over the content of a file."""

    def __init__(self, file: OpenDocument, styles: Styles, composer: Composer) -> None:
        self.composer = composer
        self.title = ""
        """Text of the first paragraph in the title's style."""
        self._file = file
        self._styles = styles
        self._frames: list[Element] = []
        """Frames met in a paragraph; they follow it."""
        self._notes: list[tuple[str, Element]] = []
        self._above = _Above()
        self._repeats = Repeats()

    def blocks(self, root: Element) -> None:
        """Add the paragraphs, lists, tables and frames below a node."""
        pending = [(iter(root), -1)]
        first = False
        while pending:
            nodes, depth = pending[-1]
            node = next(nodes, None)
            if node is None:
                pending.pop()
                continue
            name = local(node)
            if name in {"p", "h"}:
                self._paragraph(node, depth, is_first=first)
                first = False
            elif name == "table":
                self._table(node)
            elif name in _DRAWN or name.endswith("-shape"):
                self.add_frame(node)
            elif name in {"list-item", "list-header"}:
                first = name == "list-item"
                pending.append((iter(node), depth))
            elif not self._is_unread(node):
                pending.append((iter(node), depth + (name == "list")))

    def add_notes(self) -> None:
        """Add the footnotes and endnotes met so far."""
        notes, self._notes = self._notes, []
        for citation, body in notes:
            text = " ".join(self.text(part).strip() for part in _paragraphs(body))
            self.composer.add(f"[{citation}] {text}" if text.strip() else "")

    def _is_unread(self, node: Element) -> bool:
        if local(node) in _UNREAD:
            return True
        hidden = attribute(node, "display") == "none" or attribute(node, "is-hidden") == "true"
        return hidden or attribute(node, "style-name") in self._styles.hidden

    def _paragraph(self, node: Element, depth: int, *, is_first: bool) -> None:
        style = attribute(node, "style-name")
        if self._is_unread(node):
            return
        text = self.text(node)
        level = attribute(node, "outline-level")
        is_code = style in self._styles.code
        is_item = depth >= 0
        if not text.strip():
            pass
        elif local(node) == "h":
            self.composer.add_heading(int(level) if level.isdecimal() else 1, text)
            self._above = _Above()
        elif style in self._styles.titles:
            self.title = self.title or text.strip()
            self.composer.add_heading(TITLE, text)
            self._above = _Above()
        else:
            mark = "  " * min(max(depth, 0), _MAX_INDENT) + ("- " if is_first else "")
            goes_on = (is_code and self._above.is_code) or (is_item and self._above.is_item)
            self.composer.add(text if is_code else mark + text.strip(), 1 if goes_on else 2)
            self._above = _Above(is_code, is_item)
        self._add_frames()

    def text(self, paragraph: Element) -> str:
        """Return the text of a paragraph; frames and notes in it are kept for later."""
        parts: list[str] = []
        walk = etree.iterwalk(paragraph, events=("start", "end"))
        for event, node in walk:
            name = local(node)
            if event == "end":
                parts.append(_collapsed(node.tail) if node is not paragraph else "")
            elif name in _BREAKS:
                parts.append(_BREAKS[name])
            elif name == "s":
                parts.append(" " * min(repeats(node, "c"), _MAX_SPACES))
            elif name == "note":
                parts.append(self._note(node))
                walk.skip_subtree()
            elif name in _DRAWN or name.endswith("-shape"):
                self._frames.append(node)
                walk.skip_subtree()
            elif node is not paragraph and self._is_unread(node):
                walk.skip_subtree()
            else:
                parts.append(_collapsed(node.text))
        return "".join(parts)

    def _note(self, note: Element) -> str:
        """Keep a footnote or endnote for the end, and return its mark."""
        citation = "".join(whole_text(part) for part in children(note, "note-citation"))
        for body in children(note, "note-body"):
            self._notes.append((citation.strip(), body))
        return f"[{citation.strip()}]"

    def _add_frames(self) -> None:
        frames, self._frames = self._frames, []
        for frame in frames:
            self.add_frame(frame)

    def add_frame(self, frame: Element) -> None:
        """Add what a frame or shape shows: texts, tables, words of a chart, alternative text."""
        shown = ""
        for node in frame:
            name = local(node)
            if name == "object":
                self._add_object(node)
            elif name in {"title", "desc"}:
                shown = shown or one_line(whole_text(node))
        if shown and not is_junk_title(shown):
            self.composer.add(shown)
        self._above = _Above()
        self.blocks(frame)

    def _add_object(self, node: Element) -> None:
        """Add the words of a chart, or of another object."""
        try:
            content = self._file.embedded(attribute(node, "href"))
        except PART_ERRORS:
            self.composer.unread(f"object {attribute(node, 'href').removeprefix('./')}")
            return
        found = dict.fromkeys(
            text
            for part in ((node if content is None else content).iter())
            if local(part) == "p" and (text := one_line(whole_text(part)))
            if any(map(str.isalpha, text))
        )
        self.composer.add("\n".join(found))

    def _table(self, table: Element) -> None:
        if self._is_unread(table):
            return
        rows: list[list[Cell]] = []
        header = 0
        for row, is_header in table_rows(table):
            cells = [
                Cell(self.cell(cell), repeats(cell, "number-columns-spanned"), spanned)
                for cell in children(row, "table-cell")
                for spanned in [repeats(cell, "number-rows-spanned")]
                for _ in range(min(repeats(cell, "number-columns-repeated"), _MAX_REPEATED))
            ]
            number = min(repeats(row, "number-rows-repeated"), _MAX_REPEATED)
            if any(cell.text for cell in cells):
                rows += [cells] * number
                header += is_header
            else:
                rows.append(cells)
        add_table(self.composer, spread(rows, self._repeats), header)
        self._above = _Above()
        self._add_frames()

    def cell(self, cell: Element) -> str:
        """Return the texts of a cell, nested tables included, on one line."""
        return " ".join(" ".join(map(self.text, _paragraphs(cell))).split())


def table_rows(table: Element, *, is_header: bool = False) -> Iterator[tuple[Element, bool]]:
    """Yield the rows of a table, and whether each names the columns."""
    for node in table:
        name = local(node)
        if name == "table-row":
            yield node, is_header
        elif name in _ROWS:
            yield from table_rows(node, is_header=is_header or name == "table-header-rows")


def _paragraphs(node: Element) -> Iterator[Element]:
    """Yield the paragraphs below a node, but none within another."""
    for child in node:
        if local(child) in {"p", "h"}:
            yield child
        elif local(child) not in _UNREAD:
            yield from _paragraphs(child)


def _collapsed(text: str | None) -> str:
    """Return a text with its white space collapsed, as a reader of XML must."""
    return _SPACES.sub(" ", text) if text else ""
