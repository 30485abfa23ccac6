"""LaTeX: the text is the source itself; sectioning commands make the sections.

Commands in comments and in verbatim text are left alone. Nothing is expanded or included.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

from indexer.decoding.decode import decode
from indexer.parse.base.fields import bounded_metadata, with_lists
from indexer.parse.base.outline import (
    MAX_HEADING_CHARS,
    Heading,
    one_line,
    sections_of,
    title_of,
    usable,
)
from retrieval.domain.records import Document

_LEVELS: Final = {
    "part": 1,
    "chapter": 2,
    "section": 3,
    "frametitle": 5,
    "subsection": 4,
    "subsubsection": 5,
    "paragraph": 6,
    "subparagraph": 7,
}
_NAMED: Final = {"abstract": "Abstract", "thebibliography": "References", "frame": ""}
"""Environments that are sections, with their heading; a frame's is its argument."""
_ENVIRONMENT_LEVELS: Final = {"abstract": 3, "thebibliography": 3, "frame": 5}
_FIELDS: Final = {"author": "author", "date": "date", "keywords": "keywords"}

_TOKEN: Final = re.compile(
    r"""(?P<comment>%[^\n]*+)
      | \\(?P<verb>(?:verb|lstinline)\b\*?)
      | \\begin\{(?P<verbatim>(?:[bBlL]?[vV]erbatim|lstlisting|minted|comment|filecontents)\*?)\}
      | \\begin\{(?P<named>abstract|thebibliography|frame)\}
      | \\(?P<command>part|chapter|(?:sub){0,2}+section|(?:sub)?+paragraph|frametitle|title|author
          |date|keywords)(?![A-Za-z@])\*?
      | \\.""",
    re.VERBOSE | re.DOTALL,
)
_BRACKET: Final = re.compile(
    r"\\(?P<ends>(?:sub)*+section|chapter|begin|end)\b|\\.|[{}\]>]|(?P<blank>\n[ \t]*+\n)",
    re.DOTALL,
)
"""Brackets, and what no title contains: other sections and blank lines."""
_ARGUMENT_CHARS: Final = 2 * MAX_HEADING_CHARS
"""An argument that is longer is no title."""
_SPACE: Final = re.compile(r"[ \t]*+\n?[ \t]*+")
_DROPPED: Final = re.compile(
    r"\\(?:label|footnote|thanks|index|cite[a-z]*+|inst|orcid|vspace\*?|hspace\*?)"
    r"(?:\[[^\[\]]*+\])?\{[^{}]*+\}"
)
_EITHER: Final = re.compile(r"\\texorpdfstring\{(?:[^{}]|\{[^{}]*+\})*+\}")
_NEW_LINE: Final = re.compile(r"\\\\(?:\[[^\[\]]*+\])?|\\(?:newline|linebreak|quad|qquad)\b|~")
_AND: Final = re.compile(r"\s*+\\(?:and|And|AND)\b")
_ESCAPED: Final = re.compile(r"\\([&%$#_{}])")
_COMMAND: Final = re.compile(r"\\(?:[A-Za-z@]++\*?[ \t]?|.)")
_ACCENTS: Final = {
    "`": "\u0300", "'": "\u0301", "^": "\u0302", "~": "\u0303", '"': "\u0308",
    "=": "\u0304", ".": "\u0307", "u": "\u0306", "v": "\u030c", "c": "\u0327",
    "H": "\u030b", "r": "\u030a", "k": "\u0328",
}  # fmt: skip
_ACCENT: Final = re.compile(
    r"""\\([`'^~"=.])[ ]?(?:\{\\?([A-Za-z])\}|\\?([A-Za-z]))"""
    r"""|\\([uvcHrk])(?:\{\\?([A-Za-z])\}|[ ]([A-Za-z]))"""
)
_LETTERS: Final = {
    "ss": "ß", "ae": "æ", "AE": "Æ", "oe": "œ", "OE": "Œ", "o": "ø", "O": "Ø", "aa": "å",
    "AA": "Å", "l": "ł", "L": "Ł", "i": "i", "j": "j", "LaTeX": "LaTeX", "TeX": "TeX",
    "BibTeX": "BibTeX", "ldots": "…", "dots": "…",
}  # fmt: skip
_LETTER: Final = re.compile(
    r"\\(" + "|".join(sorted(_LETTERS, key=len, reverse=True)) + r")(?![A-Za-z])(?:\{\}|[ ])?"
)
_DASHES: Final = {"---": "—", "--": "–", "``": "“", "''": "”"}


