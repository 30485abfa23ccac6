"""HTML and XHTML: the text is what a reader sees, and headings make the sections."""

from collections.abc import Iterator
from typing import Final

from selectolax.lexbor import LexborHTMLParser, LexborNode

from indexer.parse.base.fields import bounded_metadata, with_lists
from indexer.parse.base.outline import sections_of, title_of, usable
from indexer.parse.web.html_source import read_markup
from indexer.parse.web.html_text import extract_text
from retrieval.domain.records import Document

_METADATA: Final = frozenset({"author", "date", "description", "keywords"})


def parse_html(uri: str, data: bytes, encoding: str = "", *, label: str = "") -> Document:
    """Make a document of an HTML file.

    The encoding is that of the byte order mark, that which the document names, or that which the
    bytes look like, in this order. Parts of the page around its content, hidden text, scripts and
    form controls are left out. The title is the first ``<h1>`` if ``<title>`` repeats it, else
    ``<title>``, the first ``<h1>``, or the file's name.

    Args:
        uri: as in ``Document``.
        data: the file.
        encoding: codec of a file that is not UTF-8 and names none; empty to guess it.
        label: name of the encoding if it came with the file, as in a message.

    Raises:
        SkipDocument: the data is binary.
    """
    source, encoding = read_markup(data, encoding, xml=uri.lower().endswith(".xhtml"), label=label)
    tree = LexborHTMLParser(source)
    extracted = extract_text(tree.root)
    headings = usable(extracted.headings)
    titles = [heading.title for heading in headings if heading.level == 1]
    return Document(
        uri=uri,
        title=title_of(uri, *_titles(_title(tree), *titles[:1])),
        format="html",
        text=extracted.text,
        sections=sections_of(headings),
        encoding=encoding,
        metadata=bounded_metadata(with_lists(_metadata(tree))),
        tables=extracted.tables,
    )


def _head(tree: LexborHTMLParser, tag: str) -> Iterator[LexborNode]:
    """Yield the elements of a name directly in the document's head."""
    if tree.head is not None:
        yield from (node for node in tree.head.iter() if node.tag == tag)


def _titles(title: str, heading: str = "") -> tuple[str, str]:
    """Return the titles of a page, the better one first.

    A heading that ``<title>`` repeats is the title without the name of the site.
    """
    return (heading, title) if heading in title else (title, heading)


def _title(tree: LexborHTMLParser) -> str:
    title = next(_head(tree, "title"), None)
    return title.text() if title is not None else ""


def _metadata(tree: LexborHTMLParser) -> Iterator[tuple[str, str]]:
    """Yield the metadata in the head, and the language of the document."""
    for node in _head(tree, "meta"):
        attributes = node.attributes
        name = (attributes.get("name") or "").strip().lower()
        if name in _METADATA:
            yield name, attributes.get("content") or ""
    if tree.root is not None:
        yield "lang", tree.root.attributes.get("lang") or ""
