"""Messages of Outlook (``.msg``, [MS-OXMSG]), as MIME messages of the same content.

A message is a compound file. Each of its properties that is a text or bytes is a stream, named
after the property's number and its type; the others are in one stream. Attachments and attached
messages are folders of the same kind.
"""

import email
import email.policy
import email.utils
import struct
from collections.abc import Iterator
from email.message import Message
from typing import Final

from indexer.decoding.decode import decode
from indexer.parse.base.outline import one_line
from indexer.parse.office.legacy.compound import MAGIC, Compound, code_page, filetime
from indexer.parse.office.rtf.document import parse_rtf
from indexer.skip import SkipDocument, SkipReason

_SUBJECT, _BODY, _RTF_BODY, _HTML_BODY = "0037", "1000", "1009", "1013"
_HEADERS, _SENDER_NAME, _SENDER, _SENDER_SMTP = "007D", "0C1A", "0C1F", "5D01"
_TO, _CC = "0E04", "0E03"
_FILE, _FILE_NAMES, _CONTENT_ID = "3701", ("3707", "3704", "3001"), "3712"
_SENT, _DELIVERED = 0x0039, 0x0E06
_TEXT_CODE_PAGE, _HTML_CODE_PAGE = 0x3FFD, 0x3FDE
"""Properties with the code pages of texts that are not Unicode, and of an HTML in bytes."""
_KEPT: Final = ("From", "To", "Cc", "Date", "Message-ID", "In-Reply-To", "List-ID")
"""Headers that are taken over if the message came over the Internet."""

_PROPERTIES: Final = "__properties_version1.0"
_OUTER_HEADER, _INNER_HEADER, _ATTACHMENT_HEADER = 32, 24, 8
"""Bytes before the properties of a message, of one that is attached to another, and of a file."""
_ATTACHMENT: Final = "__attach_version1.0_#"
_EMBEDDED: Final = "__substg1.0_3701000D"
_MAX_DEPTH: Final = 8
"""Messages attached to each other more deeply are left out; people stop at two or three."""
_MAX_ATTACHMENTS: Final = 1000
"""A message with more is refused, as one in MIME with more parts is."""

_DICTIONARY: Final = (
    rb"{\rtf1\ansi\mac\deff0\deftab720{\fonttbl;}{\f0\fnil \froman \fswiss \fmodern \fscript "
    rb"\fdecor MS Sans SerifSymbolArialTimes New RomanCourier{\colortbl\red0\green0\blue0"
    b"\r\n"
    rb"\par \pard\plain\f0\fs20\b\i\u\tab\tx"
)
"""What a compressed RTF may refer to before its own text ([MS-OXRTFCP] 2.1.2.1)."""
_WINDOW: Final = 4096
_MAX_RTF: Final = 64 << 20
"""Bytes of a decompressed body; one reference of two bytes makes at most 17."""


def is_outlook(data: bytes) -> bool:
    """Whether the bytes are those of a compound file."""
    return data.startswith(MAGIC)


def read_outlook(data: bytes) -> Message:
    """Return a message of Outlook as a MIME message.

    Raises:
        SkipDocument: the file is encrypted, or is no message.
        Exception: it is damaged.
    """
    compound = Compound(data)
    if not compound.has(_PROPERTIES):
        raise SkipDocument(SkipReason.DAMAGED, "not a message of Outlook")
    return _Folder(compound, "", _OUTER_HEADER).message(0)


