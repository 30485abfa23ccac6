"""Puts as they come over the wire: their bytes, and all of them but the content as a message.

Content can be many megabytes. To parse, measure and serialise it takes milliseconds a megabyte, in
which the event loop answers nobody. So the bytes of ``data`` are neither parsed nor copied here,
but handed over as they came; the writer process parses them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from retrieval.indexer_v1 import ingest_service_pb2 as pb

_MAX_FIELDS: Final = 1000
"""Fields of a put, counting repetitions; there are about a dozen. Each takes a microsecond here."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
"""Wire types: https://protobuf.dev/programming-guides/encoding. Groups (3 and 4) are not used."""
_FIXED: Final = {_FIXED64: 8, _FIXED32: 4}
_MAX_VARINT_BYTES: Final = 10
_MORE: Final = 0x80
"""Set in all bytes of a number but the last."""
_DATA: Final = pb.PutDocumentRequest.DATA_FIELD_NUMBER
_CONTENT: Final = {
    _DATA: "data",
    pb.PutDocumentRequest.TEXT_FIELD_NUMBER: "text",
    pb.PutDocumentRequest.PASSAGES_FIELD_NUMBER: "passages",
}
_DOCUMENT: Final = pb.PutDocumentsRequest.DOCUMENT_FIELD_NUMBER


@dataclass(frozen=True, slots=True)
class ReceivedPut:
    """One put."""

    request: pb.PutDocumentRequest
    """The put; its ``data`` is empty, whatever it is."""
    raw: bytes
    """The whole put."""
    content_bytes: int
    """Bytes of its content; 0 if it has none."""

    @classmethod
    def parse(cls, raw: bytes) -> "ReceivedPut":
        """Return the put in the bytes of a ``PutDocumentRequest``.

        Raises:
            DecodeError: they are malformed.
        """
        kept, begin, sizes = bytearray(), 0, {"": 0}
        for field in _fields(raw):
            if field.number in _CONTENT and field.is_bytes:
                kind = _CONTENT[field.number]
                # Parts of a message add up; of bytes and texts, the last one counts.
                before = sizes.get(kind, 0) if kind == "passages" else 0
                sizes[kind] = before + field.end - field.start
            if field.number == _DATA and field.is_bytes:
                # Of several contents the last one counts, so an empty one takes its place.
                kept += raw[begin : field.length_at] + b"\0"
                begin = field.end
        request = pb.PutDocumentRequest.FromString(bytes(kept) + raw[begin:] if begin else raw)
        return cls(request, raw, sizes[request.WhichOneof("content") or ""])


@dataclass(frozen=True, slots=True)
class ReceivedItem:
    """One put of a stream."""

    request_id: int
    put: ReceivedPut

    @classmethod
    def parse(cls, raw: bytes) -> "ReceivedItem":
        """Return the put in the bytes of a ``PutDocumentsRequest``.

        Raises:
            DecodeError: they are malformed.
        """
        fields = [f for f in _fields(raw) if f.number == _DOCUMENT and f.is_bytes]
        # Several parts of a message mean the same as one message of them all.
        document = b"".join(raw[field.start : field.end] for field in fields)
        rest, begin = bytearray(), 0
        for field in fields:
            rest += raw[begin : field.tag_at]
            begin = field.end
        item = pb.PutDocumentsRequest.FromString(bytes(rest) + raw[begin:])
        return cls(item.request_id, ReceivedPut.parse(document))


class _Field(NamedTuple):
    """Where one field is in a message."""

    number: int
    is_bytes: bool
    """Whether it has a length: bytes, a text or a message."""
    tag_at: int
    length_at: int
    """Where its length is written, after its tag."""
    start: int
    end: int


def _fields(raw: bytes) -> Iterator[_Field]:
    """Yield the fields of a message in order.

    Raises:
        DecodeError: the message is malformed, or has very many fields.
    """
    at = count = 0
    while at < len(raw):
        count += 1
        tag, after_tag = _varint(raw, at)
        kind = tag & 7
        if kind == _VARINT:
            start, (_value, end) = after_tag, _varint(raw, after_tag)
        elif kind == _BYTES:
            size, start = _varint(raw, after_tag)
            end = start + size
        elif kind in _FIXED:
            start, end = after_tag, after_tag + _FIXED[kind]
        else:
            raise DecodeError("a field has an unknown type")
        if end > len(raw) or count > _MAX_FIELDS:
            raise DecodeError("the message is cut short, or has too many fields")
        yield _Field(tag >> 3, kind == _BYTES, at, after_tag, start, end)
        at = end


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """Return the number at a place, and where it ends.

    Raises:
        DecodeError: there is none.
    """
    value = 0
    for place, byte in enumerate(raw[at : at + _MAX_VARINT_BYTES]):
        value |= (byte & ~_MORE) << (7 * place)
        if not byte & _MORE:
            return value, at + place + 1
    raise DecodeError("a number is cut short")
