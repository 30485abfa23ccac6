"""Make documents of RTF files: the text as a reader sees it."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from indexer.parse.base.compose import Composer
from indexer.parse.base.fields import with_lists
from indexer.parse.base.outline import words
from indexer.parse.base.titles import is_junk_title
from indexer.parse.office.docx.styles import LAST_LEVEL, TITLE, named_level
from indexer.parse.office.drawing import described
from indexer.parse.office.grid import add_table
from indexer.parse.office.legacy.compound import code_page
from indexer.parse.office.repeats import Repeats
from indexer.parse.office.rtf.tokens import SYMBOL, Token, encoding_of_charset, tokens
from indexer.parse.office.symbols import symbol
from indexer.skip import SkipDocument, SkipReason, parser_errors_as_damage
from retrieval.domain.records import Document

_MAX_DEPTH: Final = 10_000
"""Files with groups nested deeper are refused: each group has a state that is kept."""
_MAX_CELLS: Final = 1_000
"""Cells of a row beyond are joined to the last; Word has at most 63."""
_MAX_INDENT: Final = 8
"""List items nested deeper are not indented further."""

# Destinations that are no text of the document: fonts, pictures, page headers, comments, ...
_UNREAD: Final = words(
    """
    colortbl datastore filetbl fldinst header headerf headerl headerr footer footerf footerl
    footerr listoverridetable listtable nonshppict objclass objdata pict pntxta pntxtb private
    revtbl rxe stylesheet tc themedata txe xe annotation atnid atnauthor bkmkstart bkmkend
    ftnsep ftnsepc ftncn aftnsep aftnsepc aftncn template nonesttables
    """
)
_STARRED: Final = words(
    """
    do dptxbxtext footnote listtext moMath moMathPara mr nesttableprops pntext shpinst shppict
    shptxt ud
    """
)
"""Destinations marked as optional that are read all the same."""
_INFO: Final = MappingProxyType(
    {
        "author": "author",
        "creatim": "date",
        "keywords": "keywords",
        "subject": "subject",
        "title": "title",
    }
)
_DESCRIPTION: Final = "wzDescription"
"""Property of a shape that describes it for those who can't see it."""
_DATE: Final = MappingProxyType({"yr": "{:04}", "mo": "-{:02}", "dy": "-{:02}"})
"""Control words of a date, in their order."""
_CHARACTERS: Final = MappingProxyType(
    {
        "bullet": "•",
        "emdash": "—",
        "emspace": " ",
        "endash": "–",
        "enspace": " ",
        "ldblquote": "“",
        "line": "\n",
        "lquote": "‘",
        "nbhyphen": "-",
        "nbsp": " ",
        "qmspace": " ",
        "rdblquote": "”",
        "rquote": "’",
        "softline": "\n",
        "tab": "\t",
    }
)


@dataclass(slots=True)
class _State:
    """What holds in a group; a group inside begins with the same."""

    read: bool = True
    hidden: bool = False
    font: int = -1
    fallback: int = 1
    """Number of characters to leave out after one given by its number in Unicode."""
    table: str = ""
    """Which table of the file's head is being read: of fonts, of styles, or info."""
    field: str = ""
    """Which field of info is being read."""
    in_table: bool = False
    level: int | None = None
    """Level of a heading."""
    indent: int = 0
    """Depth of a list item."""
    is_drop_cap: bool = False
    """Whether the paragraph is a large first letter of the next."""


@dataclass(slots=True)
class _Target:
    """A text of its own: the body, a note, or a text box."""

    kind: str
    depth: int
    """Depth of the group that it is."""
    number: int = 0
    """Number of a note."""
    parts: list[str] = field(default_factory=list)
    """The paragraph that is being read."""
    cells: list[str] = field(default_factory=list)
    """Cells of the row that is being read."""
    cell: list[str] = field(default_factory=list)
    """Paragraphs of the cell that is being read."""
    rows: list[list[str]] = field(default_factory=list)
    """Rows of the table that is being read."""
    paragraphs: list[str] = field(default_factory=list)
    """Paragraphs of a note or a text box."""
    mark: list[str] = field(default_factory=list)
    """Mark of a list item, its number among others; empty for other paragraphs."""
    header_rows: int = 0
    merges: list[str] = field(default_factory=list)
    """For each cell of the row, whether it goes on from the one above or to the left."""


def parse_rtf(uri: str, data: bytes) -> Document:
    """Make a document of an RTF file.

    Page headers and footers, comments, hidden and deleted text are left out. Notes follow at the
    end.

    Raises:
        SkipDocument: groups are nested too deep.
    """
    reader = _Reader()
    with parser_errors_as_damage():
        for token in tokens(data):
            reader.take(token)
        reader.finish()
    info = {name: "".join(parts).strip() for name, parts in reader.info.items()}
    title = info.pop("title", "")
    titles = [reader.title, "" if is_junk_title(title) else title]
    return reader.composer.document(uri, "rtf", titles, with_lists(info.items()))


