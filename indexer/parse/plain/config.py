"""Configuration: YAML, TOML and INI; the text is the source itself.

Keys make the sections, so that a passage from the middle of a long file says what its values belong
to. Files are not evaluated, so templates and malformed files are read as well.
"""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final, NamedTuple

from indexer.decoding.decode import decode
from indexer.decoding.decompress import without_compression
from indexer.parse.base.outline import MAX_SECTIONS, lines_of, one_line, title_of
from retrieval.domain.records import Document, Section

YAML: Final = (".yaml", ".yml")
BY_HEADERS: Final = (
    *(".cfg", ".cnf", ".conf", ".desktop", ".ini", ".network", ".properties", ".reg", ".repo"),
    *(".service", ".socket", ".timer", ".toml"),
)
"""Formats with headers in brackets: TOML, INI and its relatives."""

_MAX_DEPTH: Final = 3
"""Keys that are nested deeper make no sections: they would have a line or two each."""
_KEY: Final = re.compile(
    r"""(?P<indent>[ ]*+)
        (?P<key>"[^"]*+"|'[^']*+'|[^\s#"'\[\]{}&*!|>%@`,?:-](?:[^:\#]|:(?=\S)|(?<=\S)\#)*+)
        [ \t]*+:(?:[ \t]++(?P<value>\S.*)|[ \t]*)$""",
    re.VERBOSE,
)
_HEADER: Final = re.compile(r"[ \t]*+(\[{1,2}+)([^\[\]]++)\]{1,2}+[ \t]*+(?:[#;].*)?$")
_PROPERTIES: Final = re.compile(
    r"(?:[&!][^\s]*+[ \t]*+)*+(?P<block>[|>][-+0-9]*+)?[ \t]*+(?:\#.*)?$"
)
"""What may follow a key whose value is on the next lines: tags, anchors, the mark of a text."""
_MOST_CHARS: Final = 500
"""Longer lines start no section."""


class _Key(NamedTuple):
    indent: int
    name: str


def parse_config(uri: str, data: bytes, encoding: str = "") -> Document:
    """Make a document of a configuration file; its title is the file's name.

    Raises:
        SkipDocument: the data is binary.
    """
    text, encoding = decode(data, encoding)
    name = PurePosixPath(without_compression(uri)).name
    is_yaml = PurePosixPath(name).suffix.lower() in YAML
    paths = _keys(text) if is_yaml else _headers(text)
    sections = [Section(0, ())]
    for start, path in paths:
        if start == sections[-1].char_start:
            sections.pop()
        if (not sections or path != sections[-1].heading_path) and len(sections) < MAX_SECTIONS:
            sections.append(Section(start, path, len(path)))
    return Document(uri, title_of(uri, name), "config", text, tuple(sections), encoding)


def _headers(text: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield where the part under each ``[header]`` begins, and its path.

    Comments right above a header belong to it.
    """
    comment = None
    for start, line in lines_of(text):
        if line.lstrip().startswith(("#", ";")):
            comment = start if comment is None else comment
            continue
        if len(line) <= _MOST_CHARS and (match := _HEADER.match(line)):
            yield start if comment is None else comment, (one_line(match[2]),)
        comment = None


def _keys(text: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield where the part under other keys begins in a YAML file, and its path.

    A key whose value is nested begins a part; so does a line that is outside the last one.
    """
    open_: list[_Key] = []
    block = -1  # indent of the key whose value is a text on the lines below
    for start, line in lines_of(text):
        bare = line.lstrip(" ")
        indent = len(line) - len(bare)
        if not bare or (block >= 0 and indent > block):
            continue
        block = -1
        if bare.startswith("#"):
            continue
        if bare in ("---", "..."):
            indent, open_ = 0, []
            yield start, ()
            continue
        match = _KEY.match(line) if len(line) <= _MOST_CHARS else None
        is_item = bare.startswith("-")
        # The items of a list may stand as far left as their key.
        while open_ and (indent < open_[-1].indent or (indent == open_[-1].indent and not is_item)):
            open_.pop()
            if not match or match["value"]:
                yield start, tuple(key.name for key in open_)
        if match is None:
            continue
        mark = _PROPERTIES.match(match["value"] or "")
        if mark is None:
            continue
        if mark["block"]:
            block = indent
        elif len(open_) < _MAX_DEPTH:
            open_.append(_Key(indent, one_line(match["key"].strip("\"' \t"))))
            yield start, tuple(key.name for key in open_)
