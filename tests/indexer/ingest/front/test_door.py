"""The door of a real server, before a writer process that keeps documents in memory."""

import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from indexer.ingest.door import SERVICE, IngestDoor
from indexer.ingest.front.process import supervisor
from indexer.ingest.front.process.heartbeat import Patience
from retrieval.client import RetrievalClient
from retrieval.errors import NotServing
from retrieval.indexer_v1 import ingest_service_pb2 as pb
from retrieval.indexer_v1.ingest_service_pb2_grpc import IngestServiceStub
from retrieval.service.access.token_file import Quota, create_token
from retrieval.service.config import Address, Writing
from retrieval.service.scheduling.batcher import BULK_NICENESS, NICENESS
from tests.service.harness import RunningServer, running, wait_until

COMMAND = (sys.executable, "-m", "tests.indexer.ingest.front.small_writer")
KIB = 1 << 10


@contextmanager
def serving(
    index: Path, writing: Writing | None = None, **settings: Any
) -> Iterator[RunningServer]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervisor, "COMMAND", COMMAND)
        with running({"default": index}, writing=writing or Writing(), **settings) as server:
            yield server


@pytest.fixture(scope="module")
def server(index: Path) -> Iterator[RunningServer]:
    with serving(index, metrics=Address("127.0.0.1", 0)) as running_server:
        yield running_server


@pytest.fixture
def stub(server: RunningServer) -> Iterator[IngestServiceStub]:
    with grpc.insecure_channel(server.target) as channel:
        yield IngestServiceStub(channel)


def door_of(server: RunningServer) -> IngestDoor:
    (door,) = server.server._doors
    assert isinstance(door, IngestDoor)
    return door


def put(uri: str, text: str = "bread", **fields: Any) -> pb.PutDocumentRequest:
    return pb.PutDocumentRequest(uri=uri, text=text, **fields)


def refusal(call: Any, request: Any, **options: Any) -> tuple[str, str]:
    """Name of the status and reason of the error that a call must end with."""
    with pytest.raises(grpc.RpcError) as caught:
        call(request, **options)
    return caught.value.code().name, reason_of(caught.value)


def reason_of(error: Any) -> str:
    info = error_details_pb2.ErrorInfo()
    status = rpc_status.from_call(error)
    assert status is not None, error
    assert status.details[0].Unpack(info)
    return info.reason


def stream(
    stub: IngestServiceStub, documents: list[pb.PutDocumentRequest], **options: Any
) -> dict[int, pb.PutDocumentsResponse]:
    """Put documents over one stream; returns the answers by their numbers."""
    requests = (
        pb.PutDocumentsRequest(request_id=number, document=document)
        for number, document in enumerate(documents)
    )
    return {answer.request_id: answer for answer in stub.PutDocuments(requests, **options)}


def test_a_put_and_what_becomes_of_it(stub: IngestServiceStub) -> None:
    (created,) = stub.PutDocument(put("one/a", "apples")).documents
    (updated,) = stub.PutDocument(put("one/a", "pears", if_sha256=created.sha256)).documents
    assert (created.change, updated.change) == (pb.CHANGE_CREATED, pb.CHANGE_UPDATED)
    assert stub.DeleteDocument(pb.DeleteDocumentRequest(uri="one/a")).uris == ["one/a"]


