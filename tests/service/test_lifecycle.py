"""Starting, health, draining; and strangers at the port."""

import asyncio
import contextlib
import gc
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from retrieval.client import RetrievalClient
from retrieval.commands.cli import main
from retrieval.domain.records import TextKind
from retrieval.encoding.encoder import Embedded, Encoder
from retrieval.errors import (
    AddressInUse,
    IndexDamaged,
    NotAnIndex,
    ServiceError,
    ServiceUnavailable,
)
from retrieval.service.access.callers import EVERYONE
from retrieval.service.collections.open_collections import Collections, OpenCollection
from retrieval.service.config import Address, Limits, ServiceConfig
from retrieval.service.limits.hang_up import hang_up
from retrieval.service.server import SERVICE_NAMES, RetrievalServer
from retrieval.v1.search_service_pb2 import SearchRequest
from retrieval.v1.search_service_pb2_grpc import SearchServiceStub
from tests.service.harness import Program, RunningServer, free_port, running, wait_until
from tests.tiny_model import DIM

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def check_health(target: str, service: str = "") -> int:
    with grpc.insecure_channel(target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return int(stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=60).status)


class Gate:
    """Holds every ``Encoder.embed`` back until it is opened, and keeps the texts it saw."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened = threading.Event()
        self.seen: list[str] = []
        embed = Encoder.embed

        def gated(encoder: Encoder, texts: Sequence[str], kind: TextKind) -> Embedded:
            self.seen += texts
            assert self.opened.wait(60)
            return embed(encoder, texts, kind)

        monkeypatch.setattr(Encoder, "embed", gated)
        # Whatever is fastest on this machine, a query at the gate keeps the whole model busy.
        monkeypatch.setattr(Encoder, "query_on_one_core", False)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate(monkeypatch)
    yield made
    made.opened.set()


def read(url: str) -> str:
    with urlopen(url) as answer:
        return str(answer.read(), "utf-8")


def in_thread(call: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Run a call in a thread; its result, or what it raises, ends up in the list."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(call())
        except Exception as error:  # noqa: BLE001  (looked at by the test)
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, outcome


def test_health_of_services_and_collections(server: RunningServer) -> None:
    for service in ("", *SERVICE_NAMES, "collections/default", "collections/tea"):
        assert check_health(server.target, service) == SERVING
    with pytest.raises(grpc.RpcError) as caught:
        check_health(server.target, "collections/nope")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_unknown_methods_are_unimplemented(server: RunningServer) -> None:
    with grpc.insecure_channel(server.target) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/retrieval.v1.SearchService/Guess")(b"", timeout=60)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_not_serving_while_loading(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loading = threading.Event()
    open_newest = Collections._open_newest

    def slow(self: Collections, *arguments: Any) -> OpenCollection:
        assert loading.wait(60)
        return open_newest(self, *arguments)

    monkeypatch.setattr(Collections, "_open_newest", slow)
    port = free_port()
    target = f"127.0.0.1:{port}"
    config = ServiceConfig({"default": index}, Address("127.0.0.1", port), device="cpu")
    thread, outcome = in_thread(lambda: RunningServer(config))
    with RetrievalClient(target) as client:
        wait_until(lambda: isinstance(_error(client.server_info), ServiceError))
        wait_until(lambda: "loading" in str(_error(client.server_info)))
        error = _error(client.server_info)
        assert isinstance(error, ServiceUnavailable)
        assert (error.status, error.service_reason) == ("UNAVAILABLE", "NOT_SERVING")
        assert check_health(target) == NOT_SERVING
        assert check_health(target, "collections/default") == NOT_SERVING
        loading.set()
        thread.join(60)
        assert client.search("bread")
        assert check_health(target) == SERVING
    outcome[0].stop()


def _error(call: Callable[[], object]) -> ServiceError | None:
    try:
        call()
    except ServiceError as error:
        return error
    return None


def test_draining(index: Path, gate: Gate) -> None:
    with running({"default": index}) as server, RetrievalClient(server.target) as client:
        thread, outcome = in_thread(lambda: client.search("bread"))
        wait_until(lambda: gate.seen)
        with grpc.insecure_channel(server.target) as channel:
            watched: list[int] = []
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            watching, _ = in_thread(lambda: [watched.append(one.status) for one in watch])
            wait_until(lambda: watched == [SERVING])
            stopping, _ = in_thread(server.stop)
            wait_until(lambda: watched == [SERVING, NOT_SERVING])
            assert check_health(server.target) == NOT_SERVING
            error = _error(client.server_info)
            assert isinstance(error, ServiceUnavailable)
            assert error.service_reason == "NOT_SERVING"
            assert "shutting down" in error.message
            assert stopping.is_alive()
            gate.opened.set()
            thread.join(60)
            stopping.join(60)
            watching.join(60)
            assert not stopping.is_alive()
        assert outcome[0][0].uri == "notes/bread.md"


def test_the_grace_period_ends(index: Path, gate: Gate) -> None:
    with running({"default": index}, grace_seconds=0.2) as server:
        with RetrievalClient(server.target) as client:
            thread, outcome = in_thread(lambda: client.search("bread"))
            wait_until(lambda: gate.seen)
            stopping, _ = in_thread(server.stop)
            thread.join(60)
            gate.opened.set()
            stopping.join(60)
        assert isinstance(outcome[0], ServiceError)
        assert outcome[0].status == "UNAVAILABLE"


def test_all_that_come_while_it_stops_may_try_again(index: Path) -> None:
    """Also those that it has not looked at yet, which gRPC alone would end with CANCELLED."""
    outcomes: set[str] = set()

    def work(target: str) -> None:
        with grpc.insecure_channel(target, [("grpc.enable_retries", 0)]) as channel:
            stub = SearchServiceStub(channel)
            while not any(outcome.endswith("gone") for outcome in outcomes):
                try:
                    stub.Search(SearchRequest(text="bread"), timeout=60)
                    outcomes.add("OK")
                except grpc.RpcError as error:
                    refused = "shutting down" in (error.details() or "")
                    outcomes.add(f"{error.code().name}: {'refused' if refused else 'gone'}")

    with running({"default": index}) as server:
        calls = [in_thread(lambda: work(server.target))[0] for _ in range(16)]
        wait_until(lambda: "OK" in outcomes)
        server.stop()
        for call in calls:
            call.join(60)
    assert outcomes - {"UNAVAILABLE: refused"} == {"OK", "UNAVAILABLE: gone"}


def test_hanging_up() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_server(("127.0.0.1", 0)) as other,
        socket.create_connection(server.getsockname()) as client,
        server.accept()[0] as accepted,
        socket.create_connection(other.getsockname()) as bystander,
        other.accept()[0] as elsewhere,
    ):
        accepted.sendall(b"answer")
        before = len(list(Path("/dev/fd").iterdir()))
        address = server.getsockname()
        hang_up(address[1])
        assert len(list(Path("/dev/fd").iterdir())) == before
        assert client.recv(100) == b"answer"
        assert client.recv(100) == b""
        elsewhere.sendall(b"still there")
        assert bystander.recv(100) == b"still there"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)


def test_given_up_requests_are_not_worked_on(index: Path, gate: Gate) -> None:
    with (
        running({"default": index}, search_threads=2) as server,
        RetrievalClient(server.target) as client,
    ):
        first, outcome = in_thread(lambda: client.search("first"))
        wait_until(lambda: gate.seen)
        with RetrievalClient(server.target, timeout=0.3) as hasty:
            for query in ("waits for the model", "waits for a thread"):
                with pytest.raises(ServiceError, match="no answer from") as caught:
                    hasty.search(query)
                assert caught.value.status == "DEADLINE_EXCEEDED"
        with RetrievalClient(server.target) as leaver:
            left, _ = in_thread(lambda: leaver.search("is hung up on"))
            time.sleep(0.2)
        left.join(60)
        wait_until(lambda: server.server._admission._active == 1)
        gate.opened.set()
        first.join(60)
        assert outcome[0]
        assert client.search("last")
        assert gate.seen == ["first", "last"]


def test_requests_given_up_at_any_moment_leave_no_trace(server: RunningServer) -> None:
    with RetrievalClient(server.target) as client:
        for number in range(150):
            client._connection.timeout = 0.0002 * (number % 30 + 1)
            with contextlib.suppress(ServiceError):
                client.search(f"query {number}")
                next(client.stream_search(f"query {number}"))
    wait_until(lambda: server.server._admission._active == 0)
    with server.server._collections.use("default", EVERYONE) as collection:
        wait_until(lambda: collection._holders == 2)


def test_too_many_requests(index: Path, gate: Gate) -> None:
    limits = Limits(concurrent_requests=1)
    with (
        running({"default": index}, limits=limits) as server,
        RetrievalClient(server.target) as client,
    ):
        thread, outcome = in_thread(lambda: client.search("bread"))
        wait_until(lambda: gate.seen)
        with pytest.raises(ServiceError, match="at most 1 request at once") as caught:
            client.search("butter")
        assert caught.value.status == "RESOURCE_EXHAUSTED"
        assert caught.value.service_reason == "OVERLOADED"
        with pytest.raises(ServiceError, match="at most 1 request at once") as caught:
            next(client.stream_search("butter"))
        assert caught.value.service_reason == "OVERLOADED"
        gate.opened.set()
        thread.join(60)
        assert outcome[0]
        assert client.search("butter")


def test_answers_over_the_limit(index: Path) -> None:
    limits = Limits(message_bytes=4000)
    with (
        running({"default": index}, limits=limits) as server,
        RetrievalClient(server.target) as client,
    ):
        assert client.search("bread", k=2)
        with pytest.raises(ServiceError, match="ask for less at once") as caught:
            client.search("bread", k=40)
        assert caught.value.status == "RESOURCE_EXHAUSTED"
        assert caught.value.service_reason == "ANSWER_TOO_LARGE"
        assert len(list(client.stream_search("bread"))) == 40
        with pytest.raises(ServiceError, match="larger than max") as caught:
            client.count_tokens(["x" * 5000])
        assert caught.value.status == "RESOURCE_EXHAUSTED"


def test_bugs_are_internal_errors(
    client: RetrievalClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("private detail")

    monkeypatch.setattr("retrieval.service.grpc_api.index_servicer.collection_message", broken)
    with pytest.raises(ServiceError, match="log says more") as caught:
        client.collection()
    assert (caught.value.status, caught.value.service_reason) == ("INTERNAL", "INTERNAL")
    assert "private detail" not in caught.value.message
    assert "private detail" in caplog.text
    assert "Traceback" in caplog.text


def test_requests_are_logged_without_their_texts(
    client: RetrievalClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    client.search("something private")
    with pytest.raises(ServiceError):
        client.search("x", collection="nope")

    def logged() -> list[str]:
        return [one.message for one in caplog.records if "SearchService" in one.message]

    wait_until(lambda: len(logged()) == 2)  # a line is written once the answer is sent
    lines = logged()
    assert lines[0].startswith("SearchService/Search ")
    assert lines[0].endswith(" OK")
    assert "NOT_FOUND: no collection 'nope'" in lines[1]
    assert "private" not in caplog.text


@pytest.mark.parametrize(
    "garbage",
    [b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 1000, b"\x16\x03\x01\xff", bytes(range(256)) * 99],
)
def test_garbage_does_no_harm(
    server: RunningServer, client: RetrievalClient, garbage: bytes
) -> None:
    with socket.create_connection((server.address.host, server.address.port)) as connection:
        connection.sendall(garbage)
        connection.settimeout(1)
        with contextlib.suppress(OSError):  # the server may well hang up
            connection.recv(1000)
    with grpc.insecure_channel(server.target) as channel:
        call = channel.unary_unary("/retrieval.v1.SearchService/Search")
        with pytest.raises(grpc.RpcError, match="malformed") as caught:
            call(b"\xff\xff\xff", timeout=60)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert client.search("bread")


def test_start_errors(index: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = ServiceConfig({"default": index}, Address(*taken.getsockname()))
        with pytest.raises(AddressInUse, match="Address already in use"):
            RunningServer(config)
    with pytest.raises(AddressInUse, match=r"can't listen on nowhere\.invalid:1"):
        RunningServer(
            ServiceConfig({"default": index}, Address("nowhere.invalid", 1), insecure=True)
        )
    copy = tmp_path / "index"
    shutil.copytree(index, copy)
    for file in copy.glob("vectors-*"):
        file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(IndexDamaged):
        RunningServer(ServiceConfig({"default": copy}, Address("127.0.0.1", 0)))


def test_one_model_for_all_indexes_made_with_it(server: RunningServer) -> None:
    collections = server.server._collections
    with collections.use("default", EVERYONE) as one, collections.use("tea", EVERYONE) as other:
        assert one.model is other.model


def test_a_stopped_server_lets_go_of_its_collections(index: Path) -> None:
    async def run() -> object:
        server = RetrievalServer(
            ServiceConfig({"default": index}, Address("127.0.0.1", 0), device="cpu")
        )
        await server.start()
        with server._collections.use("default", EVERYONE) as collection:
            pass
        await server.stop()
        return collection._holders

    assert asyncio.run(run()) == 0


def test_a_server_in_somebodys_process_leaves_the_collector_alone(index: Path) -> None:
    """Else nothing of a stopped server would ever be collected: 7 MiB for each."""
    frozen = gc.get_freeze_count()
    with running({"default": index}):
        assert gc.get_freeze_count() == frozen


def test_the_program_serves_and_drains(index: Path) -> None:
    metrics = f"127.0.0.1:{free_port()}"
    program = Program(
        *("--index", str(index), "--listen", "127.0.0.1:0", "--grace", "60", "--metrics", metrics)
    )
    ready = program.wait_ready()
    assert ready.endswith(" · collection default: 8 documents, 40 passages, model tiny-words\n")
    second = Program("--index", str(index), "--listen", program.target)
    code, stdout, stderr = second.finish()
    assert (code, stdout) == (2, "")
    assert stderr.startswith(f"error: can't listen on {program.target}: Address already in use")
    assert stderr.count("\n") == 1
    with RetrievalClient(program.target, timeout=300) as client:
        texts = ["words that take the tokenizer a while " * 5_000] * 16  # one request
        thread, outcome = in_thread(lambda: client.embed(texts, "passage"))
        wait_until(lambda: "retrieval_requests_under_way 1.0" in read(f"http://{metrics}/metrics"))
        code, stdout, stderr = program.finish(signal.SIGTERM)
        thread.join(60)
        assert (code, stdout) == (0, "")
        assert outcome[0].shape == (16, DIM)
        assert "SIGTERM: draining" in stderr
        assert "Traceback" not in stderr
        with pytest.raises(ServiceUnavailable, match="no server answers"):
            client.server_info()


def test_the_program_stops_on_ctrl_c(index: Path) -> None:
    program = Program("--index", str(index), "--listen", "127.0.0.1:0")
    program.wait_ready()
    code, _, stderr = program.finish(signal.SIGINT)
    assert code == 0
    assert "Traceback" not in stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--index", "/nonexistent"], "error: /nonexistent is not an index"),
        (["--listen", "0.0.0.0:0"], "--insecure"),
        (["--listen", "here"], "HOST:PORT"),
        (["--index", "a=x", "--index", "a=y"], "two indexes for collection a"),
        (["--grace", "-1"], "--grace is -1.0"),
        (["--device", "gpu"], "Invalid value for '--device'"),
        (["--port", "1"], "No such option"),
    ],
)
def test_a_users_mistakes(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["serve", "--listen", "127.0.0.1:0", *arguments])
    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_one_bad_index_leaves_the_others_served(
    index: Path, other_index: Path, tmp_path: Path
) -> None:
    """And it is served as soon as it can be: by the watcher, or when it is told to."""
    for reload_seconds in (0.0, 0.05):
        broken = tmp_path / f"broken{reload_seconds}"
        shutil.copytree(other_index, broken)
        (vectors,) = broken.glob("vectors-*")
        hidden = vectors.rename(tmp_path / "hidden")
        indexes = {"default": index, "tea": broken}
        with (
            running(indexes, reload_seconds=reload_seconds) as server,
            RetrievalClient(server.target) as client,
        ):
            assert check_health(server.target, "collections/tea") == NOT_SERVING
            assert check_health(server.target, "collections/default") == SERVING
            assert check_health(server.target) == SERVING
            assert client.search("bread").passages
            assert [each.name for each in client.collections()] == ["collections/default"]
            client._connection.timeout = 1
            with pytest.raises(ServiceError, match="can't be opened") as caught:
                client.search("tea", collection="tea")
            assert caught.value.status == "UNAVAILABLE"
            if not reload_seconds:
                with pytest.raises(ServiceError, match="damaged"):
                    client.reload("tea")
            hidden.rename(vectors)
            client._connection.timeout = 30
            if not reload_seconds:
                client.reload("tea")
            wait_until(lambda: check_health(server.target, "collections/tea") == SERVING)
            assert client.search("tea", collection="tea").passages


def test_a_server_with_nothing_to_serve_does_not_start(tmp_path: Path) -> None:
    with (
        pytest.raises(NotAnIndex),
        running({"one": tmp_path / "one", "two": tmp_path / "two"}),
    ):
        pass
