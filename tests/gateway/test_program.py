"""`retrieval gateway` as a user starts and stops it."""

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from retrieval.commands.cli import main
from tests.commands.forking import Forked
from tests.gateway.harness import Http
from tests.service.harness import Program, RunningServer, free_port, wait_until

COMMAND = [sys.executable, "-m", "retrieval", "gateway"]


@contextmanager
def program(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    process = Forked(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=30)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_listens_and_stops_when_told(
    server: RunningServer, sent: signal.Signals
) -> None:
    with program("--target", server.target, "--listen", "127.0.0.1:0") as process:
        assert process.stdout is not None
        ready = process.stdout.readline()
        match = re.fullmatch(
            rf"listening on http://127.0.0.1:(\d+) · server {server.target}\n", ready
        )
        assert match, (ready, process.communicate())
        assert Http(int(match[1]))("GET", "/readyz").status == 200
        process.send_signal(sent)
        assert process.communicate(timeout=60) == ("", "")
        assert process.returncode == 0


def test_an_address_in_use_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        done = subprocess.run(
            [*COMMAND, "--listen", listen], capture_output=True, text=True, check=False
        )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: can't listen on {listen} (Address already in use)")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--listen", "0.0.0.0:8080"], "nothing is encrypted: give --tls-cert and --tls-key"),
        (
            ["--target", "a.example:1"],
            "would travel to a.example:1 unencrypted: give --tls or --ca",
        ),
        (["--target", "nowhere"], "it has no port"),
        (["--listen", "nowhere"], "is not an address to listen on"),
        (["--tls-cert", "cert.pem"], "--tls-cert and --tls-key go together"),
        (["--cors-origin", "*"], "give scheme and host"),
        (["--max-body-bytes", "0"], "it must be at least 1"),
        (["--timeout", "0"], "timeout is 0"),
        (["--grace", "-1"], "--grace is -1"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gateway", *arguments]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_without_the_extra_it_says_what_to_install() -> None:
    code = (
        "import sys, importlib.util\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name: None if name == 'uvicorn' else find(name)\n"
        "from retrieval.commands.cli import main\n"
        "sys.exit(main(['gateway']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == ("error: a gateway needs uvicorn: pip install 'gte-retrieval[gateway]'\n")


def test_it_loads_no_model_and_no_index() -> None:
    code = (
        "import sys, retrieval.commands.cli, retrieval.service.config, retrieval.gateway.server\n"
        "print({'torch', 'faiss', 'tantivy', 'tokenizers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def serve(index: Path, *arguments: str, port: int = 0) -> tuple[Program, int]:
    """A server with HTTP beside it, and the port of that."""
    http = f"127.0.0.1:{port}"
    started = Program(
        *("--index", str(index), "--listen", "127.0.0.1:0", "--http", http, *arguments)
    )
    assert started.process.stdout is not None
    ready = started.process.stdout.readline()
    match = re.match(r"listening on \S+ and https?://127.0.0.1:(\d+) · collection", ready)
    assert match, (ready, started.process.communicate())
    return started, int(match[1])


def refuses(port: int) -> bool:
    with socket.socket() as peer:
        return peer.connect_ex(("127.0.0.1", port)) != 0


def test_a_server_answers_http_beside_grpc(index: Path) -> None:
    started, port = serve(index)
    http = Http(port)
    assert http("GET", "/readyz").status == 200
    found = http("POST", "/v1/search", {"query": "harbour", "k": 1}, x_request_id="over-http")
    assert found.json["passages"][0]["uri"] == "notes/ferry.md"
    code, stdout, stderr = started.finish(signal.SIGTERM)
    assert (code, stdout) == (0, "")
    assert "over-http" in stderr
    assert refuses(port)


def test_the_gateway_ends_with_the_server_whatever_happens(index: Path) -> None:
    started, port = serve(index)
    assert Http(port)("GET", "/healthz").status == 200
    started.finish(signal.SIGKILL)
    wait_until(lambda: refuses(port))


def test_a_gateway_that_dies_is_started_again(index: Path) -> None:
    started, port = serve(index, port=free_port())
    pid = started.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children")
    first = children.read_text().split()
    os.kill(int(first[0]), signal.SIGKILL)
    wait_until(lambda: children.read_text().split() not in ([], first) and not refuses(port))
    assert Http(port)("GET", "/readyz").status == 200
    assert started.finish(signal.SIGTERM)[0] == 0


def test_https_has_the_certificates_of_the_server(index: Path, tmp_path: Path) -> None:
    authority = trustme.CA()
    made = authority.issue_cert("localhost", "127.0.0.1")
    made.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    made.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    files = ("--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem"))
    started, port = serve(index, *files)
    try:
        url = f"https://127.0.0.1:{port}/v1/server"
        with urllib.request.urlopen(url, context=context, timeout=30) as answer:
            assert answer.status == 200
    finally:
        started.finish(signal.SIGTERM)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--http", "0.0.0.0:8080"], "nothing is encrypted"),
        (["--http", "here"], "is not an address to listen on"),
        (
            [
                "--http",
                "127.0.0.1:0",
                *("--tls-cert", "c", "--tls-key", "k", "--tls-client-ca", "a"),
            ],
            "--http with --tls-client-ca needs --token-file",
        ),
    ],
)
def test_mistakes_of_serving_http_are_one_line(
    index: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--index", str(index), *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_port_of_http_that_is_taken_ends_the_server(index: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        started = Program("--index", str(index), "--listen", "127.0.0.1:0", "--http", listen)
        code, _, stderr = started.finish()
    assert code == 2
    assert f"can't listen on {listen} (Address already in use)" in stderr
