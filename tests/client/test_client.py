"""The client against servers that are not there, not ready, or not ours."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from retrieval.client import AsyncRetrievalClient, RetrievalClient
from retrieval.errors import InvalidArgument, ServiceError, ServiceUnavailable
from retrieval.service.config import Address, ServiceConfig
from retrieval.v1 import index_service_pb2 as pb
from tests.service.harness import RunningServer, free_port, wait_until

Behaviour = Callable[[pb.GetServerInfoRequest, grpc.ServicerContext], pb.GetServerInfoResponse]


@contextmanager
def stranger(behaviour: Behaviour) -> Iterator[str]:
    """A server with ``GetServerInfo`` alone; yields its address."""
    server = grpc.server(ThreadPoolExecutor(2))
    handler = grpc.unary_unary_rpc_method_handler(
        behaviour,
        pb.GetServerInfoRequest.FromString,
        pb.GetServerInfoResponse.SerializeToString,
    )
    service = {"GetServerInfo": handler}
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("retrieval.v1.IndexService", service),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def aborts(code: grpc.StatusCode, details: str) -> Behaviour:
    def behaviour(_: pb.GetServerInfoRequest, context: grpc.ServicerContext) -> Any:
        context.abort(code, details)

    return behaviour


def test_no_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        target = f"127.0.0.1:{free.getsockname()[1]}"
    started = time.monotonic()
    with (
        RetrievalClient(target) as client,
        pytest.raises(ServiceUnavailable, match="start one with `retrieval serve") as caught,
    ):
        client.search("anything")
    assert target in caught.value.message
    assert caught.value.status == "UNAVAILABLE"
    assert time.monotonic() - started < 25


def test_a_server_that_answers_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = f"127.0.0.1:{silent.getsockname()[1]}"
        with (
            RetrievalClient(target, timeout=0.3) as client,
            pytest.raises(ServiceError, match="no answer from") as caught,
        ):
            client.search("anything")
    assert caught.value.status == "DEADLINE_EXCEEDED"


def test_only_unavailable_is_tried_again() -> None:
    calls: list[grpc.StatusCode] = []

    def fails_twice(code: grpc.StatusCode) -> Behaviour:
        def behaviour(_: Any, context: grpc.ServicerContext) -> pb.GetServerInfoResponse:
            calls.append(code)
            if len(calls) < 3:
                context.abort(code, "not now")
            return pb.GetServerInfoResponse(server_info=pb.ServerInfo(version="7"))

        return behaviour

    unavailable = fails_twice(grpc.StatusCode.UNAVAILABLE)
    with stranger(unavailable) as target, RetrievalClient(target) as client:
        assert client.server_info().version == "7"
    assert len(calls) == 3
    calls.clear()
    with (
        stranger(fails_twice(grpc.StatusCode.INTERNAL)) as target,
        RetrievalClient(target) as client,
        pytest.raises(ServiceError, match="answered INTERNAL: not now"),
    ):
        client.server_info()
    assert len(calls) == 1


def test_another_kind_of_server() -> None:
    with (
        stranger(aborts(grpc.StatusCode.INTERNAL, "")) as target,
        RetrievalClient(target) as client,
        pytest.raises(ServiceError, match="another kind of server, or older") as caught,
    ):
        client.collection()
    assert caught.value.status == "UNIMPLEMENTED"
    assert caught.value.service_reason == ""


def test_reason_and_metadata_come_through() -> None:
    info = error_details_pb2.ErrorInfo(
        reason="OUT_OF_INK", metadata={"status": "x", "message": "y", "self": "z"}
    )

    def behaviour(_: Any, context: grpc.ServicerContext) -> Any:
        status = status_pb2.Status(code=code_pb2.ABORTED, message="no ink")
        status.details.add().Pack(info)
        context.abort_with_status(rpc_status.to_status(status))

    with (
        stranger(behaviour) as target,
        RetrievalClient(target) as client,
        pytest.raises(ServiceError, match="no ink") as caught,
    ):
        client.server_info()
    assert (caught.value.status, caught.value.service_reason) == ("ABORTED", "OUT_OF_INK")
    assert caught.value.metadata == {"status": "x", "message": "y", "self": "z"}


def test_details_that_are_garbage() -> None:
    def behaviour(_: Any, context: grpc.ServicerContext) -> Any:
        context.set_trailing_metadata((("grpc-status-details-bin", b"\xff\xff"),))
        context.abort(grpc.StatusCode.ABORTED, "strange")

    with (
        stranger(behaviour) as target,
        RetrievalClient(target) as client,
        pytest.raises(ServiceError, match="answered ABORTED: strange"),
    ):
        client.server_info()


def test_what_a_client_is_made_of() -> None:
    with pytest.raises(InvalidArgument, match="target"):
        RetrievalClient("")
    for timeout in (0.0, -1.0, float("nan")):
        with pytest.raises(InvalidArgument, match="timeout"):
            RetrievalClient(timeout=timeout)


@pytest.mark.parametrize("kind", ["search", "stream", "async stream"])
def test_clients_ride_out_restarts(index: Path, kind: str) -> None:
    """Also a guard against gRPC: with its own retries, streams wait for ever on a restart."""
    address = Address("127.0.0.1", free_port())
    config = ServiceConfig({"default": index}, address, device="cpu", reload_seconds=0)
    outcomes: list[str] = []
    begun = [0.0] * 4
    stopping = threading.Event()

    async def read_stream(text: str) -> None:
        async with AsyncRetrievalClient(str(address), timeout=30) as client:
            stream = await client.stream_search(text, limit=20)
            assert len([passage async for passage in stream]) == 20

    def work(number: int) -> None:
        with RetrievalClient(str(address), timeout=30) as client:
            while not stopping.is_set():
                begun[number] = time.monotonic()
                try:
                    text = f"{number} at {begun[number]}"
                    if kind == "search":
                        assert client.search(text)
                    elif kind == "stream":
                        assert len(list(client.stream_search(text, limit=20))) == 20
                    else:
                        asyncio.run(read_stream(text))
                    outcomes.append("OK")
                except ServiceError as error:
                    outcomes.append(error.status)

    server = RunningServer(config)
    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        answered = outcomes.count("OK")
        wait_until(lambda before=answered: outcomes.count("OK") > before + 4)
        server.stop()
        time.sleep(0.2)
        server = RunningServer(config)
    stopping.set()
    for thread in threads:
        thread.join(60)
    server.stop()
    assert not any(thread.is_alive() for thread in threads), time.monotonic() - min(begun)
    assert set(outcomes) <= {"OK", "UNAVAILABLE"}
