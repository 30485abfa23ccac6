"""Bytes that peers send, or don't take: what they cost the server, and for how long."""

import asyncio
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from retrieval.client import RetrievalClient
from retrieval.errors import InvalidArgument, RateLimited, ServiceError, ServiceUnavailable
from retrieval.service.access.callers import Access
from retrieval.service.access.token_file import create_token
from retrieval.service.config import Address, Limits, ServiceConfig
from retrieval.service.limits.hang_up import Peers
from retrieval.service.limits.memory import Trimmer, trim_memory
from retrieval.v1 import search_service_pb2 as pb
from tests.service.harness import Program, RunningServer, running, wait_until
from tests.service.raw_http2 import RawConnection

MIB = 1 << 20
SEARCH = "/retrieval.v1.SearchService/Search"
METHODS = (
    SEARCH,
    "/retrieval.v1.SearchService/BatchSearch",
    "/retrieval.v1.SearchService/StreamSearch",
    "/retrieval.v1.EmbeddingService/BatchEmbed",
    "/retrieval.v1.IndexService/GetServerInfo",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
)
BUDGET = 96 * MIB
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for its numbers")


def announced(size: int, sent: int) -> bytes:
    """The first bytes of a message that is said to have ``size``."""
    return b"\0" + struct.pack(">I", size) + b"x" * sent