def test_errors_of_the_writer_are_passed_on(stub: IngestServiceStub) -> None:
    stub.PutDocument(put("two/a"))
    assert refusal(stub.PutDocument, put("two/a", if_absent=True)) == (
        "ALREADY_EXISTS",
        "ALREADY_EXISTS",
    )
    assert refusal(stub.PutDocument, put("two/a", if_sha256="0" * 64)) == ("ABORTED", "CONFLICT")
    missing = pb.DeleteDocumentRequest(uri="two/none")
    assert refusal(stub.DeleteDocument, missing) == ("NOT_FOUND", "NOT_FOUND")
    with pytest.raises(grpc.RpcError, match="damaged at byte 7") as caught:
        stub.PutDocument(put("two/b", "bad"))
    status = rpc_status.from_call(caught.value)
    assert reason_of(caught.value) == "UNREADABLE_DOCUMENT"
    assert any(detail.Is(error_details_pb2.BadRequest.DESCRIPTOR) for detail in status.details)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (put("../a"), 'the part ".."'),
        (put(""), "blank"),
        (pb.PutDocumentRequest(uri="a"), "no content"),
        (put("a", collection="collections/Default"), "did you mean"),
    ],
)
def test_malformed_puts(
    stub: IngestServiceStub, request_: pb.PutDocumentRequest, message: str
) -> None:
    with pytest.raises(grpc.RpcError, match=message) as caught:
        stub.PutDocument(request_)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_collections_that_are_not_there(stub: IngestServiceStub) -> None:
    unknown = put("a", collection="collections/none")
    assert refusal(stub.PutDocument, unknown) == ("NOT_FOUND", "NOT_FOUND")
    fixed = ("FAILED_PRECONDITION", "FIXED_COLLECTIONS")
    assert refusal(stub.CreateCollection, pb.CreateCollectionRequest(collection_id="x")) == fixed
    named = pb.DeleteCollectionRequest(collection="collections/default")
    assert refusal(stub.DeleteCollection, named) == fixed
    assert refusal(stub.DeleteCollection, pb.DeleteCollectionRequest()) == (
        "INVALID_ARGUMENT",
        "INVALID_ARGUMENT",
    )


def test_deleting_everything_takes_more_than_an_empty_prefix(stub: IngestServiceStub) -> None:
    stub.PutDocument(put("three/a"))
    for request in (
        pb.DeleteDocumentsRequest(),
        pb.DeleteDocumentsRequest(uri_prefix=""),
        pb.DeleteDocumentsRequest(filter=" "),
    ):
        assert refusal(stub.DeleteDocuments, request)[0] == "INVALID_ARGUMENT"
    request = pb.DeleteDocumentsRequest(uri_prefix="three/", dry_run=True)
    assert stub.DeleteDocuments(request).uris == ["three/a"]
    request.dry_run = False
    assert stub.DeleteDocuments(request).document_count == 1
    assert stub.DeleteDocuments(request).document_count == 0


def test_a_stream_answers_each_document_as_it_is_written(stub: IngestServiceStub) -> None:
    documents = [
        put("four/slow", "slow 0.5"),
        put("four/bad", "bad"),
        put("../four"),
        put("four/b"),
    ]
    requests = (
        pb.PutDocumentsRequest(request_id=number, document=document)
        for number, document in enumerate(documents)
    )
    answers = list(stub.PutDocuments(requests))
    assert answers[-1].request_id == 0  # the slow one holds up no other
    by_number = {answer.request_id: answer for answer in answers}
    assert by_number[0].response.documents[0].change == pb.CHANGE_CREATED
    assert by_number[1].error.reason == "UNREADABLE_DOCUMENT"
    assert by_number[1].error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert by_number[2].error.metadata == {"field": "uri"}
    assert by_number[3].HasField("response")


def test_puts_of_one_uri_keep_the_order_of_the_stream(stub: IngestServiceStub) -> None:
    texts = [f"slow {seconds}" for seconds in (0.2, 0.0, 0.1)] + ["the last"]
    answers = stream(stub, [put("five/a", text) for text in texts])
    changes = [answers[number].response.documents[0].change for number in range(4)]
    assert changes == [pb.CHANGE_CREATED, *[pb.CHANGE_UPDATED] * 3]
    last = answers[3].response.documents[0].sha256
    assert stub.PutDocument(put("five/a", "the last", if_sha256=last)).documents


