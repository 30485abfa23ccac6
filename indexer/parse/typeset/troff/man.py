"""Manual pages: troff with the macros of man(7) and mdoc(7), rendered as text.

A page is rendered as far as reading it needs: fonts are dropped, special characters are replaced,
and lines that are filled become paragraphs. Other macros and conditions are not processed; their
words stay. A file that only has the extension of a manual page, such as ``access.log.1``, is plain
text.
"""

import re
from collections.abc import Callable
from itertools import takewhile
from typing import Final

from indexer.decoding.decode import decode
from indexer.parse.base.compose import Composer
from indexer.parse.base.outline import plain_document, words
from indexer.parse.typeset.troff.escapes import Escapes
from indexer.parse.typeset.troff.mdoc import MACROS, Line
from retrieval.domain.records import Document

_IS_PAGE: Final = re.compile(
    r"^[.'][ \t]*+(?:TH|Dd|Dt|SH|Sh|so)(?![A-Za-z])|^\.\\\"[ \t]*+t$", re.MULTILINE
)
_LOOKED_AT_CHARS: Final = 20_000
"""Where a page's first macro is looked for: some begin with a long licence."""

_REQUEST: Final = re.compile(r"[.'][ \t]*+(\S++)[ \t]*+(.*)")
_APART: Final = words("B I R SB SM")
_JOINED: Final = words("BI BR IB IR RB RI")
"""Fonts that alternate between arguments, which stand without spaces."""
_IGNORED: Final = words(
    """
    ad af aln am ami an as bp ce cc c2 cs cu da di ds ec eo ev fam fc fp ft hc hla hlm hpf hy hys
    ie if el in it kern lc lf lg linetabs ll ls lt mc mk mso na ne nh nm nn nop nr nroff ns pc pl
    pn po ps rm rn rr rs rt shc so ss ta tc ti tm tr troff ul vs wh
    AT Bk Bl DA DT Dd Dt Ek El HI IX LINKSTYLE ME MTO Os PD RE RS Re Rs Sm TE TS Tn UC UE UR URL
    Ud YS
    """
)


def parse_man(uri: str, data: bytes, encoding: str = "") -> Document:
    """Make a document of a manual page; a file of another kind is plain text.

    The title is the name with the section, as in ``ls(1)``, or the file's name.

    Raises:
        SkipDocument: the data is binary.
    """
    text, encoding = decode(data, encoding)
    if not _IS_PAGE.search(text[:_LOOKED_AT_CHARS]):
        return plain_document(uri, text, encoding)
    return _Page(text).document(uri, encoding)


