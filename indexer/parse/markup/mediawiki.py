"""MediaWiki (https://www.mediawiki.org/wiki/Help:Formatting): the text is the source itself.

Headings are lines between equals signs, outside comments and tags that stop markup. Templates are
not expanded.
"""

import re
from collections.abc import Iterator
from typing import Final

from indexer.decoding.decode import decode
from indexer.parse.base.fields import bounded_metadata
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
    r"(?P<comment><!--)"
    r"|<(?P<tag>nowiki|pre|syntaxhighlight|source|math)\b[^<>]*+(?<!/)>"
    r"|^(?P<heading>=[^\n]*+)",
    re.MULTILINE | re.IGNORECASE,
)
_CATEGORY: Final = re.compile(r"\[\[Category:[ \t]*+([^\[\]|\n]++)", re.IGNORECASE)
_SHOWN_TITLE: Final = re.compile(r"\{\{DISPLAYTITLE:([^{}|\n]++)", re.IGNORECASE)
_COMMENT: Final = re.compile(r"<!--(?:[^-]|-(?!->))*+-->")
_TAG: Final = re.compile(r"<[^<>]*+>")
_REFERENCE: Final = re.compile(r"<ref\b[^<>]*+>[^<]*+</ref>", re.IGNORECASE)
_TEMPLATE: Final = re.compile(r"\{\{[^{}]*+\}\}")
_LINK: Final = re.compile(r"\[\[(?:[^\[\]|]*+\|)?([^\[\]|]++)\]\]")
_OUTSIDE_LINK: Final = re.compile(r"\[[a-z]++://[^\s\[\]]++[ \t]++([^\[\]]++)\]")
_QUOTES: Final = re.compile(r"'{2,5}+")
_DEEPEST: Final = 6


def parse_mediawiki(uri: str, data: bytes, encoding: str = "") -> Document:
    """Make a document of a page of a wiki.

    The title is that of ``DISPLAYTITLE``, a heading of level 1 at the top, or the file's name. The
    categories become metadata.

    Raises:
        SkipDocument: the data is binary.
    """
    text, encoding = decode(data, encoding)
    headings = usable(_headings(text))
    shown = _SHOWN_TITLE.search(text)
    top = [heading.title for heading in headings[:1] if heading.level == 1]
    categories = dict.fromkeys(match[1].strip() for match in _CATEGORY.finditer(text))
    return Document(
        uri=uri,
        title=title_of(uri, _plain(shown[1]) if shown else "", *top),
        format="mediawiki",
        text=text,
        sections=sections_of(headings),
        encoding=encoding,
        metadata=bounded_metadata([("category", list(categories))]),
    )


def _headings(text: str) -> Iterator[Heading]:
    place = 0
    unclosed: set[str] = set()
    folded = text.lower() if len(text.lower()) == len(text) else text
    while match := _TOKEN.search(text, place):
        place = match.end()
        closing = "-->" if match["comment"] else f"</{match['tag'].lower()}" if match["tag"] else ""
        if not closing:
            if two := _heading(match["heading"]):
                yield Heading(match.start(), *two)
        elif closing not in unclosed:
            end = folded.find(closing, place)
            if end < 0:  # for this and all others of its kind
                unclosed.add(closing)
            else:
                place = end + len(closing)


def _heading(line: str) -> tuple[int, str] | None:
    """Return the level and text of a line that begins with ``=``; None if it is no heading."""
    if len(line) > len(heading_source(line)) + 1:
        return None
    line = _COMMENT.sub("", line).strip()
    inner = line.strip("=")
    before, after = len(line) - len(line.lstrip("=")), len(line) - len(line.rstrip("="))
    level = min(before, after, _DEEPEST)
    if not level or not inner:
        return None
    return level, _plain(line[level:-level])


def _plain(title: str) -> str:
    """Return a title without markup."""
    for pattern in (_REFERENCE, _TAG, _TEMPLATE, _QUOTES):
        title = pattern.sub("", title)
    return one_line(_OUTSIDE_LINK.sub(r"\1", _LINK.sub(r"\1", title)))
