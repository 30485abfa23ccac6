"""Streams of puts whose clients idle, stall, or don't take their answers."""

import struct
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from retrieval.client import RetrievalClient
from retrieval.indexer_v1 import ingest_service_pb2 as pb
from retrieval.indexer_v1.ingest_service_pb2_grpc import IngestServiceStub
from retrieval.service.config import Limits
from tests.indexer.ingest.front.test_door import put, serving
from tests.service.harness import RunningServer, wait_until
from tests.service.raw_http2 import RawConnection

PUTS = "/indexer.v1.IngestService/PutDocuments"
KIB = 1 << 10
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for its numbers")


@pytest.fixture(scope="module")
def strict(index: Path) -> Iterator[RunningServer]:
    with serving(index, limits=Limits(stall_seconds=1.0, concurrent_requests=8)) as server:
        yield server


def is_quiet(server: RunningServer) -> bool:
    return server.server._admission.under_way == 0 and server.server._transfers.held == 0


def test_a_stream_may_idle_beside_other_requests(strict: RunningServer) -> None:
    with grpc.insecure_channel(strict.target) as channel:
        stub = IngestServiceStub(channel)

        def requests() -> Iterator[pb.PutDocumentsRequest]:
            yield pb.PutDocumentsRequest(request_id=1, document=put("idle/a"))
            end = time.monotonic() + 3
            number = 0
            while time.monotonic() < end:  # over the same connection: their headers are no message
                stub.PutDocument(put(f"idle/{number % 20}", "x" * KIB))
                number += 1
            yield pb.PutDocumentsRequest(request_id=2, document=put("idle/b"))

        answers = list(stub.PutDocuments(requests()))
        assert [answer.request_id for answer in answers] == [1, 2]
    wait_until(lambda: is_quiet(strict))


def test_many_idle_streams_leave_room_for_others(strict: RunningServer) -> None:
    with closing(RawConnection(strict.target)) as connection:
        streams = [connection.begin(PUTS) for _ in range(6)]
        assert connection.wait(streams[0], 2.5) == float("inf")
        assert not any(connection.over(stream) for stream in streams)
        with RetrievalClient(strict.target) as client:
            assert client.search("bread").passages
    wait_until(lambda: is_quiet(strict))


def test_a_message_that_stalls_ends_its_stream(strict: RunningServer) -> None:
    with closing(RawConnection(strict.target)) as connection:
        stream = connection.begin(PUTS)
        data = b"\0" + struct.pack(">I", 1024 * KIB) + b"x" * 200 * KIB
        assert connection.send(stream, data) == len(data)
        wait_until(lambda: strict.server._transfers.held > 0)  # counts as far as it has come
        assert connection.wait(stream, 60) < 60
    wait_until(lambda: is_quiet(strict))


def test_a_client_that_takes_no_answers_is_hung_up_on(strict: RunningServer) -> None:
    with closing(RawConnection(strict.target, answer_window=10)) as connection:
        stream = connection.begin(PUTS)
        for number in range(50):
            item = pb.PutDocumentsRequest(request_id=number, document=put(f"full/{number}"))
            message = item.SerializeToString()
            connection.send(stream, b"\0" + struct.pack(">I", len(message)) + message)
        connection.wait(stream, 60)
        assert connection.closed
    wait_until(lambda: is_quiet(strict))


def test_malformed_messages_end_the_stream_after_what_came_before(strict: RunningServer) -> None:
    with grpc.insecure_channel(strict.target) as channel:
        call = channel.stream_stream(PUTS, None, pb.PutDocumentsResponse.FromString)
        good = pb.PutDocumentsRequest(request_id=1, document=put("bad/a", "slow 0.2"))
        answers = call(iter([good.SerializeToString(), b"\xff\xff"]))
        assert next(answers).HasField("response")
        with pytest.raises(grpc.RpcError, match="malformed") as caught:
            next(answers)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    wait_until(lambda: is_quiet(strict))