class _Reader:
    """Takes the parts of a file one by one, and puts the text together."""

    def __init__(self) -> None:
        self.composer = Composer()
        self.title = ""
        """Text of the first paragraph in the title's style."""
        self.info: dict[str, list[str]] = defaultdict(list)
        self._state = _State()
        self._stack: list[_State] = []
        self._targets = [_Target("body", 0)]
        self._encoding = "cp1252"
        self._fonts: dict[int, str] = {}
        self._symbol_fonts: dict[int, str] = {}
        """Names of the fonts whose codes are symbols."""
        self._styles: dict[int, int] = {}
        """Level of each heading style."""
        self._style = 0
        self._style_name: list[str] = []
        self._bytes: list[bytes] = []
        """Bytes of text that are not decoded yet: a character may have several."""
        self._units: list[int] = []
        """Numbers of UTF-16 that are not decoded yet: a character may have two."""
        self._to_leave_out = 0
        self._is_first = False
        """Whether the last part began a group, so that a control word names a destination."""
        self._is_optional = False
        self._property = ""
        """Name of the last property of a shape."""
        self._drop_cap = ""
        """First letters of the next paragraph, which stand in a frame of their own."""
        self._notes: list[str] = []
        self._boxes: list[str] = []
        self._was_item = False
        self._repeats = Repeats()

    def take(self, token: Token) -> None:
        """Read one part of the file."""
        if token.data:
            self._text(token.data)
        elif token.brace:
            self._flush()
            if token.brace == "{":
                self._begin_group()
            else:
                self._end_group()
        elif token.word == "u":
            self._flush_bytes()
            if self._state.read:
                self._units.append((token.number or 0) & 0xFFFF)
            self._to_leave_out = self._state.fallback
        else:
            self._flush()
            self._word(token.word, token.number)
            return
        self._is_first = token.brace == "{"
        self._is_optional = False

    def finish(self) -> None:
        """Add what is left, and the notes."""
        self._flush()
        while len(self._targets) > 1:
            self._end_target()
        self._state.is_drop_cap = False
        self._end_paragraph()
        self._end_table()
        for note in self._notes:
            self.composer.add(note)

    def _text(self, data: bytes) -> None:
        if self._to_leave_out:
            left_out = min(self._to_leave_out, len(data))
            self._to_leave_out -= left_out
            data = data[left_out:]
        if data and self._state.read:
            self._flush_units()
            self._bytes.append(data)

    def _flush(self) -> None:
        self._flush_bytes()
        self._flush_units()

    def _flush_bytes(self) -> None:
        if self._bytes:
            data = b"".join(self._bytes)
            self._bytes.clear()
            encoding = self._fonts.get(self._state.font, self._encoding)
            if self._state.table:
                self._add(data.decode(self._encoding, "replace"))
            elif encoding == SYMBOL:
                self._add(self._symbols(data))
            else:
                self._add(data.decode(encoding, "replace"))

    def _symbols(self, codes: Iterable[int]) -> str:
        font = self._symbol_fonts.get(self._state.font, SYMBOL)
        return "".join(symbol(font, f"{code:x}") for code in codes)

    def _flush_units(self) -> None:
        if self._units:
            units = self._units
            self._units = []
            if self._fonts.get(self._state.font) == SYMBOL:
                self._add(self._symbols(units))
                return
            raw = b"".join(unit.to_bytes(2, "little") for unit in units)
            self._add(raw.decode("utf-16-le", "replace"))

    def _add(self, text: str) -> None:
        """Add decoded text to what is being read."""
        state = self._state
        if state.table == "info":
            if state.field:
                self.info[state.field].append(text)
        elif state.table == "fonts":
            if self._fonts.get(state.font) == SYMBOL:
                self._symbol_fonts.setdefault(state.font, text.rstrip("; ").lower())
        elif state.table == "shape":
            if state.field == "sn":
                self._property = text
            elif state.field == "sv" and self._property == _DESCRIPTION and not state.hidden:
                self._boxes.append(described(text))
        elif state.table == "styles":
            self._style_name.append(text)
        elif state.table == "list":
            self._targets[-1].mark.append(text)
        elif not state.table and not state.hidden:
            self._targets[-1].parts.append(text)

    def _begin_group(self) -> None:
        if len(self._stack) >= _MAX_DEPTH:
            raise SkipDocument(SkipReason.DAMAGED, f"groups nested more than {_MAX_DEPTH} deep")
        self._stack.append(replace(self._state))
        self._to_leave_out = 0

    def _end_group(self) -> None:
        depth = len(self._stack)
        if self._targets[-1].depth == depth and depth:
            self._end_target()
        if self._state.table == "styles" and self._style_name:
            name = "".join(self._style_name).rstrip("; ")
            level = named_level(name.split(",")[0])
            level = self._state.level if level is None else level
            if level is not None:
                self._styles[self._style] = level
            self._style_name.clear()
            self._style = 0
        if self._stack:
            self._state = self._stack.pop()
        self._to_leave_out = 0

    def _word(self, word: str, number: int | None) -> None:
        is_first, self._is_first = self._is_first, False
        if self._to_leave_out and word in _CHARACTERS:
            self._to_leave_out -= 1  # a character of the fallback
            return
        self._to_leave_out = 0
        if word == "*":
            self._is_optional = True
            self._is_first = is_first
            return
        is_optional, self._is_optional = self._is_optional, False
        if is_first and self._begin_destination(word, is_optional=is_optional):
            return
        if not self._state.read:
            return
        if self._state.field == "date" and word in _DATE:
            self.info["date"].append(_DATE[word].format(number or 0))
        elif word in _CHARACTERS:
            self._add(_CHARACTERS[word])
        elif (handler := _HANDLERS.get(word)) is not None:
            handler(self, number)

    def _begin_destination(self, word: str, *, is_optional: bool) -> bool:
        """Begin a destination if a word names one; return whether it does."""
        state = self._state
        if word == "upr":
            state.read = False  # its second part is the same in Unicode
        elif word == "ud":
            state.read = self._stack[-2].read if len(self._stack) > 1 else True
        elif word == "fonttbl":
            state.table = "fonts"
        elif word == "stylesheet":
            state.table = "styles"
        elif word == "info":
            state.table = "info"
        elif state.table == "info":
            state.field = _INFO.get(word, "")
        elif word in {"listtext", "pntext"}:
            state.table = "list"
            self._targets[-1].mark = ["-"]
        elif word in {"sp", "sn", "sv"}:
            state.table, state.field = "shape", word
        elif word in {"footnote", "shptxt", "dptxbxtext"}:
            self._begin_target("note" if word == "footnote" else "box")
        elif word in _UNREAD or (
            is_optional and word not in _STARRED and state.table != "styles" and word != "cs"
        ):
            state.read = False
        else:
            return False
        return True

    def _begin_target(self, kind: str) -> None:
        if not self._state.read:
            return
        number = len(self._notes) + 1
        if kind == "note":
            self._targets[-1].parts.append(f"[{number}]")
            self._notes.append("")
        self._targets.append(_Target(kind, len(self._stack), number))
        self._state = replace(self._state, in_table=False, level=None)

    def _end_target(self) -> None:
        """End a note or a text box."""
        self._end_paragraph()
        self._end_table()
        target = self._targets.pop()
        if target.kind == "note":
            text = " ".join(" ".join(target.paragraphs).split())
            self._notes[target.number - 1] = f"[{target.number}] {text}" if text else ""
        else:
            self._boxes.append("\n\n".join(target.paragraphs))

    def _end_paragraph(self, _: int | None = None) -> None:
        target, state = self._targets[-1], self._state
        text = "".join(target.parts)
        target.parts.clear()
        mark, target.mark = _mark(target.mark, state.indent), []
        if state.in_table or target.cells:
            target.cell.append(text)
            return
        if state.is_drop_cap:
            self._drop_cap += text.strip()
            return
        text, self._drop_cap = self._drop_cap + text, ""
        self._end_table()
        if not text.strip():
            pass
        elif target.kind != "body":
            target.paragraphs.append(text.strip())
        elif state.level is not None and state.level <= LAST_LEVEL:
            if state.level == TITLE:
                self.title = self.title or text.strip()
            self.composer.add_heading(state.level, text)
            self._was_item = False
        else:
            self.composer.add(mark + text.strip(), 1 if mark and self._was_item else 2)
            self._was_item = bool(mark)
        if target.kind == "body":
            boxes, self._boxes = self._boxes, []
            for box in boxes:
                self.composer.add(box)

    def _end_cell(self, _: int | None = None) -> None:
        target = self._targets[-1]
        target.cell.append("".join(target.parts))
        target.parts.clear()
        target.mark = []
        text = " ".join(" ".join(target.cell).split())
        target.cell.clear()
        if len(target.cells) < _MAX_CELLS:
            target.cells.append(text)
        elif text:
            target.cells[-1] += f" {text}"

    def _end_row(self, _: int | None = None) -> None:
        target = self._targets[-1]
        cells = target.cells
        above = target.rows[-1] if target.rows else []
        for column, merge in enumerate(target.merges[: len(cells)]):
            if merge == "above" and not cells[column]:
                cells[column] = self._repeats.again("".join(above[column : column + 1]))
            elif merge == "left" and not cells[column] and column:
                cells[column] = self._repeats.again(cells[column - 1])
        if cells:
            target.rows.append(cells)
        target.cells = []
        self._state.in_table = False

    def _end_table(self) -> None:
        target = self._targets[-1]
        if target.cells or target.cell:  # the last row has no end
            if target.cell:
                self._end_cell()
            self._end_row()
        if not target.rows:
            return
        if target.kind == "body":
            add_table(self.composer, target.rows, target.header_rows)
            self._was_item = False
        else:
            target.paragraphs += [" | ".join(row) for row in target.rows if any(row)]
        target.rows = []
        target.header_rows = 0

    def _begin_row(self, _: int | None) -> None:
        self._targets[-1].merges = [""]

    def _define_cell(self, _: int | None) -> None:
        if len(self._targets[-1].merges) < _MAX_CELLS:
            self._targets[-1].merges.append("")

    def _merge(self, how: str) -> None:
        merges = self._targets[-1].merges
        if merges:
            merges[-1] = how

    def _name_columns(self, _: int | None) -> None:
        target = self._targets[-1]
        if target.header_rows == len(target.rows):
            target.header_rows += 1

    def _set_font(self, number: int | None) -> None:
        self._state.font = number or 0

    def _set_charset(self, number: int | None) -> None:
        if self._state.table == "fonts":
            encoding = encoding_of_charset(number or 0, self._encoding)
            self._fonts[self._state.font] = encoding

    def _set_style(self, number: int | None) -> None:
        if self._state.table == "styles":
            self._style = number or 0
        else:
            self._state.level = self._styles.get(number or 0, self._state.level)

    def _set_level(self, number: int | None) -> None:
        # Word writes 9 for body text.
        level = (number or 0) + 1
        self._state.level = level if level <= LAST_LEVEL else None

    def _reset_paragraph(self, _: int | None) -> None:
        self._state.in_table = False
        self._state.level = None
        self._state.indent = 0
        self._state.is_drop_cap = False

    def _reset_characters(self, _: int | None) -> None:
        self._state.hidden = False

    def _hide(self, number: int | None) -> None:
        self._state.hidden = number != 0

    def _set_code_page(self, number: int | None) -> None:
        self._encoding = code_page(number or 0)

    def _set_fallback(self, number: int | None) -> None:
        self._state.fallback = max(number or 0, 0)

    def _put_in_table(self, _: int | None) -> None:
        self._state.in_table = True

    def _set_drop_cap(self, number: int | None) -> None:
        self._state.is_drop_cap = bool(number)

    def _set_indent(self, number: int | None) -> None:
        self._state.indent = max(number or 0, 0)