class _Page:
    """Renders one manual page."""

    def __init__(self, source: str) -> None:
        self._composer = Composer()
        self._escapes = Escapes()
        self._lines = iter(source.replace("\\\n", "").splitlines())
        self._title = self._section = self._name = ""
        self._paragraph: list[str] = []
        self._tag_due = False
        """Whether the next words are the tag of a paragraph."""
        self._filled = True

    def document(self, uri: str, encoding: str) -> Document:
        """Return the page as a document."""
        for line in self._lines:
            if not line.startswith((".", "'")):
                self._text(line)
            elif match := _REQUEST.match(line):
                self._request(match[1], match[2])
        self._end_paragraph()
        return self._composer.document(uri, "man", [self._title], encoding=encoding)

    def _text(self, line: str) -> None:
        shown = self._escapes.plain(line).rstrip()
        if not shown and self._filled:
            self._end_paragraph()
        elif not self._filled or line[:1].isspace():
            self._break()
            self._add(shown)
        else:
            self._add(shown.lstrip())

    def _add(self, shown: str) -> None:
        """Add words, apart from those before."""
        if self._paragraph and not self._paragraph[-1].endswith((" ", "\n")):
            self._paragraph.append(" " if self._filled else "\n")
        self._paragraph.append(shown)
        if self._tag_due:
            self._tag_due = False
            self._paragraph.append("\n")

    def _break(self) -> None:
        """End the line."""
        if self._paragraph and not self._paragraph[-1].endswith("\n"):
            self._paragraph.append("\n")

    def _end_paragraph(self) -> None:
        self._composer.add("".join(self._paragraph))
        self._paragraph = []
        self._tag_due = False

    def _request(self, name: str, rest: str) -> None:
        if act := _REQUESTS.get(name):
            act(self, rest)
        elif name in MACROS:
            if name == "Nm" and self._section == "SYNOPSIS":
                self._break()
            self._words(self._mdoc(f"{name} {rest}"))
        elif name not in _IGNORED and not name.startswith("\\"):
            # Perhaps a macro that the page defines: its words are all that can be kept.
            self._words(" ".join(self._escapes.arguments(rest)))

    def _words(self, shown: str) -> None:
        if shown:
            self._add(shown)

    def _mdoc(self, rest: str) -> str:
        line = Line(self._name)
        shown = line.read(self._escapes.arguments(rest))
        self._name = line.name
        return shown

    def _heading(self, rest: str, *, level: int) -> None:
        self._end_paragraph()
        self._filled = True
        title = " ".join(self._escapes.arguments(rest))
        self._section = title or self._escapes.plain(next(self._lines, "")).strip()
        self._composer.add_heading(level, self._section)

    def _begin_page(self, rest: str) -> None:
        name, section = [*self._escapes.arguments(rest), "", ""][:2]
        name = name.lower() if name.isupper() else name
        self._title = self._title or (f"{name}({section})" if section else name)

    def _skip_definition(self, _: str) -> None:
        for _line in takewhile(lambda line: "".join(line.split()) != "..", self._lines):
            pass

    def _font(self, rest: str, *, between: str) -> None:
        words_ = self._escapes.arguments(rest) or [self._escapes.plain(next(self._lines, ""))]
        self._add(between.join(words_))

    def _begin_paragraph(self, _: str) -> None:
        self._end_paragraph()

    def _begin_tagged(self, _: str) -> None:
        self._end_paragraph()
        self._tag_due = True

    def _begin_indented(self, rest: str) -> None:
        self._end_paragraph()
        if tag := "".join(self._escapes.arguments(rest)[:1]):
            # A bullet stands on the line of its text.
            self._add(tag + (" " if len(tag) == 1 else "\n"))

    def _end_line(self, _: str) -> None:
        self._break()

    def _define(self, rest: str) -> None:
        self._escapes.define(rest)

    def _fill(self, _: str, *, filled: bool) -> None:
        self._break()
        self._filled = filled

    def _display(self, rest: str) -> None:
        self._fill(rest, filled="-literal" not in rest and "-unfilled" not in rest)

    def _item(self, rest: str) -> None:
        self._end_paragraph()
        if shown := self._mdoc(rest):
            self._add(shown + "\n")

    def _link(self, rest: str) -> None:
        self._words(" ".join(self._escapes.arguments(rest)))

    def _synopsis(self, rest: str) -> None:
        self._break()
        self._link(rest)

    def _option(self, rest: str) -> None:
        self._add(f"[{' '.join(self._escapes.arguments(rest))}]")

    def _table(self, _: str) -> None:
        """Add the rows of a table (tbl(1)), up to ``.TE``."""
        self._end_paragraph()
        tab, rows, cells = "\t", [], ""
        in_format = True
        for line in takewhile(lambda line: not line.startswith(".TE"), self._lines):
            if in_format:
                if "tab" in line:
                    tab = line.partition("tab")[2].lstrip(" (")[:1] or tab
                in_format = not line.rstrip().endswith(".")
            elif cells:  # of a row with a cell of several lines
                ends = line.startswith("T}")
                cells += line[2:] if ends else " " + self._cell_line(line)
                if ends and not line.endswith("T{"):
                    rows.append(cells.split(tab))
                    cells = ""
                cells = cells.removesuffix("T{")
            elif line.endswith("T{"):
                cells = line[:-2] or " "
            elif line.startswith(".T&"):
                in_format = True
            elif not line.startswith((".", "_", "=")):
                rows.append(line.split(tab))
        self._composer.add_table([[self._escapes.plain(cell) for cell in row] for row in rows])

    def _cell_line(self, line: str) -> str:
        match = _REQUEST.match(line)
        if match is None:
            return line
        words_ = self._escapes.arguments(match[2])
        joined = {**dict.fromkeys(_APART, " "), **dict.fromkeys(_JOINED, "")}
        return joined[match[1]].join(words_) if match[1] in joined else ""


_Act = Callable[[_Page, str], None]


def _acts(names: frozenset[str], act: Callable[..., None], **arguments: object) -> dict[str, _Act]:
    return {name: lambda page, rest: act(page, rest, **arguments) for name in names}


_REQUESTS: Final[dict[str, _Act]] = {
    **_acts(words("SH Sh"), _Page._heading, level=1),
    **_acts(words("SS Ss"), _Page._heading, level=2),
    **_acts(words("Dt TH"), _Page._begin_page),
    **_acts(words("LP P PP Pp sp"), _Page._begin_paragraph),
    **_acts(words("TP TQ"), _Page._begin_tagged),
    **_acts(words("HP IP"), _Page._begin_indented),
    **_acts(words("am am1 de de1 dei ig"), _Page._skip_definition),
    **_acts(_APART, _Page._font, between=" "),
    **_acts(_JOINED, _Page._font, between=""),
    **_acts(words("EX Vb nf"), _Page._fill, filled=False),
    **_acts(words("EE Ed Ve fi"), _Page._fill, filled=True),
    **_acts(words("MT UR"), _Page._link),
    "Bd": _Page._display,
    "It": _Page._item,
    "OP": _Page._option,
    "SY": _Page._synopsis,
    "TS": _Page._table,
    "br": _Page._end_line,
    "ds": _Page._define,
}
"""Request to the method that renders it, given its arguments."""
