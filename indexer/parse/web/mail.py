"""E-mail (RFC 5322, MIME): the message that a person reads, with its headers as metadata."""

import email
import email.policy
import email.utils
from collections.abc import Iterator
from email.message import EmailMessage
from typing import Final, cast

from selectolax.lexbor import LexborHTMLParser

from indexer.parse.base.compose import Composer
from indexer.parse.web.html_depth import limit_depth
from indexer.parse.web.html_text import extract_text
from indexer.skip import SkipDocument, SkipReason, parser_errors_as_damage
from retrieval.domain.records import Document

_SHOWN: Final = ("From", "To", "Cc", "Date")
_PEOPLE: Final = ("From", "To", "Cc")
_METADATA: Final = ("Message-ID", "In-Reply-To", "List-ID")
_MAX_PARTS: Final = 1000
"""Messages with more parts are skipped: only hostile ones have them."""
_HEADER_BUGS: Final = (ValueError, IndexError, AttributeError, TypeError, OverflowError)
"""Exceptions that Python's parser raises for malformed headers."""


def parse_mail(uri: str, data: bytes) -> Document:
    """Make a document of a message: its subject, senders and recipients, and its text.

    If a text comes in several forms, the plain one is used. Attached texts follow, each as a
    section; the metadata ``attachments`` names all attachments.

    Raises:
        SkipDocument: the file is not a message.
    """
    composer = Composer()
    attachments: list[str] = []
    with parser_errors_as_damage():
        message = email.message_from_bytes(data, policy=email.policy.default)
        if not message.keys():
            raise SkipDocument(SkipReason.DAMAGED, "not a message: it has no header")
        subject = _header(message, "Subject")
        composer.add_heading(1, subject)
        shown = [f"{name}: {_header(message, name)}" for name in _SHOWN if name in message]
        composer.add("\n".join(shown), 1)
        for part, inline in _leaves(message):
            if inline:
                composer.add(_text(part))
                continue
            name = part.get_filename() or part.get_content_type()
            attachments.append(name)
            if part.get_content_maintype() == "text":
                composer.begin_section(2, name)
                composer.add(_text(part))
    metadata: list[tuple[str, str | list[str]]] = [("date", _date(message))]
    metadata += [(name, _addresses(message, name)) for name in _PEOPLE]
    metadata += [(name, _header(message, name)) for name in _METADATA]
    metadata.append(("attachments", attachments))
    return composer.document(uri, "mail", [subject], metadata)


def _header(message: EmailMessage, name: str) -> str:
    """Return the text of a header, in its raw form if it is malformed."""
    try:
        return str(message[name] or "")
    except _HEADER_BUGS:
        raw = {key.lower(): value for key, value in message.raw_items()}
        return str(raw.get(name.lower(), ""))


def _addresses(message: EmailMessage, name: str) -> str | list[str]:
    """Return the addresses of a header: a text for one, and the raw header if it is malformed."""
    raw = _header(message, name)
    try:
        addresses = [str(address) for address in message[name].addresses] if raw else []
    except _HEADER_BUGS:
        return raw
    return addresses if len(addresses) > 1 else raw


def _date(message: EmailMessage) -> str:
    """Return the date as ``2024-05-01T10:00:00+00:00``, or the raw header if it is malformed."""
    raw = _header(message, "Date")
    try:
        return email.utils.parsedate_to_datetime(raw).isoformat()
    except (ValueError, OverflowError):
        return raw


def _leaves(message: EmailMessage) -> Iterator[tuple[EmailMessage, bool]]:
    """Yield the parts with content, and whether they are shown with the message."""
    pending: list[EmailMessage] = [message]
    count = 0
    while pending:
        part = pending.pop()
        count += 1
        if count > _MAX_PARTS:
            raise SkipDocument(SkipReason.OVER_LIMIT, f"more than {_MAX_PARTS} parts")
        if part.get_content_type() == "multipart/alternative":
            chosen = part.get_body(preferencelist=("plain", "html"))
            if chosen is not None and chosen is not part:
                pending.append(cast(EmailMessage, chosen))
                continue
        if part.is_multipart():
            pending += reversed(cast(list[EmailMessage], part.get_payload()))
        elif part.get_content_maintype() == "text" and not part.is_attachment():
            yield part, part.get_filename() is None
        else:
            yield part, False


def _text(part: EmailMessage) -> str:
    """Return the text of a part, even if its character set is unknown or wrong."""
    payload = part.get_payload(decode=True)
    data = payload if isinstance(payload, bytes) else b""
    try:
        text = data.decode(part.get_content_charset() or "utf-8", "replace")
    except (LookupError, ValueError):
        text = data.decode("utf-8", "replace")
    if part.get_content_subtype() == "html":
        root = LexborHTMLParser(limit_depth(text)).root
        return extract_text(root, whole=True).text
    return text
