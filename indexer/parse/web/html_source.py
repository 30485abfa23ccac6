"""Source of HTML: decode a file by the rules of HTML, and make it safe to parse."""

import re
from collections.abc import Iterator
from typing import Final

from indexer.decoding.decode import decode, decode_labelled, has_mark
from indexer.decoding.labels import codec_of_markup
from indexer.parse.base.outline import words
from indexer.parse.web.html_depth import limit_depth

_LABEL_WITHIN: Final = 1 << 20
"""Number of bytes at the start of a file to look for the name of its encoding in. Browsers read it
wherever the head has it, and a head may begin with a megabyte of styles or scripts."""
_LABEL: Final = re.compile(
    rb"""<\?xml[^<>]*\bencoding\s*=\s*["']([\w.:-]+)
    |<meta\b[^<>]*\bcharset\s*=\s*["']?\s*([\w.:-]+)
    |<(?:(!--)|(script|style|title)\b|(body)\b)""",
    re.IGNORECASE | re.VERBOSE,
)
_SELF_CLOSED: Final = re.compile(r"<([A-Za-z][\w:.-]*)((?:\s[^<>]*)?)/>")
_VOID: Final = words("area base br col embed hr img input link meta param source track wbr")
_NOSCRIPT: Final = re.compile(r"<noscript\b[^<>]*>", re.IGNORECASE)


def read_markup(data: bytes, encoding: str = "", *, xml: bool, label: str = "") -> tuple[str, str]:
    """Return the source of a file, safe to parse, and its encoding.

    The encoding is that of the byte order mark, that which the label names, that which the document
    names, or that which the bytes look like, in this order.

    Args:
        data: the file.
        encoding: codec of a file that is not UTF-8 and names none; empty to guess it.
        xml: whether it is XHTML; a file that begins with ``<?xml`` is in any case.
        label: name of the encoding if it came with the file, as in a message.

    Raises:
        SkipDocument: the data is binary.
    """
    source, encoding = _decode(data, encoding, label)
    if xml or source.startswith("<?xml"):
        source = _SELF_CLOSED.sub(_open_and_close, source)
    return limit_depth(_without_unclosed(source)), encoding


def decode_by_label(data: bytes, label: str) -> tuple[str, str] | None:
    """Decode bytes by the encoding that something names, which is often wrong about UTF-8.

    Returns:
        the same as ``decode``, or None if the name does not say how to decode the bytes.

    Raises:
        SkipDocument: the data is binary.
    """
    codec = codec_of_markup(label)
    # Text that is valid UTF-8 and not only ASCII is hardly ever anything else.
    if codec == "cp1252" and (decoded := decode_labelled(data, "utf-8")):
        return decoded
    return decode_labelled(data, codec)


def _decode(data: bytes, encoding: str, label: str) -> tuple[str, str]:
    if not has_mark(data):
        for name in (label, *_labels(data)):
            if name and (decoded := decode_by_label(data, name)):
                return decoded
    return decode(data, encoding)


def _labels(data: bytes) -> Iterator[str]:
    """Yield the encodings that the head of a document names, outside comments and scripts."""
    position, lower = 0, b""
    while found := _LABEL.search(data, position, _LABEL_WITHIN):
        xml, meta, comment, element, body = found.groups()
        if body:
            return
        position = found.end()
        if name := xml or meta:
            yield name.decode("ascii", "replace")
            continue
        lower = lower or data[:_LABEL_WITHIN].lower()
        position = lower.find(b"-->" if comment else b"</" + element.lower(), position)
        if position < 0:
            return


def _open_and_close(tag: re.Match[str]) -> str:
    """Return ``<a></a>`` for XHTML's ``<a/>``, which HTML takes for an opening tag."""
    name, attributes = tag[1], tag[2]
    return tag[0] if name.lower() in _VOID else f"<{name}{attributes}></{name}>"


def _without_unclosed(source: str) -> str:
    """Return HTML in which no ``<noscript>`` that is never closed swallows the rest of the page."""
    for start, end in (("<noscript", "</noscript"), ("<NOSCRIPT", "</NOSCRIPT")):
        if source.count(start) > source.count(end):
            return _NOSCRIPT.sub("", source)
    return source
