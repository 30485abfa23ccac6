"""A server that can't be reached as it was tried: what the client says, and which exit code."""

import http.server
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import hpack
import pytest
import trustme

from retrieval.client import RetrievalClient, Tls
from retrieval.client.errors import diagnose
from retrieval.client.target import check_target
from retrieval.errors import InvalidArgument, ServiceUnavailable
from retrieval.service.config import TlsFiles
from tests.service.harness import RunningServer, running


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two authorities; certificates of the first for us, another host, a client, the past."""
    folder = tmp_path_factory.mktemp("pem")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    other = trustme.CA()
    other.cert_pem.write_to_path(str(folder / "other-ca.pem"))
    past = datetime.now(UTC) - timedelta(days=1)
    issued = {
        "server": authority.issue_cert("127.0.0.1"),
        "elsewhere": authority.issue_cert("search.example.org"),
        "expired": authority.issue_cert("127.0.0.1", not_after=past),
        "client": authority.issue_cert("me@example.org"),
        "stranger": other.issue_cert("me@example.org"),
    }
    for name, certificate in issued.items():
        certificate.private_key_pem.write_to_path(str(folder / f"{name}.key"))
        certificate.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
    return folder


@contextmanager
def serving(index: Path, pem: Path, name: str, ca: Path | None = None) -> Iterator[str]:
    files = TlsFiles(pem / f"{name}.pem", pem / f"{name}.key", ca)
    with running({"default": index}, tls=files) as server:
        yield server.target


def reason(target: str, tls: Tls | None = None, *, exit_code: int = 2) -> str:
    """The message of a request that must fail."""
    with (
        RetrievalClient(target, tls=tls, timeout=60) as client,
        pytest.raises(ServiceUnavailable) as caught,
    ):
        client.server_info()
    assert caught.value.exit_code == exit_code
    assert target in caught.value.message
    return caught.value.message


def test_tls_on_one_side_only(server: RunningServer, index: Path, pem: Path) -> None:
    assert "does not speak TLS: leave out --tls" in reason(server.target, Tls(pem / "ca.pem"))
    assert "does not speak TLS" in reason(server.target, Tls())
    with serving(index, pem, "server") as target:
        assert "connect with TLS (--tls or --ca FILE" in reason(target)


def test_certificates_that_do_not_fit(index: Path, pem: Path) -> None:
    with serving(index, pem, "server") as target:
        for tls in (Tls(), Tls(pem / "other-ca.pem")):
            message = reason(target, tls)
            assert "is not trusted (unable to get local issuer certificate)" in message
            assert "with --ca FILE" in message
        with RetrievalClient(target, tls=Tls(pem / "ca.pem")) as client:
            assert client.server_info().version
    with serving(index, pem, "elsewhere") as target:
        assert "is for another host" in reason(target, Tls(pem / "ca.pem"))
    with serving(index, pem, "expired") as target:
        assert "is not trusted (certificate has expired)" in reason(target, Tls(pem / "ca.pem"))


def test_a_certificate_of_the_client(index: Path, pem: Path) -> None:
    ca = pem / "ca.pem"
    with serving(index, pem, "server", ca) as target:
        assert "give --cert and --key" in reason(target, Tls(ca))
        stranger = Tls(ca, pem / "stranger.pem", pem / "stranger.key")
        assert "may not trust the certificate of --cert" in reason(target, stranger)


def test_files_that_can_not_be_used(pem: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.pem"
    text.write_text("no certificate")
    wrong: list[tuple[Tls, str]] = [
        (Tls(text), "text.pem: NO_CERTIFICATE_OR_CRL_FOUND"),
        (Tls(None, pem / "client.pem", pem / "server.key"), "KEY_VALUES_MISMATCH"),
        (Tls(None, pem / "client.pem"), "go together"),
        (Tls(tmp_path), "Is a directory"),
        (Tls(tmp_path / "none.pem"), "none.pem: No such file"),
    ]
    for tls, message in wrong:
        with pytest.raises(InvalidArgument, match=message):
            RetrievalClient("127.0.0.1:1", tls=tls)


class WebServer(http.server.BaseHTTPRequestHandler):
    """Answers every request, CONNECT of a proxy too, with 502."""

    protocol_version = "HTTP/1.1"

    def do_CONNECT(self) -> None:
        self.send_error(502)

    do_GET = do_CONNECT

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def web_server() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), WebServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_web_server(web_server: str) -> None:
    assert "is not a gRPC server" in reason(web_server)
    assert "does not speak TLS" in reason(web_server, Tls())


def test_a_proxy_of_the_environment(web_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://{web_server}")
    for name in ("grpc_proxy", "https_proxy", "no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    message = reason("search.invalid:50051")
    assert "the proxy in http_proxy refused to connect" in message
    assert "(HTTP status 502)" in message
    assert "add its host to no_proxy" in message


def answer_502(listener: socket.socket) -> None:
    """Speak HTTP/2 to one client, and answer every request as a proxy does that is alone."""

    def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
        return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload

    headers = hpack.Encoder().encode([(":status", "502"), ("content-type", "text/html")])
    while True:
        try:
            peer, _ = listener.accept()
        except OSError:
            return
        with peer:
            peer.recv(24, socket.MSG_WAITALL)
            peer.sendall(frame(4, 0, 0))
            while len(head := peer.recv(9, socket.MSG_WAITALL)) == 9:
                size, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
                payload = peer.recv(size, socket.MSG_WAITALL) if size else b""
                if kind in (4, 6) and not flags & 1:  # settings and pings are acknowledged
                    peer.sendall(frame(kind, 1, 0, payload if kind == 6 else b""))
                if kind == 1:
                    stream = int.from_bytes(head[5:9], "big")
                    peer.sendall(frame(1, 4, stream, headers) + frame(0, 1, stream, b"<html>"))


def test_a_proxy_in_front_of_the_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer_502, args=(listener,), daemon=True).start()
        message = reason(f"127.0.0.1:{listener.getsockname()[1]}", exit_code=1)
        assert "answered with HTTP status 502" in message
        listener.shutdown(socket.SHUT_RDWR)


def test_a_host_that_does_not_exist() -> None:
    assert "can't find the host of nosuch.invalid:50051" in reason(
        "nosuch.invalid:50051", exit_code=1
    )


def test_no_server_at_all() -> None:
    assert reason("127.0.0.1:1", exit_code=1).startswith("no server answers at 127.0.0.1:1; start")
    assert "No such file or directory" in reason("unix:/nowhere/sock", exit_code=1)


def test_a_server_that_goes_down_is_not_taken_for_one_with_tls() -> None:
    for details in ("Socket closed", "recvmsg:Connection reset by peer", ""):
        assert diagnose(details, "a:1", encrypted=False, has_certificate=False) is None


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("localhost", "it has no port; give HOST:PORT, such as 'localhost:50051'"),
        ("[::1]", r"it has no port; give HOST:PORT, such as '\[::1\]:50051'"),
        ("127.0.0.1:", "the port must be a number from 1 to 65535, not ''"),
        ("127.0.0.1:abc", "the port must be a number from 1 to 65535, not 'abc'"),
        ("127.0.0.1:99999", "not '99999'"),
        ("127.0.0.1:0", "not '0'"),
        ("127.0.0.1:-1", "not '-1'"),
        ("127.0.0.1:٥٠٠٥١", "not '٥٠٠٥١'"),
        (":50051", "it has no host; give HOST:PORT, such as '127.0.0.1:50051'"),
        ("::1:50051", r"put an IPv6 address in brackets"),
        ("http://127.0.0.1:50051", "give '127.0.0.1:50051'$"),
        ("HTTP://127.0.0.1", "give '127.0.0.1:50051'$"),
        ("https://search.example.org/x", "give 'search.example.org:50051'; connect with TLS"),
        ("grpc://127.0.0.1:50051", "give '127.0.0.1:50051'$"),
        ("127.0.0.1:50051/search", "give HOST:PORT and nothing else"),
        ("me@127.0.0.1:50051", "give HOST:PORT and nothing else"),
        (" 127.0.0.1:50051", "give HOST:PORT and nothing else"),
        ("127.0.0.1:50051\n", "give HOST:PORT and nothing else"),
        ("", "no target: give the server's HOST:PORT"),
        ("  ", "no target"),
        (None, "no target"),
        (50051, "target is of type int"),
        (("localhost", 50051), "target is of type tuple"),
    ],
)
def test_what_is_no_address(target: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        RetrievalClient(target)


@pytest.mark.parametrize(
    "target",
    [
        *("127.0.0.1:50051", "localhost:1", "[::1]:65535", "search.example.org:443", "host_1:80"),
        *("dns:///localhost:50051", "ipv4:127.0.0.1:50051", "unix:/tmp/socket", "dns:localhost:1"),
    ],
)
def test_addresses(target: str) -> None:
    check_target(target)


@pytest.mark.parametrize("role", ["client", "server"])
def test_grpcs_own_lines_stay_off_the_terminal(
    role: str, server: RunningServer, index: Path, pem: Path
) -> None:
    """A real handshake that fails; with GRPC_VERBOSITY, a line of gRPC's shows that it would."""
    environment = {name: value for name, value in os.environ.items() if "GRPC_V" not in name}

    def printed(**extra: str) -> str:
        command = [sys.executable, "-c", _HANDSHAKE, role, server.target, str(pem)]
        done = subprocess.run(
            command,
            env={**environment, **extra},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return done.stderr

    assert printed() == ""
    assert "Handshake failed" in printed(GRPC_VERBOSITY="INFO", GLOG_minloglevel="0")


_HANDSHAKE = """
import sys
from pathlib import Path
role, target, pem = sys.argv[1], sys.argv[2], Path(sys.argv[3])
if role == "client":
    from retrieval.client import RetrievalClient, Tls
    from retrieval.errors import ServiceUnavailable
    with RetrievalClient(target, tls=Tls(pem / "ca.pem"), timeout=30) as client:
        try:
            client.server_info()
        except ServiceUnavailable:
            pass
else:
    from retrieval.service.config import TlsFiles
    from retrieval.service.grpc_api.tls import Certificates
    import asyncio, grpc, socket
    async def main():
        server = grpc.aio.server()
        files = TlsFiles(pem / "server.pem", pem / "server.key")
        port = server.add_secure_port("127.0.0.1:0", Certificates(files).credentials())
        await server.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n")
        await reader.read()
        writer.close()
        await server.stop(None)
    asyncio.run(main())
"""
