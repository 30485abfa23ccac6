"""Org mode: the text is the source itself; headlines make the sections.

Follows https://orgmode.org/worg/org-syntax.html. A line that begins with stars is a headline
everywhere, in blocks too, where Org escapes it with a comma.
"""

import re
from collections.abc import Iterator
from typing import Final

from indexer.decoding.decode import decode
from indexer.parse.base.fields import bounded_metadata, with_lists
from indexer.parse.base.outline import (
    Heading,
    heading_source,
    lines_of,
    one_line,
    sections_of,
    title_of,
    usable,
    words,
)
from retrieval.domain.records import Document

_HEADLINE: Final = re.compile(r"(\*++)[ \t]++(\S.*)")
_STATES: Final = words(
    "TODO NEXT STARTED WAITING HOLD SOMEDAY MAYBE DONE CANCELED CANCELLED COMMENT"
)
"""States of a task in customary files; ``#+TODO:`` names others."""
_PRIORITY: Final = re.compile(r"\[#\w\][ \t]*")
_TAGS: Final = re.compile(r"(?<=[ \t]):(?:[\w@#%]++:)++$")
_COOKIE: Final = re.compile(r"\[\d{0,9}(?:%|/\d{0,9})\]")
_LINK: Final = re.compile(r"\[\[([^\[\]]++)\](?:\[([^\[\]]++)\])?\]")
_MARKUP: Final = re.compile(r"(?<!\w)([*/_=~+])(?=\S)([^*/_=~+]++)(?<=\S)\1(?!\w)")
_KEYWORD: Final = re.compile(r"#\+(\w++):[ \t]*+(.*)", re.IGNORECASE)

_FIELDS: Final = {
    "author": "author",
    "date": "date",
    "description": "description",
    "email": "email",
    "filetags": "tags",
    "keywords": "keywords",
    "language": "lang",
}
"""Keyword to the name of the metadata field."""


def parse_org(uri: str, data: bytes, encoding: str = "") -> Document:
    """Make a document of an Org file.

    The title is that of ``#+TITLE:``, the first headline, or the file's name, in this order.

    Raises:
        SkipDocument: the data is binary.
    """
    text, encoding = decode(data, encoding)
    keywords = dict(reversed([*_keywords(text)]))
    states = _STATES | words(keywords.get("todo", "").replace("|", " "))
    headings = usable(_headlines(text, states))
    fields = ((_FIELDS[key], value) for key, value in keywords.items() if key in _FIELDS)
    return Document(
        uri=uri,
        title=title_of(
            uri, _plain(keywords.get("title", "")), *(heading.title for heading in headings[:1])
        ),
        format="org",
        text=text,
        sections=sections_of(headings),
        encoding=encoding,
        metadata=bounded_metadata(with_lists(fields)),
    )


def _keywords(text: str) -> Iterator[tuple[str, str]]:
    """Yield the keywords of the file, such as ``title``, in lower case, and their values."""
    for _, line in lines_of(text):
        if line.startswith("#+") and (match := _KEYWORD.match(line)):
            key, value = match[1].lower(), match[2].strip()
            yield key, value.strip(":").replace(":", ",") if key == "filetags" else value


def _headlines(text: str, states: frozenset[str]) -> Iterator[Heading]:
    for start, line in lines_of(text):
        if line.startswith("*") and (match := _HEADLINE.match(line)):
            title = heading_source(match[2])
            state, _, rest = title.partition(" ")
            title = rest.lstrip() if state in states else title
            title = _COOKIE.sub("", _TAGS.sub("", _PRIORITY.sub("", title, count=1)))
            yield Heading(start, len(match[1]), _plain(title))


def _plain(title: str) -> str:
    """Return a title without inline markup."""
    title = _LINK.sub(lambda match: match[2] or match[1], heading_source(title))
    return one_line(_MARKUP.sub(r"\2", title))