def _mark(parts: Sequence[str], indent: int) -> str:
    """Return the mark of a list item, indented: its number, or a dash instead of a bullet."""
    if not parts:
        return ""
    mark = "".join(parts[1:]).strip()
    if not any(map(str.isalnum, mark)):
        mark = parts[0]
    return "  " * min(indent, _MAX_INDENT) + mark + " "


_HANDLERS: Final[dict[str, Callable[[_Reader, int | None], None]]] = {
    "ansicpg": _Reader._set_code_page,
    "cell": _Reader._end_cell,
    "cellx": _Reader._define_cell,
    "clmgf": lambda reader, _: reader._merge(""),
    "clmrg": lambda reader, _: reader._merge("left"),
    "clvmgf": lambda reader, _: reader._merge(""),
    "clvmrg": lambda reader, _: reader._merge("above"),
    "deleted": _Reader._hide,
    "deff": _Reader._set_font,
    "dropcapt": _Reader._set_drop_cap,
    "f": _Reader._set_font,
    "fcharset": _Reader._set_charset,
    "ilvl": _Reader._set_indent,
    "intbl": _Reader._put_in_table,
    "mac": lambda reader, _: reader._set_code_page(10000),
    "nestcell": lambda reader, _: reader._add(" "),
    "nestrow": lambda reader, _: reader._add(" "),
    "outlinelevel": _Reader._set_level,
    "page": _Reader._end_paragraph,
    "par": _Reader._end_paragraph,
    "pard": _Reader._reset_paragraph,
    "pc": lambda reader, _: reader._set_code_page(437),
    "pca": lambda reader, _: reader._set_code_page(850),
    "plain": _Reader._reset_characters,
    "row": _Reader._end_row,
    "s": _Reader._set_style,
    "sect": _Reader._end_paragraph,
    "trhdr": _Reader._name_columns,
    "trowd": _Reader._begin_row,
    "uc": _Reader._set_fallback,
    "v": _Reader._hide,
}
"""What control words do; others are about looks."""
