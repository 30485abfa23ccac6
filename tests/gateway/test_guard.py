"""Who may ask a gateway, how much and how fast, and what every answer has."""

import json
import select
import socket
import ssl
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from retrieval.errors import InvalidArgument
from retrieval.gateway.config import GatewayConfig, HttpLimits, HttpTls
from retrieval.service.access.token_file import create_token
from tests.gateway.harness import Http, gateway
from tests.service.harness import RunningServer, running, wait_until

SEARCH = {"query": "harbour", "k": 1}


def test_every_answer_has_the_id_of_its_request(http: Http) -> None:
    assert http("GET", "/healthz", x_request_id="mine-1").headers["x-request-id"] == "mine-1"
    made = http("POST", "/v1/search", SEARCH).headers["x-request-id"]
    assert len(made) == 16
    for unusable in ("x" * 200, "\xe4"):
        assert len(http("GET", "/nothing", x_request_id=unusable).headers["x-request-id"]) == 16


def test_the_server_sees_id_and_trace(
    http: Http, server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Any]] = []
    observer = server.server._observer
    original = observer.request

    def request(method: str, metadata: Any, peer: str) -> Any:
        seen.append(dict(metadata))
        return original(method, metadata, peer)

    monkeypatch.setattr(observer, "request", request)
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    http("POST", "/v1/search", SEARCH, x_request_id="mine-2", traceparent=trace, cookie="a=b")
    assert seen[-1]["x-request-id"] == "mine-2"
    assert seen[-1]["traceparent"] == trace
    assert "cookie" not in seen[-1]


@pytest.fixture(scope="module")
def token_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokens") / "tokens.json"


@pytest.fixture(scope="module")
def tokens(token_file: Path) -> dict[str, str]:
    return {
        "all": create_token(token_file, "all"),
        "search": create_token(token_file, "search", scopes=("search",)),
        "tea": create_token(token_file, "tea", collections=("tea",)),
        "slow": create_token(token_file, "slow", rate=0.001),
    }


@pytest.fixture(scope="module")
def guarded_server(
    index: Path, other_index: Path, token_file: Path, tokens: dict[str, str]
) -> Iterator[RunningServer]:
    with running({"default": index, "tea": other_index}, token_file=token_file) as server:
        yield server


@pytest.fixture(scope="module")
def guarded(
    guarded_server: RunningServer, tokens: dict[str, str]
) -> Iterator[tuple[Http, dict[str, str]]]:
    """A gateway to a server with tokens, and the tokens."""
    with gateway(guarded_server.target) as http:
        yield http, tokens


def test_tokens_are_those_of_the_server(guarded: tuple[Http, dict[str, str]]) -> None:
    http, tokens = guarded

    def ask(token: str, method: str, path: str, body: object = None) -> Any:
        return http(method, path, body, authorization=f"Bearer {tokens[token]}")

    assert ask("all", "POST", "/v1/search", SEARCH).status == 200
    assert ask("search", "POST", "/v1/search", SEARCH).status == 200
    assert ask("search", "GET", "/v1/documents").problem == (403, "PERMISSION_DENIED")
    assert ask("tea", "GET", "/v1/documents?collection=tea").status == 200
    assert ask("tea", "POST", "/v1/search", SEARCH).problem == (403, "PERMISSION_DENIED")
    assert ask("tea", "POST", "/v1/search", {**SEARCH, "collection": "no"}).status == 403


def test_without_a_good_token_nothing_is_answered(guarded: tuple[Http, dict[str, str]]) -> None:
    http, tokens = guarded
    for headers in (
        {},
        {"authorization": "Bearer rt_nonsense"},
        {"authorization": tokens["all"]},
        {"authorization": "Bearer \xe4"},
    ):
        answered = http("POST", "/v1/search", SEARCH, **headers)
        assert answered.problem == (401, "UNAUTHENTICATED")
        assert answered.headers["www-authenticate"] == "Bearer"
    assert http("GET", "/healthz").status == http("GET", "/readyz").status == 200


def test_a_token_beyond_its_rate_is_told_when_to_come_back(
    guarded: tuple[Http, dict[str, str]],
) -> None:
    http, tokens = guarded
    answers = [
        http("POST", "/v1/search", SEARCH, authorization=f"Bearer {tokens['slow']}")
        for _ in range(3)
    ]
    refused = answers[-1]
    assert refused.problem == (429, "RATE_LIMITED")
    assert int(refused.headers["retry-after"]) >= 1


def test_ready_is_what_the_server_says(index: Path) -> None:
    with running({"default": index}) as server, gateway(server.target) as http:
        assert http("GET", "/readyz").json == {"status": "ok"}
        server.stop()
        unready = http("GET", "/readyz")
        assert (unready.status, unready.json) == (503, {"status": "unavailable"})
        assert http("GET", "/healthz").status == 200
        refused = http("POST", "/v1/search", SEARCH)
        assert refused.problem == (503, "UNAVAILABLE")
        assert refused.headers["retry-after"]
        assert "no server answers" in refused.json["detail"]


