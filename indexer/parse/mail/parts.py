"""Parts of a MIME message: what a reader sees of it, and what is attached."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from enum import Enum
from mimetypes import guess_extension
from typing import Final, cast

from selectolax.lexbor import LexborHTMLParser

from indexer.parse.base.outline import one_line, words
from indexer.parse.mail.headers import Decoder, parameters
from indexer.parse.web.html_source import read_markup
from indexer.parse.web.html_text import Extracted, extract_text
from indexer.skip import SkipDocument, SkipReason

MAX_PARTS: Final = 1000
"""Messages with more parts are skipped: only hostile ones have them."""

_WORDS: Final = re.compile(r"(?:https?:|www\.)\S++|(\w++)")
_STUB_TIMES: Final = 4
"""A plain form with fewer words than a quarter of the HTML's is not the same text."""
_STUB_SHARE: Final = 0.5
"""Neither is one that is shorter, and has less than this share of its words in the HTML."""

_SIGNATURES: Final = words(
    "application/pgp-signature application/pkcs7-signature application/x-pkcs7-signature"
)


class Role(Enum):
    """What a part is to a reader of the message."""

    TEXT = "text"
    """Shown as the message."""
    MESSAGE = "message"
    """Begins an attached message; its parts follow."""
    ATTACHMENT = "attachment"
    """A file."""
    EMBEDDED = "embedded"
    """A file that belongs to a text, such as a picture, or that is no document: a signature."""


@dataclass(frozen=True, slots=True)
class _Pending:
    part: Message
    shown: bool = True
    """Whether its texts are shown; those of the form that was not chosen are not."""
    related: bool = False
    """Whether it is beside an HTML that may show it."""


def walk(message: Message, decoder: Decoder) -> Iterator[tuple[Message, Role]]:
    """Yield the parts with content, in order.

    Of several forms of a text the plain one is chosen, unless it is empty or a stub.

    Raises:
        SkipDocument: there are more than ``MAX_PARTS`` parts.
    """
    pending = [_Pending(message)]
    count = 0
    while pending:
        now = pending.pop()
        part = now.part
        count += 1
        if count > MAX_PARTS:
            raise SkipDocument(SkipReason.OVER_LIMIT, f"more than {MAX_PARTS} parts")
        kind = part.get_content_type()
        inner = _children(part)
        if inner and kind.startswith("message/"):
            if part is not message:
                yield inner[0], Role.MESSAGE
            pending += [_Pending(one) for one in reversed(inner)]
        elif inner:
            chosen = _chosen(inner, decoder) if kind == "multipart/alternative" else None
            related = now.related or kind == "multipart/related"
            pending += [
                _Pending(one, now.shown and (chosen is None or one is chosen), related)
                for one in reversed(inner)
            ]
        elif kind.startswith("text/") and not _is_file(part):
            if now.shown:
                yield part, Role.TEXT
        elif not kind.startswith("multipart/"):
            yield part, _role(part, kind, related=now.related)


def text_of(part: Message, decoder: Decoder) -> Extracted:
    """Return the text of a part as a reader sees it.

    Raises:
        SkipDocument: it is binary.
    """
    data, label = bytes_of(part), str(part.get_content_charset() or "")
    if part.get_content_subtype() not in {"html", "xhtml", "xhtml+xml"}:
        return Extracted(decoder.decode(data, label), [])
    source, encoding = read_markup(data, xml=False, label=label)
    if not data.isascii():
        decoder.note(encoding)
    return extract_text(LexborHTMLParser(source).root, whole=True)


def bytes_of(part: Message) -> bytes:
    """Return the content of a part."""
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def name_of(part: Message, decoder: Decoder, number: int) -> str:
    """Return the name of an attached file, which may be any text without ``/``.

    Args:
        part: the file.
        decoder: decodes the name.
        number: names a file without a name.
    """
    name = next((decoder.words(name) for name in parameters(part) if name.strip()), "")
    name = one_line(name.replace("\\", "/").rpartition("/")[2])
    extension = guess_extension(part.get_content_type()) or ""
    if not name:
        return f"{number}{extension}"
    return name if "." in name else name + extension


def _children(part: Message) -> list[Message]:
    payload = part.get_payload() if part.is_multipart() else []
    return [one for one in cast("list[Message]", payload) if isinstance(one, Message)]


def _is_file(part: Message) -> bool:
    return part.get_content_disposition() == "attachment" or any(parameters(part))


def _role(part: Message, kind: str, *, related: bool) -> Role:
    shown_in_text = related and kind.startswith("image/") and part["content-id"] is not None
    return Role.EMBEDDED if shown_in_text or kind in _SIGNATURES else Role.ATTACHMENT


def _chosen(forms: list[Message], decoder: Decoder) -> Message | None:
    """Return the form of a text to show; None to show all."""
    plain = next((one for one in forms if one.get_content_type() == "text/plain"), None)
    rich = next((one for one in reversed(forms) if html_in(one) is not None), None)
    if plain is None or rich is None or plain is rich:
        return plain or rich
    return rich if _is_stub(_words(plain, decoder), _words(html_in(rich), decoder)) else plain


def html_in(part: Message) -> Message | None:
    """Return the first HTML in a part, at most ``MAX_PARTS`` parts away."""
    pending = [part]
    for _ in range(MAX_PARTS):
        if not pending:
            break
        part = pending.pop()
        if part.get_content_type() == "text/html" and not _is_file(part):
            return part
        pending += reversed(_children(part))
    return None


def _words(part: Message | None, decoder: Decoder) -> Counter[str]:
    if part is None:
        return Counter()
    try:
        text = text_of(part, decoder).text
    except SkipDocument:
        return Counter()
    return Counter(word[1].lower() for word in _WORDS.finditer(text) if word[1])


def _is_stub(plain: Counter[str], rich: Counter[str]) -> bool:
    """Whether the words of a plain form are not those of the HTML, but, say, a note about it."""
    few, many = plain.total(), rich.total()
    if few * _STUB_TIMES < many:
        return True
    return few <= many and (plain & rich).total() < _STUB_SHARE * few