def test_a_delete_waits_for_the_put_before_it(stub: IngestServiceStub) -> None:
    with ThreadPoolExecutor(1) as pool:
        putting = pool.submit(stub.PutDocument, put("six/a", "slow 0.5"))
        time.sleep(0.1)
        assert stub.DeleteDocument(pb.DeleteDocumentRequest(uri="six/a")).uris == ["six/a"]
        assert putting.done()


def test_a_stream_may_idle_and_its_client_may_go(server: RunningServer) -> None:
    with grpc.insecure_channel(server.target) as channel:
        more = threading.Event()

        def requests() -> Iterator[pb.PutDocumentsRequest]:
            yield pb.PutDocumentsRequest(request_id=1, document=put("seven/a"))
            more.wait(60)

        answers = IngestServiceStub(channel).PutDocuments(requests())
        assert next(answers).request_id == 1
        answers.cancel()
        more.set()
    wait_until(lambda: server.server._admission.under_way == 0)
    wait_until(lambda: server.server._transfers.held == 0)


def test_a_cancelled_put_holds_its_turn_until_it_is_done(
    server: RunningServer, stub: IngestServiceStub
) -> None:
    with pytest.raises(grpc.RpcError):
        stub.PutDocument(put("eight/a", "slow 0.6"), timeout=0.2)
    (document,) = stub.PutDocument(put("eight/a", "fast")).documents
    assert document.change == pb.CHANGE_UPDATED  # after the first, and never beside it
    wait_until(lambda: len(door_of(server)._servicer._puts._turns) == 0)


def test_metrics_and_health_name_the_service(
    server: RunningServer, stub: IngestServiceStub
) -> None:
    stub.PutDocument(put("nine/a"))
    stream(stub, [put("nine/b"), put("..")])
    port = server.server._metrics_server.server_port
    with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    for line in (
        'retrieval_requests_total{code="OK",method="IngestService/PutDocument"}',
        'retrieval_put_documents_total{collection="default",outcome="created"}',
        'retrieval_put_documents_total{collection="default",outcome="failed"}',
        'retrieval_put_bytes_total{collection="default"}',
        "retrieval_pending_documents 0.0",
        "retrieval_pending_bytes 0.0",
        "retrieval_writer_starts 1.0",
        "retrieval_writer_hangs 0.0",
    ):
        assert line in text
    with grpc.insecure_channel(server.target) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        answer = health.Check(health_pb2.HealthCheckRequest(service=SERVICE))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with RetrievalClient(server.target) as client:
        info = client.server_info()
    assert info.writable
    assert info.limits.max_document_bytes == Writing().document_bytes


def test_a_server_that_takes_no_documents(index: Path) -> None:
    with running({"default": index}) as server, grpc.insecure_channel(server.target) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            IngestServiceStub(channel).PutDocument(put("a"))
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        with RetrievalClient(server.target) as client:
            info = client.server_info()
        assert not info.writable
        assert info.limits.max_document_bytes == 0


def with_token(token: str) -> dict[str, Any]:
    return {"metadata": (("authorization", f"Bearer {token}"),)}


