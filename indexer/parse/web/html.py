"""HTML and XHTML: the text is what a reader sees, and headings make the sections."""

import re
from collections.abc import Iterator
from typing import Final

from selectolax.lexbor import LexborHTMLParser, LexborNode

from indexer.decoding.decode import decode, decode_labelled, has_mark
from indexer.decoding.labels import codec_of_markup
from indexer.parse.base.fields import bounded_metadata, with_lists
from indexer.parse.base.outline import sections_of, title_of, usable, words
from indexer.parse.web.html_depth import limit_depth
from indexer.parse.web.html_text import extract_text
from retrieval.domain.records import Document

_LABEL_WITHIN: Final = 4096
"""Number of bytes at the start of a file to look for its encoding in; the HTML standard asks for
1024."""
_LABEL: Final = re.compile(
    rb"""<\?xml[^<>]*\bencoding\s*=\s*["']([\w.:-]+)|<meta\b[^<>]*\bcharset\s*=\s*["']?\s*([\w.:-]+)""",
    re.IGNORECASE,
)
_METADATA: Final = frozenset({"author", "date", "description", "keywords"})

_SELF_CLOSED: Final = re.compile(r"<([A-Za-z][\w:.-]*)((?:\s[^<>]*)?)/>")
_VOID: Final = words("area base br col embed hr img input link meta param source track wbr")


def parse_html(uri: str, data: bytes, encoding: str = "") -> Document:
    """Make a document of an HTML file.

    The encoding is that of the byte order mark, that which the document names, or that which the
    bytes look like, in this order. Menus, page headers and footers, scripts and form controls are
    left out of the text. The title is ``<title>``, the first ``<h1>``, or the file's name.

    Raises:
        SkipDocument: the data is binary.
    """
    source, encoding = read_markup(data, encoding, xml=uri.lower().endswith(".xhtml"))
    tree = LexborHTMLParser(source)
    text, found = extract_text(tree.root) if tree.root else ("", [])
    headings = usable(found)
    titles = [heading.title for heading in headings if heading.level == 1]
    return Document(
        uri=uri,
        title=title_of(uri, _title(tree), *titles[:1]),
        format="html",
        text=text,
        sections=sections_of(headings),
        encoding=encoding,
        metadata=bounded_metadata(with_lists(_metadata(tree))),
    )


def read_markup(data: bytes, encoding: str = "", *, xml: bool) -> tuple[str, str]:
    """Return the source of a file, safe to parse, and its encoding.

    Args:
        data: the file.
        encoding: codec of a file that is not UTF-8 and names none; empty to guess it.
        xml: whether it is XHTML; a file that begins with ``<?xml`` is in any case.

    Raises:
        SkipDocument: the data is binary.
    """
    source, encoding = _decode(data, encoding)
    if xml or source.startswith("<?xml"):
        source = _SELF_CLOSED.sub(_open_and_close, source)
    return limit_depth(source), encoding


def _decode(data: bytes, encoding: str) -> tuple[str, str]:
    """Decode by byte order mark, by the document's own label, or by what the bytes look like."""
    label = None if has_mark(data) else _LABEL.search(data, 0, _LABEL_WITHIN)
    if label:
        codec = codec_of_markup((label[1] or label[2]).decode("ascii", "replace"))
        if decoded := decode_labelled(data, codec):
            return decoded
    return decode(data, encoding)


def _open_and_close(tag: re.Match[str]) -> str:
    """Return ``<a></a>`` for XHTML's ``<a/>``, which HTML takes for an opening tag."""
    name, attributes = tag[1], tag[2]
    return tag[0] if name.lower() in _VOID else f"<{name}{attributes}></{name}>"


def _head(tree: LexborHTMLParser, tag: str) -> Iterator[LexborNode]:
    """Yield the elements of a name directly in the document's head."""
    if tree.head is not None:
        yield from (node for node in tree.head.iter() if node.tag == tag)


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