def test_a_time_limit_of_the_client(http: Http) -> None:
    body = {"searches": [{"query": f"harbour {number}"} for number in range(200)]}
    late = http("POST", "/v1/search/batch", body, x_request_timeout="0.002")
    assert late.problem[0] in (503, 504)
    for malformed in ("0", "-1", "soon", "nan", "inf"):
        assert http("POST", "/v1/search", SEARCH, x_request_timeout=malformed).problem == (
            400,
            "INVALID_ARGUMENT",
        )


def test_a_foreign_host_is_refused(http: Http) -> None:
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", ""):
        assert http("GET", "/healthz", host=host).problem == (421, "FOREIGN_HOST")
    for host in ("localhost", f"127.0.0.1:{http.port}", "LOCALHOST:1", "[::1]:8080"):
        assert http("GET", "/healthz", host=host).status == 200


def test_a_foreign_page_is_refused(http: Http) -> None:
    for origin in ("https://evil.example", "null", "http://localhost"):
        answered = http("POST", "/v1/search", SEARCH, origin=origin)
        assert answered.problem == (403, "FOREIGN_ORIGIN")
        assert "access-control-allow-origin" not in answered.headers
    own = f"http://127.0.0.1:{http.port}"
    assert http("POST", "/v1/search", SEARCH, origin=own).status == 200


def test_pages_of_allowed_origins_and_hosts_are_served(server: RunningServer) -> None:
    page = "https://app.example"
    with gateway(server.target, cors_origins=(page,), allowed_hosts=("search.example",)) as http:
        preflight = http(
            "OPTIONS",
            "/v1/search",
            origin=page,
            access_control_request_method="POST",
            access_control_request_headers="authorization,content-type",
        )
        assert preflight.status == 200
        assert preflight.headers["access-control-allow-origin"] == page
        found = http("POST", "/v1/search", SEARCH, origin=page, host="search.example")
        assert found.status == 200
        assert found.headers["access-control-allow-origin"] == page
        assert http("GET", "/healthz", origin="https://other.example").status == 403
        assert http("GET", "/healthz", host="other.example").status == 421


@pytest.mark.parametrize(
    "settings",
    [
        {"host": "0.0.0.0"},
        {"host": "::"},
        {"target": "search.example:50051"},
        {"cors_origins": ("*",)},
        {"cors_origins": ("https://a/b",)},
        {"allowed_hosts": ("",)},
        {"limits": {"body_bytes": 0}},
        {"limits": {"body_budget": 1}},
        {"limits": {"connections": 0}},
    ],
)
def test_settings_that_would_expose_something_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        if "limits" in settings:
            HttpLimits(**settings["limits"])
        else:
            GatewayConfig(**settings)
    if "limits" not in settings and "host" in settings:
        tls = HttpTls(Path("cert.pem"), Path("key.pem"))
        assert not GatewayConfig(**settings, tls=tls).is_loopback
        assert GatewayConfig(**settings, insecure=True)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[HttpTls, ssl.SSLContext]:
    """A certificate for this machine, and what a client needs to trust it."""
    folder, authority = tmp_path_factory.mktemp("tls"), trustme.CA()
    made = authority.issue_cert("localhost", "127.0.0.1")
    made.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    made.private_key_pem.write_to_path(str(folder / "key.pem"))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return HttpTls(folder / "cert.pem", folder / "key.pem"), context


def test_a_server_without_tokens_is_not_handed_to_others(
    server: RunningServer, tls: tuple[HttpTls, ssl.SSLContext]
) -> None:
    with (
        pytest.raises(InvalidArgument, match="asks for no token"),
        gateway(server.target, host="0.0.0.0", tls=tls[0]),
    ):
        pass


def test_others_may_ask_over_https_with_a_token(
    guarded: tuple[Http, dict[str, str]],
    guarded_server: RunningServer,
    tls: tuple[HttpTls, ssl.SSLContext],
) -> None:
    with gateway(guarded_server.target, host="0.0.0.0", tls=tls[0]) as http:
        url = f"https://127.0.0.1:{http.port}/v1/collections/tea"
        token = {"authorization": f"Bearer {guarded[1]['tea']}", "host": "any.example"}
        request = urllib.request.Request(url, headers=token)
        with urllib.request.urlopen(request, context=tls[1], timeout=30) as answer:
            assert json.load(answer)["name"] == "collections/tea"


