"""FictionBook 2 (http://www.fictionbook.org): a book as one XML file."""

from collections.abc import Iterator
from typing import Final

from indexer.parse.base.compose import Composer
from indexer.parse.base.outline import words
from indexer.parse.office.ooxml import Element, local, parse_xml
from indexer.skip import parser_errors_as_damage
from retrieval.domain.records import Document

_BLOCKS: Final = words("cite epigraph poem section stanza")
_LINES: Final = words("p subtitle text-author v")
_METADATA: Final = {"lang": "lang", "genre": "genre", "date": "date", "keywords": "keywords"}


def parse_fb2(uri: str, data: bytes) -> Document:
    """Make a document of a book; its sections are those that have titles.

    Raises:
        SkipDocument: the file is damaged.
    """
    composer = Composer()
    with parser_errors_as_damage():
        root = parse_xml(data)
        about = next((node for node in root.iter() if local(node) == "title-info"), None)
        for body in root:
            if local(body) == "body":
                _add_body(composer, body)
    found = [] if about is None else [(local(node), node) for node in about]
    titles = [_text(node) for name, node in found if name == "book-title"]
    authors = [" ".join(map(_text, node)) for name, node in found if name == "author"]
    fields: list[tuple[str, object]] = [
        ("author", authors if len(authors) > 1 else "".join(authors))
    ]
    fields += [(_METADATA[name], _text(node)) for name, node in found if name in _METADATA]
    return composer.document(uri, "fb2", titles, fields)


def _add_body(composer: Composer, body: Element) -> None:
    """Add the text of a body, with a stack of its own: sections may be nested deeply."""
    pending: list[tuple[Iterator[Element], int]] = [(iter(body), 1)]
    while pending:
        children, level = pending[-1]
        node = next(children, None)
        if node is None:
            pending.pop()
            continue
        name = local(node)
        if name == "title":
            composer.add_heading(level, " ".join(map(_text, node)))
        elif name in _LINES:
            composer.add(_text(node), 1 if name == "v" else 2)
        elif name == "table":
            composer.add_table([[_text(cell) for cell in row] for row in node])
        elif name in _BLOCKS:
            pending.append((iter(node), level + (name == "section")))


def _text(node: Element) -> str:
    return " ".join("".join(map(str, node.itertext())).split())