class _Folder:
    """A message, or an attachment, in a compound file."""

    def __init__(self, compound: Compound, path: str, header: int) -> None:
        self._compound = compound
        self._path = path
        self._numbers = self._read_numbers(header)

    def message(self, depth: int) -> Message:
        """Return the message in this folder, with what is attached to it."""
        made = _multipart("mixed")
        made["Subject"] = _raw(self._text(_SUBJECT))
        for name, value in self._headers():
            if line := _raw(value):
                made[name] = line
        plain, html = self._text(_BODY), self._html()
        if not plain.strip() and not html:
            plain = self._rtf_text()
        forms = _multipart("alternative")
        made.attach(forms)
        forms.attach(_part("text/plain; charset=utf-8", _utf8(plain)))
        if html:
            forms.attach(_part("text/html; charset=utf-8", _utf8(html)))
        for number, path in enumerate(self._attachments()):
            if number == _MAX_ATTACHMENTS:
                raise SkipDocument(SkipReason.OVER_LIMIT, f"more than {number} attachments")
            if (attached := self._attached(path, depth)) is not None:
                made.attach(attached)
        return made

    def _attached(self, path: str, depth: int) -> Message | None:
        """Return an attachment; None for a message attached too deeply."""
        folder = _Folder(self._compound, path, _ATTACHMENT_HEADER)
        if self._compound.has(f"{path}{_EMBEDDED}/{_PROPERTIES}"):
            if depth == _MAX_DEPTH:
                return None
            inner = _Folder(self._compound, f"{path}{_EMBEDDED}/", _INNER_HEADER)
            holder = Message()
            holder["Content-Type"] = "message/rfc822"
            holder.attach(inner.message(depth + 1))
            return holder
        names = (one_line(folder._text(key)) for key in _FILE_NAMES)
        name = _utf8(next(filter(None, names), "")).decode()
        made = _part("application/octet-stream", folder._bytes(_FILE))
        made.add_header("Content-Disposition", "attachment", filename=("utf-8", "", name))
        if identity := folder._text(_CONTENT_ID):
            made["Content-ID"] = f"<{_raw(identity)}>"
        return made

    def _headers(self) -> Iterator[tuple[str, str]]:
        """Yield the headers, as they came over the Internet or else as Outlook shows them."""
        came = email.message_from_string(self._text(_HEADERS), policy=email.policy.compat32)
        had = {name for name in _KEPT if came[name]}
        yield from ((name, str(came[name])) for name in _KEPT if name in had)
        if "From" not in had:
            address = self._text(_SENDER_SMTP) or self._text(_SENDER)
            name = self._text(_SENDER_NAME)
            # An address within one organisation is a path, which says nothing to people.
            is_plain = "@" in address and "/" not in address and address != name
            yield "From", f'"{name}" <{address}>' if name and is_plain else name or address
        if not had & {"To", "Cc"}:
            yield "To", self._text(_TO)
            yield "Cc", self._text(_CC)
        if "Date" not in had:
            ticks = self._numbers.get(_SENT) or self._numbers.get(_DELIVERED) or 0
            yield "Date", _date(ticks)

    def _html(self) -> str:
        if raw := self._bytes(_HTML_BODY):
            return self._decode(raw, _HTML_CODE_PAGE)
        return self._text(_HTML_BODY)

    def _rtf_text(self) -> str:
        packed = self._bytes(_RTF_BODY)
        return parse_rtf("body.rtf", decompress_rtf(packed)).text if packed else ""

    def _text(self, key: str) -> str:
        """Return a property that is a text; empty if there is none."""
        wide = f"{self._path}__substg1.0_{key}001F"
        if self._compound.has(wide):
            return self._compound.read(wide).decode("utf-16-le", "replace").replace("\0", "")
        narrow = f"{self._path}__substg1.0_{key}001E"
        if self._compound.has(narrow):
            return self._decode(self._compound.read(narrow), _TEXT_CODE_PAGE)
        return ""

    def _decode(self, raw: bytes, page: int) -> str:
        """Decode bytes by a code page that the message names, or by what they look like.

        Args:
            raw: the bytes; NULs in them are fillers.
            page: the property with the code page to try first.
        """
        raw = raw.replace(b"\0", b"")
        for key in (page, _TEXT_CODE_PAGE, _HTML_CODE_PAGE):
            if key in self._numbers:
                try:
                    return raw.decode(code_page(self._numbers[key] & 0xFFFF))
                except UnicodeDecodeError:
                    continue
        try:
            return decode(raw)[0]
        except SkipDocument:
            return raw.decode("cp1252", "replace")

    def _bytes(self, key: str) -> bytes:
        """Return a property that is bytes; empty if there is none."""
        name = f"{self._path}__substg1.0_{key}0102"
        return self._compound.read(name) if self._compound.has(name) else b""

    def _attachments(self) -> Iterator[str]:
        """Yield the paths of the folders of attachments, in order, each with a slash."""
        begin = f"{self._path}{_ATTACHMENT}"
        inside = self._path.count("/") + 1
        folders = {
            "/".join(name.split("/")[:inside]) + "/"
            for name in self._compound.names()
            if name.startswith(begin)
        }
        yield from sorted(folders)

    def _read_numbers(self, header: int) -> dict[int, int]:
        """Return the properties that are numbers and times, by their number."""
        name = self._path + _PROPERTIES
        data = self._compound.read(name) if self._compound.has(name) else b""
        entries = (
            struct.unpack_from("<HHIQ", data, at) for at in range(header, len(data) - 15, 16)
        )
        return {key: value for _, key, _, value in entries}


def decompress_rtf(data: bytes) -> bytes:
    """Return the RTF of a compressed body ([MS-OXRTFCP]).

    Raises:
        struct.error, IndexError: it is damaged.
        SkipDocument: it is too large.
    """
    size, raw_size, kind = struct.unpack_from("<III", data)
    if kind == int.from_bytes(b"MELA", "little"):
        return data[16 : 16 + raw_size]
    if raw_size > _MAX_RTF:
        raise SkipDocument(SkipReason.OVER_LIMIT, f"a body of {raw_size} bytes")
    window = bytearray(_DICTIONARY) + bytearray(_WINDOW - len(_DICTIONARY))
    place, at, end = len(_DICTIONARY), 16, min(len(data), size + 4)
    made = bytearray()
    while at < end and len(made) < raw_size:
        flags = data[at]
        at += 1
        for bit in range(8):
            if at >= end or len(made) >= raw_size:
                break
            if not flags >> bit & 1:
                found = bytes((data[at],))
                at += 1
                made += found
                window[place] = found[0]
                place = (place + 1) % _WINDOW
                continue
            reference = int.from_bytes(data[at : at + 2], "big")
            at += 2
            start, length = reference >> 4, (reference & 15) + 2
            if start == place:
                return bytes(made)
            for step in range(length):
                byte = window[(start + step) % _WINDOW]
                made.append(byte)
                window[place] = byte
                place = (place + 1) % _WINDOW
    return bytes(made)


def _multipart(kind: str) -> Message:
    made = Message()
    made["Content-Type"] = f"multipart/{kind}"
    made.set_payload([])
    return made


def _part(kind: str, content: bytes) -> Message:
    made = Message()
    made["Content-Type"] = kind
    made["Content-Transfer-Encoding"] = "8bit"
    made.set_payload(content.decode("ascii", "surrogateescape"))
    return made


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _raw(text: str) -> str:
    """Return a text as a header that is not ASCII is in a message that was read: as bytes."""
    return _utf8(one_line(text)).decode("ascii", "surrogateescape")


def _date(ticks: int) -> str:
    """Return a time as mail writes it; empty if there is none."""
    when = filetime(ticks) if ticks else None
    return email.utils.format_datetime(when) if when else ""