def test_certificates_that_can_not_be_used_are_refused(
    server: RunningServer, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()
    for path in (empty, tmp_path / "nothing.pem"):
        with (
            pytest.raises(InvalidArgument, match="can't use the TLS files"),
            gateway(server.target, tls=HttpTls(path, path)),
        ):
            pass


@pytest.fixture(scope="module")
def strict(server: RunningServer) -> Any:
    """A gateway with small limits."""
    limits = HttpLimits(
        body_bytes=20_000,
        body_budget=30_000,
        connections=8,
        head_bytes=4096,
        hello_seconds=0.3,
        stall_seconds=0.3,
        idle_seconds=1,
    )
    with gateway(server.target, limits=limits) as http:
        yield http


def test_a_large_body_is_refused_before_it_is_read(strict: Http) -> None:
    with socket.create_connection(("127.0.0.1", strict.port), 10) as peer:
        peer.sendall(
            b"POST /v1/search HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999\r\n\r\n"
        )
        answer = read_all(peer)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"BODY_TOO_LARGE"' in answer


def test_a_body_without_a_length_is_counted(strict: Http) -> None:
    with socket.create_connection(("127.0.0.1", strict.port), 10) as peer:
        peer.sendall(
            b"POST /v1/search HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        peer.sendall((b"1000\r\n" + b" " * 0x1000 + b"\r\n") * 5)
        assert read_all(peer).startswith(b"HTTP/1.1 413 ")


def test_bodies_that_wait_count_against_one_budget(strict: Http) -> None:
    held = [socket.create_connection(("127.0.0.1", strict.port), 10) for _ in range(2)]
    head = b"POST /v1/search HTTP/1.1\r\nhost: localhost\r\ncontent-length: 18000\r\n\r\n"
    held[0].sendall(head + b" " * 17_000)
    held[1].sendall(head + b" " * 17_000)
    answers = [read_all(peer) for peer in held]
    for peer in held:
        peer.close()
    assert sorted(answer.split()[1] for answer in answers) == [b"408", b"503"]
    assert strict("POST", "/v1/search", SEARCH).status == 200


def test_a_slow_body_is_not_waited_for(strict: Http) -> None:
    with socket.create_connection(("127.0.0.1", strict.port), 10) as peer:
        peer.sendall(b"POST /v1/search HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n{")
        assert read_all(peer).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nhost: local"])
def test_a_silent_connection_is_closed(strict: Http, said: bytes) -> None:
    with socket.create_connection(("127.0.0.1", strict.port), 10) as peer:
        peer.sendall(said)
        assert read_all(peer) == b""


def test_an_idle_connection_is_closed(strict: Http) -> None:
    with socket.create_connection(("127.0.0.1", strict.port), 10) as peer:
        peer.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert read_all(peer).startswith(b"HTTP/1.1 200 ")


def test_headers_without_an_end_are_refused(strict: Http) -> None:
    with socket.create_connection(("127.0.0.1", strict.port), 10) as peer:
        peer.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\na: " + b"x" * 8000)
        assert read_all(peer).startswith(b"HTTP/1.1 431 ")


def test_connections_above_the_limit_are_closed(strict: Http) -> None:
    peers = [socket.create_connection(("127.0.0.1", strict.port), 10) for _ in range(12)]
    try:
        closed = [peer for peer in peers if read_all(peer, 0.2) == b"" and peer.fileno() >= 0]
        assert len(closed) >= 4
    finally:
        for peer in peers:
            peer.close()
    wait_until(lambda: strict("GET", "/healthz").status == 200)


def test_a_client_that_does_not_read_is_cut_off(
    strict: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrieval.gateway.protocol._BYTES_A_SECOND", 1 << 30)
    one = {"query": "harbour", "k": 40, "section_chars": 65_536, "context_before": 5}
    body = json.dumps({"searches": [one] * 120}).encode()
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.connect(("127.0.0.1", strict.port))
        head = b"POST /v1/search/batch HTTP/1.1\r\nhost: localhost\r\n"
        head += b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        peer.sendall(head + body)
        wait_until(lambda: is_cut_off(peer))


def test_a_client_that_goes_away_ends_its_request(
    http: Http, server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes: list[str] = []
    observer = server.server._observer
    original = observer.end

    def end(observed: Any, seconds: float) -> None:
        codes.append(observed.code)
        original(observed, seconds)

    monkeypatch.setattr(observer, "end", end)
    body = json.dumps(
        {"searches": [{"query": f"harbour number {number}"} for number in range(250)]}
    ).encode()
    with socket.create_connection(("127.0.0.1", http.port), 10) as peer:
        head = b"POST /v1/search/batch HTTP/1.1\r\nhost: localhost\r\n"
        head += b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        peer.sendall(head + body)
        wait_until(lambda: server.server._admission.under_way == 1)
    wait_until(lambda: bool(codes))
    assert codes == ["CANCELLED"]


def read_all(peer: socket.socket, seconds: float = 10) -> bytes:
    """Everything until the other side closes; an empty text if it does not in time."""
    peer.settimeout(seconds)
    received = b""
    try:
        while part := peer.recv(65_536):
            received += part
    except TimeoutError:
        return b"?"
    except ConnectionError:
        pass
    return received


def is_cut_off(peer: socket.socket) -> bool:
    """Whether the other side has hung up; what it has sent stays unread."""
    poll = select.poll()
    poll.register(peer, 0)  # errors are always reported
    return bool(poll.poll(0))
