"""The command ``retrieval``: what it prints, and what it exits with."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from retrieval.commands.cli import main
from retrieval.commands.text_lines import text_batches
from retrieval.encoding.encoder import Encoder
from tests.commands.forking import Forked
from tests.service.harness import RunningServer, word_model
from tests.tiny_model import DIM


def run(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_search_for_a_person(server: RunningServer, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["search", "does the ferry leave every hour?", "-k", "2", "--target", server.target]
    code, out, err = run(arguments, capsys)
    assert (code, err) == (0, "")
    assert out.startswith(" 1.")
    assert "The ferry › " in out
    assert "notes/ferry.md:" in out
    assert "bicycles travel free" in " ".join(out.split()), "lines are wrapped to the terminal"
    assert "\n 2." in out


def test_search_for_a_program(server: RunningServer, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["search", "teapot", "--collection", "tea", "--json", "--target", server.target]
    code, out, err = run(arguments, capsys)
    assert (code, err) == (0, "")
    assert out.count("\n") == 1
    answer = json.loads(out)
    assert answer["query"] == "teapot"
    assert answer["query_truncated"] is False
    assert answer["seconds"].keys() == {"embed", "search", "fetch", "total", "rerank"}
    assert [passage["uri"] for passage in answer["passages"]] == ["tea/tea.md"]
    assert answer["passages"][0]["text"].endswith("steeped at eighty degrees.")


def test_a_query_that_is_cut_off_is_noted(
    server: RunningServer, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(["search", "word " * 500, "--target", server.target], capsys)
    assert code == 0
    assert out
    assert err == "note: the query is longer than the model reads; its end had no effect\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([""], "the query is empty"),
        (["x" * 100_000], "the query has 100000 characters"),
        (["x", "-k", "0"], "k is 0; it must be 1 or more"),
        (["x", "-k", "-1"], "k is -1; it must be 1 or more"),
        (["x", "-k", "1000000000"], "page_size is 1000000000; it must be from 1 to 1000"),
        (["x", "-k", "1000000000000"], "k is 1000000000000, which is too large"),
        (["x", "-k", "many"], "Invalid value for '-k'"),
        (["x", "--collection", "nope"], "no collection 'nope'"),
        (["x", "--collection", "../etc"], "collection is 'collections/../etc'"),
        (["x", "--timeout", "0"], "timeout is 0.0"),
        ([], "Missing argument 'QUERY...'"),
        (["\udcff"], "not valid Unicode"),
    ],
)
def test_a_users_mistakes(
    server: RunningServer,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    code, out, err = run(["search", *arguments, "--target", server.target], capsys)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


def test_no_server(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(["search", "x", "--target", "127.0.0.1:1"], capsys)
    assert (code, out) == (1, "")
    assert err == (
        "error: no server answers at 127.0.0.1:1; start one with `retrieval serve --index DIR`\n"
    )


@pytest.mark.parametrize("arguments", [["--help"], ["search", "--help"], ["--version"]])
def test_help_and_version(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    code, out, err = run(arguments, capsys)
    assert (code, err) == (0, "")
    assert "retrieval" in out


@pytest.mark.parametrize("command", ["serve", "search", "embed"])
def test_help_shows_examples_a_line_each(capsys: pytest.CaptureFixture[str], command: str) -> None:
    _, out, _ = run([command, "--help"], capsys)
    examples = out.split("\n  Examples:\n")[1].splitlines()
    assert len(examples) >= 2
    assert all(f"retrieval {command}" in line for line in examples)


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([b"a\nb\n"], [["a", "b"]]),
        ([b"a", b"b", b"c\nd", b"\n\ne"], [["abc"], ["d", ""], ["e"]]),
        ([b"\xc3", b"\xa4\r\n"], [["ä"]]),
        ([], []),
        ([b"\n" * 100], [[""] * 64, [""] * 36]),
    ],
)
def test_lines_arrive_as_they_are_written(
    chunks: list[bytes], expected: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    arriving = iter([*chunks, b""])
    monkeypatch.setattr("os.read", lambda *_: next(arriving))
    with Path(os.devnull).open("rb") as stream:
        assert list(text_batches(stream)) == expected


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run([], capsys)
    assert (code, out) == (2, "")
    assert "Commands:" in err


def test_an_interruption(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("retrieval.client.RetrievalClient.search", interrupted)
    code, out, err = run(["search", "x"], capsys)
    assert (code, out, err.strip()) == (130, "", "")


def program(
    arguments: Sequence[str], stdin: bytes, **settings: str
) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-m", "retrieval", *arguments],
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
        env={**os.environ, **settings},
    )


def test_embed(encoder: Encoder) -> None:
    texts = ["a lamp at dusk", "", "Äpfel\r", "boulders " * 260] + [f"text {n}" for n in range(66)]
    done = program(["embed", "--model", str(word_model())], "\n".join(texts).encode())
    assert done.returncode == 0
    assert done.stderr == b"note: 1 of 70 texts was cut off after 256 tokens\n"
    vectors = np.array([json.loads(line) for line in done.stdout.splitlines()], dtype=np.float32)
    expected = encoder.encode([text.strip() for text in texts], "passage")
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_embed_answers_line_by_line() -> None:
    arguments = [sys.executable, "-m", "retrieval", "embed", "--model", str(word_model())]
    with Forked(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for text in (b"one\n", b"two\n"):
            process.stdin.write(text)
            process.stdin.flush()
            assert len(json.loads(process.stdout.readline())) == DIM
        process.stdin.write(b"\xff\n")
        process.stdin.close()
        assert process.stdout.read() == b""
    assert process.returncode == 2


def test_embed_with_a_model_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(["embed", "--model", "./nowhere"], capsys)
    assert (code, out, err) == (2, "", "error: no model folder at './nowhere'\n")


def test_a_reader_that_has_had_enough() -> None:
    command = f"{sys.executable} -m retrieval --help | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=True, timeout=60)
    assert done.stderr == b""
    assert done.stdout == b"1\n"


@pytest.mark.parametrize("code", ["import retrieval.commands.cli", "import retrieval.client"])
def test_light_imports(code: str) -> None:
    script = f"{code}; import sys; print(*{{'torch', 'faiss', 'transformers'}} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, timeout=60
    )
    assert done.stdout == b"\n"
