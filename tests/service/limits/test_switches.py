"""What reaches below gRPC and Python, turned on and off."""

import asyncio
import socket
import struct
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from retrieval.client import RetrievalClient
from retrieval.errors import InvalidArgument
from retrieval.service.config import Address, Limits, ServiceConfig
from retrieval.service.limits import memory
from retrieval.service.limits.hang_up import Peers, hang_up
from retrieval.service.limits.memory import Trimmer
from retrieval.service.limits.switches import VARIABLE, is_on
from retrieval.service.server import RetrievalServer
from tests.service.harness import running, wait_until
from tests.service.raw_http2 import RawConnection

ON, OFF = "", "hang-up"
MESSAGE_BYTES = 256 << 10
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for its numbers")


def test_switches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for value, hangs_up, trims in (
        ("", True, True),
        ("hang-up", False, True),
        (" trim ,", True, False),
        ("trim,hang-up", False, False),
        ("all", False, False),
    ):
        monkeypatch.setenv(VARIABLE, value)
        assert (is_on("hang-up"), is_on("trim")) == (hangs_up, trims)
    monkeypatch.setenv(VARIABLE, "trim,everything")
    config = ServiceConfig({"default": tmp_path}, Address("127.0.0.1", 0))

    async def start() -> None:
        RetrievalServer(config)

    with pytest.raises(InvalidArgument, match="names everything; it may name hang-up, trim, all"):
        asyncio.run(start())


@linux_only
@pytest.mark.parametrize("off", [ON, OFF])
def test_connections_by_file_descriptor(off: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, off)
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
        server.accept()[0] as accepted,
    ):
        peer, peers = f"ipv4:127.0.0.1:{client.getsockname()[1]}", Peers()
        assert peers.received(peer) == (None if off else 0)
        if off:
            peers.hang_up(peer)
        hang_up(server.getsockname()[1])
        client.settimeout(5)
        if off:
            accepted.sendall(b"still there")
            assert client.recv(100) == b"still there"
            socket.create_connection(server.getsockname()).close()
        else:
            assert client.recv(100) == b""
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(server.getsockname())


@linux_only
@pytest.mark.parametrize("off", [ON, OFF])
def test_a_server_bounds_messages_and_drains_either_way(
    off: str, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, off)
    limits = Limits(
        message_bytes=MESSAGE_BYTES, message_budget=4 * MESSAGE_BYTES, stall_seconds=2.0
    )
    with (
        running({"default": index}, limits=limits, grace_seconds=0.5) as server,
        RetrievalClient(server.target) as client,
        closing(RawConnection(server.target)) as connection,
    ):
        assert client.search("bread").passages
        transfers = server.server._transfers
        stream = connection.begin("/retrieval.v1.SearchService/Search")
        connection.send(stream, b"\0" + struct.pack(">I", 50_000) + b"x" * 20_000)
        # What can't be seen counts as much as it may be; each message counts twice.
        if off:
            wait_until(lambda: transfers.held == 2 * MESSAGE_BYTES)
        else:
            wait_until(lambda: 0 < transfers.held < 100_000)
        assert client.search("violin").passages
        assert connection.wait(stream, 10) < 10, "a message that stalls is given up"
        wait_until(lambda: transfers.held == 0)
        stream = connection.begin("/retrieval.v1.SearchService/Search")
        wait_until(lambda: server.server._admission.under_way == 1)
        server.stop()


@linux_only
@pytest.mark.parametrize("off", ["", "trim"])
def test_memory_is_trimmed_unless_turned_off(off: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, off)
    trimmed = threading.Event()
    monkeypatch.setattr(memory, "trim_memory", trimmed.set)
    monkeypatch.setattr(memory, "_PAUSE_SECONDS", 0.01)

    async def free() -> None:
        trimmer = Trimmer()
        trimmer.freed(1 << 30)
        await asyncio.sleep(0.2)
        trimmer.close()

    asyncio.run(free())
    assert trimmed.is_set() != bool(off)
