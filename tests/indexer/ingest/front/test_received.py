"""Puts that are read without their data mean what the whole message means."""

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from indexer.ingest.front.received import ReceivedItem, ReceivedPut
from retrieval.indexer_v1 import ingest_service_pb2 as pb

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
CONTENTS = st.one_of(
    st.just({}),
    st.binary(max_size=300).map(lambda data: {"data": data}),
    TEXTS.map(lambda text: {"text": text}),
    st.lists(TEXTS, max_size=3).map(
        lambda texts: {"passages": {"passages": [{"text": text} for text in texts]}}
    ),
)
PUTS = st.builds(
    lambda uri, title, metadata, content: pb.PutDocumentRequest(
        uri=uri, title=title, metadata=metadata, if_absent=True, **content
    ),
    TEXTS,
    TEXTS,
    st.dictionaries(TEXTS, st.floats(0, 9), max_size=2),
    CONTENTS,
)


def check(raw: bytes) -> None:
    """Compare with what protobuf reads."""
    try:
        whole = pb.PutDocumentRequest.FromString(raw)
    except DecodeError:
        whole = None
    try:
        read = ReceivedPut.parse(raw)
    except DecodeError:
        return  # also where protobuf knows old forms that nobody sends
    assert whole is not None
    assert read.raw == raw
    kind = whole.WhichOneof("content")
    assert read.request.WhichOneof("content") == kind
    if kind == "data":
        assert read.content_bytes == len(whole.data)
        whole.data = b""
    assert str(read.request) == str(whole)  # also where numbers are NaN


@given(st.lists(PUTS, min_size=1, max_size=3))
def test_a_put(puts: list[pb.PutDocumentRequest]) -> None:
    for put in puts:
        raw = put.SerializeToString()
        check(raw)
        assert ReceivedPut.parse(raw)
    check(b"".join(put.SerializeToString() for put in puts))  # the parts of one message


@given(PUTS, st.integers(-(2**63), 2**63 - 1))
def test_an_item_of_a_stream(put: pb.PutDocumentRequest, number: int) -> None:
    raw = pb.PutDocumentsRequest(request_id=number, document=put).SerializeToString()
    item = ReceivedItem.parse(raw)
    assert item.request_id == number
    assert str(pb.PutDocumentRequest.FromString(item.put.raw)) == str(put)
    parts = [pb.PutDocumentsRequest(document=put).SerializeToString()] * 2
    assert len(ReceivedItem.parse(b"".join(parts)).put.raw) == 2 * put.ByteSize()


@given(PUTS, st.data())
def test_damaged_bytes_are_refused_or_read_alike(
    put: pb.PutDocumentRequest, data: st.DataObject
) -> None:
    raw = bytearray(put.SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw)))
        raw[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    check(bytes(raw))


@given(st.binary(max_size=40))
@example(b"\x1a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
@example(b"\x1a")
@example(b"\x0b")
@example(b"\xff" * 11)
def test_any_bytes(raw: bytes) -> None:
    check(raw)


def test_many_fields_are_refused() -> None:
    with pytest.raises(DecodeError, match="too many fields"):
        ReceivedPut.parse(b"\x60\x01" * 2000)
