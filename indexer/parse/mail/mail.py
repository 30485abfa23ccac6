"""E-mail (RFC 5322, MIME): the message that a person reads, with its headers as metadata."""

import email
import email.policy
from collections.abc import Iterator
from email.message import Message
from typing import Final

from indexer.parse.base.compose import Composer
from indexer.parse.mail.headers import Decoder, date_of, raw_header
from indexer.parse.mail.outlook import is_outlook, read_outlook
from indexer.parse.mail.parts import Role, bytes_of, name_of, text_of, walk
from indexer.skip import SkipDocument, SkipReason, parser_errors_as_damage
from retrieval.domain.records import Document

_SHOWN: Final = ("From", "To", "Cc", "Date")
_PEOPLE: Final = ("From", "To", "Cc")
_METADATA: Final = ("Message-ID", "In-Reply-To", "List-ID")


def parse_mail(uri: str, data: bytes, encoding: str = "") -> Document:
    """Make a document of a message: its subject, senders and recipients, and its text.

    If a text comes in several forms, the plain one is used, unless it is empty or a stub. Attached
    messages follow, each as a section; other attached files are documents of their own, named in
    the metadata ``attachments``.

    Raises:
        SkipDocument: the file is not a message.
    """
    composer, decoder = Composer(), Decoder(encoding)
    attachments: list[str] = []
    with parser_errors_as_damage():
        message = _read(data)
        subject = decoder.header(message, "Subject")
        composer.add_heading(1, subject)
        _add_headers(composer, message, decoder)
        for number, (part, role) in enumerate(walk(message, decoder)):
            if role is Role.MESSAGE:
                composer.add_heading(2, decoder.header(part, "Subject") or "message")
                _add_headers(composer, part, decoder)
            elif role is Role.TEXT:
                _add_text(composer, part, decoder, number)
            else:
                attachments.append(name_of(part, decoder, number))
        people = [(name, decoder.addresses(message, name)) for name in _PEOPLE]
        metadata: list[tuple[str, str | list[str]]] = [
            ("date", date_of(decoder.header(message, "Date"))),
            *((name, found if len(found) > 1 else "".join(found)) for name, found in people),
            *((name, decoder.header(message, name)) for name in _METADATA),
            ("attachments", attachments),
        ]
    return composer.document(uri, "mail", [subject], metadata, decoder.encoding)


def attached_files(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the names and contents of the files attached to a message; no two have one name.

    Raises:
        Exception: the file is not a message.
    """
    message, decoder = _read(data), Decoder()
    names: set[str] = set()
    for number, (part, role) in enumerate(walk(message, decoder)):
        if role is not Role.ATTACHMENT:
            continue
        name = name_of(part, decoder, number)
        stem, dot, extension = name.rpartition(".")
        copy = 1
        while name in names:
            copy += 1
            name = f"{stem}-{copy}{dot}{extension}" if dot else f"{extension}-{copy}"
        names.add(name)
        yield name, bytes_of(part)


def _read(data: bytes) -> Message:
    """Parse a message; the older policy is the one that takes headers as they come."""
    if is_outlook(data):
        return read_outlook(data)
    message = email.message_from_bytes(data, policy=email.policy.compat32)
    if not message.keys():
        raise SkipDocument(SkipReason.DAMAGED, "not a message: it has no header")
    return message


def _add_headers(composer: Composer, message: Message, decoder: Decoder) -> None:
    """Add the headers that a reader sees as lines."""
    lines = [
        f"{name}: {', '.join(decoder.addresses(message, name))}"
        if name in _PEOPLE
        else f"{name}: {decoder.header(message, name)}"
        for name in _SHOWN
        if raw_header(message, name)
    ]
    composer.add("\n".join(lines), 1)


def _add_text(composer: Composer, part: Message, decoder: Decoder, number: int) -> None:
    try:
        extracted = text_of(part, decoder)
    except SkipDocument:
        composer.unread(f"part {number + 1}")
        return
    composer.add(extracted.text)