def parse_latex(uri: str, data: bytes, encoding: str = "") -> Document:
    r"""Make a document of a LaTeX file.

    The title is that of ``\title``, the first heading, or the file's name, in this order. Author,
    date and keywords become metadata.

    Raises:
        SkipDocument: the data is binary.
    """
    text, encoding = decode(data, encoding)
    fields: dict[str, str] = {}
    headings = usable(_headings(text, fields))
    metadata = ((_FIELDS[key], value) for key, value in fields.items() if key in _FIELDS)
    return Document(
        uri=uri,
        title=title_of(uri, fields.get("title", ""), *(one.title for one in headings[:1])),
        format="latex",
        text=text,
        sections=sections_of(headings),
        encoding=encoding,
        metadata=bounded_metadata(with_lists(metadata)),
    )


def _headings(text: str, fields: dict[str, str]) -> Iterator[Heading]:
    """Yield the headings; put the first title, author and so on into ``fields``."""
    place = 0
    unclosed: set[str] = set()
    while match := _TOKEN.search(text, place):
        place = match.end()
        if match["verb"]:
            place = _after_verb(text, place)
        elif environment := match["verbatim"]:
            closing = f"\\end{{{environment}}}"
            end = -1 if closing in unclosed else text.find(closing, place)
            if end < 0:  # for this and all others of its kind
                unclosed.add(closing)
            else:
                place = end + len(closing)
        elif environment := match["named"]:
            title = _NAMED[environment] or _plain(_argument(text, place)[0])
            yield Heading(match.start(), _ENVIRONMENT_LEVELS[environment], title)
        elif command := match["command"]:
            argument, place = _argument(text, place)
            if command in _LEVELS:
                yield Heading(match.start(), _LEVELS[command], _plain(argument))
            elif argument:
                fields.setdefault(command, _plain(argument))


def _after_verb(text: str, place: int) -> int:
    r"""Return the end of ``\verb|…|``, whose text is on one line."""
    end = text.find(text[place : place + 1], place + 1, place + _ARGUMENT_CHARS)
    return place if end < 0 or "\n" in text[place:end] else end + 1


def _argument(text: str, place: int) -> tuple[str, int]:
    """Return the argument in braces after optional ones in brackets, and where it ends.

    The argument is empty if there is none, or if it is too long for a title.
    """
    start = place
    limit = min(len(text), place + _ARGUMENT_CHARS)
    for opening, closing in (("<", ">"), ("[", "]"), ("{", "}")):
        at = _after_space(text, start)
        if text[at : at + 1] != opening:
            continue
        end = _closing(text, at, limit, closing)
        if end < 0:
            return "", place
        if opening == "{":
            return text[at + 1 : end], end + 1
        start = end + 1
    return "", place


def _after_space(text: str, place: int) -> int:
    match = _SPACE.match(text, place)
    return match.end() if match else place


def _closing(text: str, start: int, limit: int, closing: str) -> int:
    """Return the place of the bracket that closes the one at ``start``; -1 if there is none."""
    depth = 0
    for match in _BRACKET.finditer(text, start + 1, limit):
        char = match[0]
        if match["ends"] or match["blank"]:
            return -1
        if depth == 0 and char == closing:
            return match.start()
        depth += (char == "{") - (char == "}")
    return -1


def _plain(source: str) -> str:
    """Return a title without its commands."""
    source = _EITHER.sub("", _DROPPED.sub("", source)) if "\\" in source else source
    source = _NEW_LINE.sub(" ", _AND.sub(",", source))
    source = _ACCENT.sub(_accented, source)
    source = _LETTER.sub(lambda match: _LETTERS[match[1]], source)
    source = _COMMAND.sub("", _ESCAPED.sub("\ue000\\1", source))
    for char in "{}$":
        source = source.replace(f"\ue000{char}", "\ue001").replace(char, "").replace("\ue001", char)
    for written, meant in _DASHES.items():
        source = source.replace(written, meant)
    return one_line(source.replace("\ue000", ""))


def _accented(match: "re.Match[str]") -> str:
    letter = match[2] or match[3] or match[5] or match[6]
    return unicodedata.normalize("NFC", letter + _ACCENTS[match[1] or match[4]])