def resident(process: int) -> int:
    """Bytes of a process that are in memory."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class Peak:
    """The most memory that a process has while a block runs."""

    def __init__(self, process: int) -> None:
        self._process = process
        self.bytes = 0

    def __enter__(self) -> "Peak":
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.005):
            self.bytes = max(self.bytes, resident(self._process))


@pytest.fixture(scope="module")
def token_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokens") / "tokens.json"


@pytest.fixture(scope="module")
def token(token_file: Path) -> str:
    return create_token(token_file, "all")


@pytest.fixture(scope="module")
def program(index: Path, token_file: Path, token: str) -> Iterator[Program]:
    made = Program(
        "--index", str(index), "--listen", "127.0.0.1:0", "--token-file", str(token_file),
        "--max-message-bytes", str(32 * MIB), "--message-budget", str(BUDGET),
        "--stall-timeout", "20", "--log-level", "warning",
    )  # fmt: skip
    made.wait_ready()
    with RetrievalClient(made.target, token=token) as client:
        client.search("bread")
    yield made
    made.finish(signal.SIGTERM)


@pytest.fixture(scope="module")
def strict(index: Path) -> Iterator[RunningServer]:
    """Gives nobody much time, and has room for few."""
    limits = Limits(stall_seconds=1.0, concurrent_requests=8, connections=12)
    with running({"default": index}, limits=limits) as server:
        yield server


def flood(target: str, connections: int, size: int, token: str, method: str = SEARCH) -> list[int]:
    """Send all but the last byte of a message on each connection; returns what each took."""
    message = announced(size, size - 1)

    def attack(_number: int) -> int:
        with closing(RawConnection(target)) as connection:
            stream = connection.begin(method, token=token)
            sent = connection.send(stream, message, seconds=6)
            connection.wait(stream, 6)
            return sent

    with ThreadPoolExecutor(connections) as pool:
        return list(pool.map(attack, range(connections)))


@linux_only
def test_strangers_take_no_memory(program: Program) -> None:
    process = program.process.pid
    before = resident(process)
    with Peak(process) as peak:
        sent = flood(program.target, 24, 30 * MIB, "")
    assert peak.bytes - before < 50 * MIB
    # They are refused on their headers; what gRPC's first window takes may be on its way by then.
    assert max(sent) < 8 * MIB


@linux_only
def test_strangers_that_ask_for_health_take_little(program: Program) -> None:
    process = program.process.pid
    before = resident(process)
    with Peak(process) as peak:
        sent = flood(program.target, 24, 30 * MIB, "", "/grpc.health.v1.Health/Check")
    assert peak.bytes - before < 64 * MIB
    assert max(sent) < 30 * MIB


@linux_only
def test_messages_under_way_stay_within_the_budget_and_their_memory_comes_back(
    program: Program, token: str
) -> None:
    process = program.process.pid
    before = resident(process)
    with Peak(process) as peak:
        flood(program.target, 12, 30 * MIB, token)
    assert peak.bytes - before < BUDGET
    wait_until(lambda: resident(process) - before < 48 * MIB)
    with RetrievalClient(program.target, token=token) as client:
        assert client.search("bread").passages


@pytest.mark.parametrize("method", METHODS)
def test_every_method_refuses_on_the_headers(program: Program, method: str) -> None:
    with closing(RawConnection(program.target)) as connection:
        stream = connection.begin(method)
        assert connection.wait(stream, 60) < 15, "it is not waited for the message"


def test_who_says_nothing_is_dropped(strict: RunningServer) -> None:
    with closing(RawConnection(strict.target)) as connection:
        silent = connection.begin(SEARCH)
        stalled = connection.begin(SEARCH)
        connection.send(stalled, announced(5000, 100))
        assert 0.8 < connection.wait(silent, 60) < 60
        assert connection.wait(stalled, 60) < 60
        assert not connection.closed, "its other requests go on"
    wait_until(lambda: strict.server._admission.under_way == 0)


def test_requests_without_messages_leave_room_for_others(strict: RunningServer) -> None:
    """Of eight requests at once, two may be waiting for their messages for long."""
    with closing(RawConnection(strict.target)) as connection:
        streams = [connection.begin(SEARCH) for _ in range(6)]
        time.sleep(0.3)
        with RetrievalClient(strict.target) as client:
            assert client.search("bread").passages
        assert sum(connection.wait(stream, 60) < 60 for stream in streams) == 6


def test_a_slow_but_steady_message_is_waited_for(strict: RunningServer) -> None:
    message = pb.SearchRequest(text="bread").SerializeToString()
    data = b"\0" + struct.pack(">I", len(message)) + message
    with closing(RawConnection(strict.target)) as connection:
        stream = connection.begin(SEARCH)
        for part in (data[:3], data[3:-1]):
            connection.send(stream, part)
            time.sleep(0.2)
        connection.send(stream, data[-1:], end=True)
        assert connection.wait(stream, 60) < 60
    wait_until(lambda: strict.server._transfers.held == 0)


def test_no_message_at_all_is_a_mistake(server: RunningServer) -> None:
    with grpc.insecure_channel(server.target) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.stream_unary(SEARCH)(iter(()), timeout=60)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_health_takes_small_messages_only(strict: RunningServer) -> None:
    with grpc.insecure_channel(strict.target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        assert stub.Check(health_pb2.HealthCheckRequest(), timeout=60).status == 1
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(health_pb2.HealthCheckRequest(service="x" * 5000), timeout=60)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    with closing(RawConnection(strict.target)) as connection:
        stream = connection.begin("/grpc.health.v1.Health/Check")
        assert connection.wait(stream, 60) < 60


def test_watches_are_counted(strict: RunningServer) -> None:
    with grpc.insecure_channel(strict.target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watches = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(8)]
        assert all(next(watch).status == 1 for watch in watches)
        with pytest.raises(grpc.RpcError) as caught:
            next(stub.Watch(health_pb2.HealthCheckRequest(), timeout=60))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        with RetrievalClient(strict.target) as client:
            assert client.search("bread").passages, "they take nobody's place"
        for watch in watches:
            watch.cancel()
        wait_until(lambda: next(stub.Watch(health_pb2.HealthCheckRequest())).status == 1)


@pytest.mark.parametrize("method", [SEARCH, "/retrieval.v1.SearchService/StreamSearch"])
@linux_only
def test_who_does_not_take_an_answer_is_hung_up_on(strict: RunningServer, method: str) -> None:
    kind = pb.SearchRequest if method == SEARCH else pb.StreamSearchRequest
    message = kind(collection="collections/default", text="bread").SerializeToString()
    with closing(RawConnection(strict.target, answer_window=10)) as connection:
        stream = connection.begin(method)
        connection.send(stream, b"\0" + struct.pack(">I", len(message)) + message, end=True)
        connection.wait(stream, 60)
        assert connection.closed
    wait_until(lambda: strict.server._admission.under_way == 0)
    wait_until(lambda: strict.server._transfers.held == 0)


@linux_only
def test_connections_are_counted(strict: RunningServer) -> None:
    held = [RawConnection(strict.target) for _ in range(12)]
    for connection in held:
        connection.listen(1)
    with pytest.raises(ServiceUnavailable), RetrievalClient(strict.target, timeout=30) as client:
        client.search("bread")
    for connection in held:
        connection.close()

    def is_let_in() -> bool:
        try:
            with RetrievalClient(strict.target, timeout=30) as client:
                return bool(client.search("bread").passages)
        except ServiceUnavailable:
            return False

    wait_until(is_let_in)


def test_a_batch_counts_as_its_searches(index: Path, tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    given = create_token(path, "ten", rate=10)
    with (
        running({"default": index}, token_file=path) as server,
        RetrievalClient(server.target, token=given) as client,
    ):
        assert len(client.search_batch(["bread"] * 25, k=1)) == 25
        with pytest.raises(ServiceError, match="try again in [01]") as caught:
            client.search("bread")
        assert caught.value.service_reason == "RATE_LIMITED"


def test_a_batch_of_texts_counts_as_its_texts(tmp_path: Path) -> None:
    path, now = tmp_path / "tokens.json", [0.0]
    given = create_token(path, "two", rate=2)
    access = Access(path, clock=lambda: now[0])
    headers = [("authorization", f"Bearer {given}")]
    access.identify(headers).charge(7)
    with pytest.raises(RateLimited):
        access.identify(headers)
    now[0] = 2.9
    with pytest.raises(RateLimited):
        access.identify(headers)
    now[0] = 3.1
    access.identify(headers).charge(1)


@linux_only
@pytest.mark.parametrize(("family", "host"), [("AF_INET", "127.0.0.1"), ("AF_INET6", "::1")])
def test_connections_are_found_by_grpcs_names(family: str, host: str) -> None:
    kind = getattr(socket, family)
    with socket.socket(kind) as listener:
        try:
            listener.bind((host, 0))
        except OSError:
            pytest.skip("there is no such address here")
        listener.listen()
        with socket.socket(kind) as client:
            client.connect(listener.getsockname())
            accepted, address = listener.accept()
            with accepted:
                name = f"ipv4:{host}" if kind is socket.AF_INET else f"ipv6:%5B{host}%5D"
                peer = f"{name}:{address[1]}"
                peers = Peers()
                assert peers.received(peer) == 0
                client.sendall(b"x" * 1000)
                wait_until(lambda: peers.received(peer) == 1000)
                assert peers.received("ipv4:127.0.0.1:1") is None
                peers.hang_up(peer)
                assert client.recv(10) == b""


@linux_only
def test_memory_is_trimmed_a_moment_after_large_messages() -> None:
    trims = []

    async def free() -> None:
        trimmer = Trimmer(lambda: trims.append(1))
        for _ in range(40):
            trimmer.freed(MIB)
        assert not trims
        await asyncio.sleep(1.3)
        trimmer.close()

    asyncio.run(free())
    assert len(trims) == 1
    trim_memory()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"concurrent_requests": 0}, "--max-requests is 0"),
        ({"connections": -1}, "--max-connections is -1"),
        ({"message_bytes": 2**40}, "at most"),
        ({"message_budget": 100}, "at least twice"),
        ({"stall_seconds": float("nan")}, "--stall-timeout is nan"),
        ({"batch_size": 0}, "--max-batch is 0"),
    ],
)
def test_limits_that_nothing_is_within(wrong: dict[str, float], says: str) -> None:
    with pytest.raises(InvalidArgument, match=says):
        Limits(**wrong)  # type: ignore[arg-type]


def test_metrics_are_opened_without_opening_the_rest(index: Path) -> None:
    everywhere = Address("0.0.0.0", 1)
    with pytest.raises(InvalidArgument, match="--metrics-insecure"):
        ServiceConfig({"default": index}, metrics=everywhere)
    ServiceConfig({"default": index}, metrics=everywhere, metrics_insecure=True)
    with pytest.raises(InvalidArgument, match="--insecure"):
        ServiceConfig(
            {"default": index}, listen=everywhere, metrics=everywhere, metrics_insecure=True
        )
