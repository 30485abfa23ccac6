"""Mistakes of those who start `retrieval mcp`."""

import importlib.util
from typing import Any

import pytest

from retrieval.commands.cli import main


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--target", "a:1", "--index", "x"], "give --target or --index, not both"),
        (["--target", "nowhere"], "it has no port"),
        (["--target", "a.example:1"], "would travel to a.example:1 unencrypted"),
        (["--http", "127.0.0.1:0", "--token", "rt_a"], "every client sends its own token"),
        (["--http", "0.0.0.0:8090"], "nothing is encrypted"),
        (
            ["--http", "0.0.0.0:1", "--tls-cert", "a.pem", "--tls-key", "b.pem", "--index", "x"],
            "the server of --index asks for no token",
        ),
        (["--http", "nowhere"], "is not an address to listen on"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.pem", "b.pem"):
        (tmp_path / name).touch()
    assert main(["mcp", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert words in said.err
    assert said.err.count("\n") == 1


def test_without_the_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "retrieval.gateway.companion.find_spec",
        lambda name: None if name == "mcp" else find(name),
    )
    assert main(["mcp"]) == 2
    assert capsys.readouterr() == (
        "",
        "error: retrieval mcp needs mcp: pip install 'gte-retrieval[mcp]'\n",
    )
