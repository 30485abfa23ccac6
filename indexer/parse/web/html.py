"""HTML and XHTML: the text is what a reader sees, and headings make the sections."""

import codecs
import re
from collections.abc import Iterator
from typing import Final

from selectolax.lexbor import LexborHTMLParser, LexborNode

from indexer.decoding.decode import decode, decode_labelled, has_mark
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
_CODECS: Final = words(
    """
    ascii big5 big5hkscs cp1250 cp1251 cp1252 cp1253 cp1254 cp1255 cp1256 cp1257 cp1258 cp866 cp874
    euc_jp euc_kr gb18030 gb2312 gbk iso2022_jp iso8859-1 iso8859-2 iso8859-3 iso8859-4 iso8859-5
    iso8859-6 iso8859-7 iso8859-8 iso8859-10 iso8859-13 iso8859-14 iso8859-15 iso8859-16 koi8-r
    koi8-u mac-cyrillic mac-roman shift_jis utf-8
    """
)
"""Encodings that a document may name, as Python calls them: those of the HTML standard. Some of
Python's other codecs don't encode text, or are slow on hostile input."""

_READ_AS: Final = {"ascii": "cp1252", "iso8859-1": "cp1252", "gb2312": "gbk"}
"""The HTML standard takes these labels for supersets of the encodings that they name."""

_METADATA: Final = frozenset({"author", "date", "description", "keywords"})

_SELF_CLOSED: Final = re.compile(r"<([A-Za-z][\w:.-]*)((?:\s[^<>]*)?)/>")
_VOID: Final = words("area base br col embed hr img input link meta param source track wbr")


def parse_html(uri: str, data: bytes) -> Document:
    """Make a document of an HTML file.

    The encoding is that of the byte order mark, that which the document names, or that which the
    bytes look like, in this order. Menus, page headers and footers, scripts and form controls are
    left out of the text. The title is ``<title>``, the first ``<h1>``, or the file's name.

    Raises:
        SkipDocument: the data is binary.
    """
    source, encoding = read_markup(data, xml=uri.lower().endswith(".xhtml"))
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


def read_markup(data: bytes, *, xml: bool) -> tuple[str, str]:
    """Return the source of a file, safe to parse, and its encoding.

    Args:
        data: the file.
        xml: whether it is XHTML; a file that begins with ``<?xml`` is in any case.

    Raises:
        SkipDocument: the data is binary.
    """
    source, encoding = _decode(data)
    if xml or source.startswith("<?xml"):
        source = _SELF_CLOSED.sub(_open_and_close, source)
    return limit_depth(source), encoding


def _decode(data: bytes) -> tuple[str, str]:
    """Decode by byte order mark, by the document's own label, or by what the bytes look like."""
    label = None if has_mark(data) else _LABEL.search(data, 0, _LABEL_WITHIN)
    if label:
        name = (label[1] or label[2]).decode("ascii", "replace")
        try:
            codec = codecs.lookup(name).name
        except LookupError:
            codec = ""
        if codec in _CODECS and (decoded := decode_labelled(data, _READ_AS.get(codec, codec))):
            return decoded
    return decode(data)


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
