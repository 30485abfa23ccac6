"""Folders whose names are not UTF-8, and systems where nothing can be written."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from retrieval.client import RetrievalClient
from retrieval.store import open_reader, verify
from tests.service.harness import build_index, running, write_documents
from tests.store.places import EVERYTHING_READ_ONLY, run_with_mounts
from tests.store.test_store import fill, new_writer

_LINES = """
import json, sys
from indexer.commands.cli import main

for line in json.load(sys.stdin):
    code = main(line)
    for stream in (sys.stdout, sys.stderr):
        print(code, end="\\0", file=stream, flush=True)
"""


def strange(folder: Path) -> Path:
    """A path with a byte that is no text, as Python holds it."""
    path = folder / os.fsdecode(b"ind\xff ex#?%41")
    try:
        path.mkdir()
    except OSError:
        pytest.skip("this file system has names in UTF-8 alone")
    return path


def run(lines: list[list[str]]) -> Iterator[tuple[bytes, bytes]]:
    """Run command lines in a process of their own, as output is encoded only there.

    Yields:
        What each line printed on standard output and on standard error, and after each its code.
    """
    done = subprocess.run(
        [sys.executable, "-c", _LINES],
        input=json.dumps(lines).encode(),
        capture_output=True,
        check=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONIOENCODING": "utf-8"},
    )
    yield from zip(done.stdout.split(b"\0"), done.stderr.split(b"\0"), strict=True)


def test_an_index_in_a_folder_that_is_not_utf8(tmp_path: Path) -> None:
    index = strange(tmp_path)
    write_documents(tmp_path / "notes")
    build_index(tmp_path / "notes", index)
    lines = [
        ["build", str(tmp_path / "notes")],
        ["status"],
        ["status", "--json"],
        ["list"],
        ["search", "bread", "--mode", "lexical"],
        ["search", "bread", "--mode", "dense", "--json"],
        ["compact"],
        ["verify", "--sample", "2"],
        ["remove", "notes/bread.md"],
        ["remove", "nothing"],
    ]
    *done, (_, error), _ = run([[*line, "--index", str(index)] for line in lines])
    for line, (printed, noted) in zip(lines, done, strict=False):
        assert printed.endswith(b"0"), (line, noted)
        assert b"Traceback" not in noted
        if "--json" in line:
            assert json.loads(printed[:-1])
    assert b"ind\\udcff" in error
    assert error.endswith(b"2")
    with (
        running({"default": index}, reload_seconds=0.05) as server,
        RetrievalClient(server.target) as client,
    ):
        for mode in ("lexical", "dense", "hybrid"):
            assert client.search("ferry", mode=mode).passages
        assert client.reload().document_count == 7


def test_an_approximate_index_in_a_folder_that_is_not_utf8(tmp_path: Path) -> None:
    index = strange(tmp_path)
    fill(index, 1200)
    with new_writer(index) as writer:
        with writer.commit() as commit:
            commit.set_index_type("ivf", 0.9)
        assert writer.maintain().ann
    with open_reader(index) as reader:
        assert not reader.is_exact
    assert list(verify(index)) == []


def test_a_model_answers_where_nothing_can_be_written(tmp_path: Path) -> None:
    """Torch wants a folder for compiled code as soon as its compiler is imported."""
    write_documents(tmp_path / "notes")
    index = build_index(tmp_path / "notes", tmp_path / "index")
    code = """
import sys
from indexer.commands.cli import main
sys.exit(main(["search", "bread", "--mode", "dense", "-k", "1", "--index", sys.argv[1]]))
"""
    assert "bread.md" in run_with_mounts(EVERYTHING_READ_ONLY, code, str(index))