def test_tokens_need_the_scope_and_keep_to_their_quota(index: Path, tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    reader = create_token(file, "reader")
    writer = create_token(file, "writer", scopes=["write"])
    other = create_token(file, "other", scopes=["write"], collections=["other"])
    few = create_token(file, "few", scopes=["write"], quota=Quota(2, 0))
    small = create_token(file, "small", scopes=["write"], quota=Quota(0, 10))
    with serving(index, token_file=file) as server, grpc.insecure_channel(server.target) as channel:
        stub = IngestServiceStub(channel)
        denied = ("PERMISSION_DENIED", "PERMISSION_DENIED")
        assert refusal(stub.PutDocument, put("a")) == ("UNAUTHENTICATED", "UNAUTHENTICATED")
        assert refusal(stub.PutDocument, put("a"), **with_token(reader)) == denied
        assert refusal(stub.PutDocument, put("a"), **with_token(other)) == denied
        assert stub.PutDocument(put("a"), **with_token(writer)).documents
        exceeded = ("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED")
        assert refusal(stub.PutDocument, put("b", "bad"), **with_token(few))[1] != exceeded[1]
        answers = stream(stub, [put(f"few/{n}") for n in range(4)], **with_token(few))
        assert [answers[n].error.reason for n in range(4)] == ["", "", *["QUOTA_EXCEEDED"] * 2]
        assert stub.PutDocument(put("c", "x" * 10), **with_token(small)).documents
        assert refusal(stub.PutDocument, put("d", "x"), **with_token(small)) == exceeded
    kept = json.loads((tmp_path / ".tokens.json.quotas.json").read_text())
    assert kept["documents"] == {"few": 2, "small": 1}
    assert kept["bytes"]["small"] == 10
    with serving(index, token_file=file) as server, grpc.insecure_channel(server.target) as channel:
        assert (
            refusal(IngestServiceStub(channel).PutDocument, put("e"), **with_token(few)) == exceeded
        )


def test_sizes_and_types(index: Path) -> None:
    writing = Writing(
        document_bytes=64 * KIB, pending_bytes=256 * KIB, media_types=("text/markdown", "text/html")
    )
    with serving(index, writing) as server, grpc.insecure_channel(server.target) as channel:
        stub = IngestServiceStub(channel)
        assert stub.PutDocument(put("a.md", "x" * 64 * KIB)).documents
        assert stub.PutDocument(put("a", media_type="text/x-markdown")).documents
        assert stub.PutDocument(put("a", file_name="a.html")).documents
        invalid = ("INVALID_ARGUMENT", "INVALID_ARGUMENT")
        assert refusal(stub.PutDocument, put("a.md", "x" * (64 * KIB + 1))) == invalid
        assert refusal(stub.PutDocument, put("a.pdf", media_type="application/pdf")) == invalid
        assert refusal(stub.PutDocument, put("a")) == invalid
        assert refusal(stub.PutDocument, pb.PutDocumentRequest(uri="a", data=b"x")) == invalid
        large = put("a.md", metadata={"a": "x" * (1 << 20)})
        with pytest.raises(grpc.RpcError, match="beside its content"):
            stub.PutDocument(large)


def test_what_waits_is_bounded_and_a_stream_waits_by_itself(index: Path) -> None:
    writing = Writing(document_bytes=64 * KIB, pending_bytes=256 * KIB)
    with serving(index, writing) as server, grpc.insecure_channel(server.target) as channel:
        stub = IngestServiceStub(channel)
        large = "slow 0.3".ljust(50 * KIB)
        with ThreadPoolExecutor(4) as pool:
            calls = [pool.submit(stub.PutDocument, put(f"a/{n}", large)) for n in range(4)]
            refused = [call.exception() for call in calls if call.exception() is not None]
        assert {reason_of(error) for error in refused} == {"OVERLOADED"}
        assert len(refused) == 2
        servicer = door_of(server)._servicer
        most = 0

        def documents() -> Iterator[pb.PutDocumentRequest]:
            nonlocal most
            for number in range(12):
                yield put(f"b/{number}", large)
                most = max(most, servicer._pending_streams.bytes)

        answers = stream(stub, list(documents()))
        assert all(answer.HasField("response") for answer in answers.values())
        assert len(answers) == 12
        assert most <= 128 * KIB
        wait_until(lambda: server.server._transfers.held == 0)


def test_the_writer_is_behind_searches_and_safe_from_ctrl_c(server: RunningServer) -> None:
    writer = door_of(server).writer.process_id
    assert writer is not None
    assert os.getpriority(os.PRIO_PROCESS, writer) == BULK_NICENESS > NICENESS
    assert os.getpgid(writer) == writer != os.getpgid(0)
    # Linux may share cores between sessions first, and then niceness means nothing.
    assert os.getsid(writer) == os.getsid(0)


def test_a_writer_that_dies_ends_calls_and_comes_back(index: Path) -> None:
    with serving(index) as server, grpc.insecure_channel(server.target) as channel:
        stub, writer = IngestServiceStub(channel), door_of(server).writer
        unavailable = ("UNAVAILABLE", "NOT_SERVING")
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(refusal, stub.PutDocument, put("a", "slow 60"))
            wait_until(lambda: door_of(server)._servicer._pending.documents)
            os.kill(writer.process_id, signal.SIGKILL)
            assert call.result() == unavailable
        wait_until(lambda: writer.starts == 2 and writer.is_ready)
        answers = stream(stub, [put("b", "die")])
        assert answers[0].error.reason == "NOT_SERVING"
        wait_until(lambda: writer.starts == 3 and writer.is_ready)
        assert stub.PutDocument(put("c")).documents
        wait_until(lambda: len(door_of(server)._servicer._puts._turns) == 0)
        wait_until(lambda: server.server._transfers.held == 0)


def test_a_writer_that_hangs_is_killed_and_replaced(
    index: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor, "PATIENCE", Patience(beat_seconds=0.25, beats=2))
    with serving(index) as server, RetrievalClient(server.target) as client:
        writer = door_of(server).writer
        with ThreadPoolExecutor(1) as pool, grpc.insecure_channel(server.target) as channel:
            os.kill(writer.process_id, signal.SIGSTOP)
            call = pool.submit(channel_error, IngestServiceStub(channel).PutDocument, put("a"))
            # The client sends its put again, and need not know.
            assert client.put("b", text="bread").documents
            error = call.result()
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        status = rpc_status.from_call(error)
        assert any(one.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for one in status.details)
        assert (writer.hangs, writer.starts, writer.is_ready) == (1, 2, True)
    assert "has not answered for 0.5 s: killing it" in caplog.text


def channel_error(call: Any, request: Any) -> Any:
    """The error that a call must end with."""
    with pytest.raises(grpc.RpcError) as caught:
        call(request)
    return caught.value


def test_a_writer_that_never_answers_stops_the_server(
    index: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    script = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"
    process_id = tmp_path / "pid"
    monkeypatch.setattr(supervisor, "COMMAND", (sys.executable, "-c", script, str(process_id)))
    monkeypatch.setattr(supervisor, "PATIENCE", Patience(start_seconds=1.0))
    with (
        pytest.raises(NotServing, match="can't be started"),
        running({"default": index}, writing=Writing()),
    ):
        pass
    assert not Path("/proc", process_id.read_text()).exists()
    assert "was not ready within 1 s: killing it" in caplog.text


def test_a_server_without_room_for_a_socket_stops(
    index: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with (
        pytest.raises(NotServing, match="can't be started"),
        running({"default": index}, writing=Writing()),
    ):
        pass


def test_a_server_that_stops_answers_what_it_has_read(index: Path) -> None:
    with serving(index) as server, grpc.insecure_channel(server.target) as channel:
        stopping = threading.Event()

        def requests() -> Iterator[pb.PutDocumentsRequest]:
            yield pb.PutDocumentsRequest(request_id=1, document=put("a", "slow 0.5"))
            stopping.wait(60)

        answers = IngestServiceStub(channel).PutDocuments(requests())
        process = door_of(server).writer.process_id
        wait_until(lambda: door_of(server)._servicer._pending_streams.documents)
        server.loop.call_soon_threadsafe(server._stopping.set)
        assert next(answers).HasField("response")
        with pytest.raises(grpc.RpcError) as caught:
            next(answers)
        stopping.set()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        server.stop()
        assert not Path(f"/proc/{process}").exists()


def test_a_writer_that_can_not_start_stops_the_server(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "COMMAND", (sys.executable, "-c", "raise SystemExit(3)"))
    with (
        pytest.raises(NotServing, match="can't be started"),
        running({"default": index}, writing=Writing()),
    ):
        pass
