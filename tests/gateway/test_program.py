"""`retrieval gateway` as a user starts and stops it."""

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from retrieval.commands.cli import main
from tests.gateway.harness import Http
from tests.service.harness import RunningServer

COMMAND = [sys.executable, "-m", "retrieval", "gateway"]


@contextmanager
def program(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
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
        "import sys; sys.modules['uvicorn'] = None\n"
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
