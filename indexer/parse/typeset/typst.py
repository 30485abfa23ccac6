"""Typst (https://typst.app/docs/reference/syntax): the text is the source; headings make sections.

Headings are lines that begin with ``=``, outside raw text and comments. Nothing is evaluated.
"""

import re
from collections.abc import Iterator
from typing import Final

from indexer.decoding.decode import decode
from indexer.parse.base.fields import bounded_metadata, with_lists
from indexer.parse.base.outline import (
    Heading,
    heading_source,
    one_line,
    sections_of,
    title_of,
    usable,
)
from retrieval.domain.records import Document

_TOKEN: Final = re.compile(
    r"""(?P<raw>`{3,}+)
      | (?P<comment>/\*)
      | (?<!:)//[^\n]*+
      | ^[ \t]*+(?P<level>={1,6}+)[ \t]++(?P<title>\S[^\n]*+)""",
    re.MULTILINE | re.VERBOSE,
)
_LABEL: Final = re.compile(r"[ \t]*<[\w:.-]++>$")
_CALL: Final = re.compile(r"#\w++(?:\.\w++)*+(?:\([^()]*+\))?\[([^\[\]]*+)\]")
_MARKUP: Final = re.compile(r"(?<!\w)([*_`])(?=\S)([^*_`]++)\1(?!\w)")
_FIELD: Final = re.compile(
    r'(?<![\w-])(title|author|keywords|date|lang):\s*+(?:"([^"\n]*+)"|\[([^\[\]\n]*+)\]|\(([^()]*+)\))'
)
"""An argument that templates and ``#set document`` take."""
_QUOTED: Final = re.compile(r'"([^"\n]*+)"')
_PREAMBLE_CHARS: Final = 20_000
"""Where arguments are looked for: templates are called before the text."""


def parse_typst(uri: str, data: bytes, encoding: str = "") -> Document:
    """Make a document of a Typst file.

    The title is the first ``title:`` that is set, the first heading, or the file's name.

    Raises:
        SkipDocument: the data is binary.
    """
    text, encoding = decode(data, encoding)
    headings = usable(_headings(text))
    first = headings[0].char_start if headings else len(text)
    fields = list(_fields(text[: min(first, _PREAMBLE_CHARS)]))
    title = next((value for key, value in fields if key == "title"), "")
    return Document(
        uri=uri,
        title=title_of(uri, _plain(title), *(heading.title for heading in headings[:1])),
        format="typst",
        text=text,
        sections=sections_of(headings),
        encoding=encoding,
        metadata=bounded_metadata(with_lists(pair for pair in fields if pair[0] != "title")),
    )


def _headings(text: str) -> Iterator[Heading]:
    place = 0
    unclosed: set[str] = set()
    while match := _TOKEN.search(text, place):
        place = match.end()
        closing = match["raw"] or ("*/" if match["comment"] else "")
        if closing and closing not in unclosed:
            end = text.find(closing, place)
            if end < 0:  # for this and all others of its kind
                unclosed.add(closing)
            else:
                place = end + len(closing)
        elif match["level"]:
            yield Heading(match.start(), len(match["level"]), _plain(match["title"]))


def _plain(title: str) -> str:
    """Return a title without inline markup."""
    title = _LABEL.sub("", heading_source(title.partition(" //")[0]))
    return one_line(_MARKUP.sub(r"\2", _CALL.sub(r"\1", title)))


def _fields(preamble: str) -> Iterator[tuple[str, str]]:
    for match in _FIELD.finditer(preamble):
        if match[4] is None:
            yield match[1], match[2] or match[3] or ""
        else:
            yield match[1], ", ".join(_QUOTED.findall(match[4]))
