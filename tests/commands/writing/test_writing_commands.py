"""``put``, ``delete`` and ``collection``: what they send and print, and what they exit with."""

import io
import json
import os
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict

from retrieval.client import DEFAULT_TIMEOUT, PUT_TIMEOUT
from retrieval.commands import connection_options
from retrieval.commands.cli import main
from tests.client.writing.dictionary_server import DictionaryServer, DictionaryService
from tests.service.harness import RunningServer

BAD = (grpc.StatusCode.INVALID_ARGUMENT, "UNREADABLE_DOCUMENT")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(dictionary: DictionaryServer, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str | Path) -> tuple[int, str, str]:
        code = main([*map(str, arguments), "--target", dictionary.target])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with files at several depths, hidden ones and links among them."""
    for name in ("b.md", "a.md", "sub/c.txt", ".hidden", ".git/config", "sub/.x/y.md"):
        path = tmp_path / "notes" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "notes" / "link.md").symlink_to("a.md")
    (tmp_path / "notes" / "around").symlink_to("sub")
    os.mkfifo(tmp_path / "notes" / "pipe")
    return tmp_path / "notes"


class Keyboard(io.StringIO):
    """Standard input as a terminal has it."""

    def isatty(self) -> bool:
        return True


def test_the_time_limits_are_those_of_the_client() -> None:
    assert connection_options.TIMEOUT == DEFAULT_TIMEOUT
    assert connection_options.PUT_TIMEOUT == PUT_TIMEOUT


def test_a_file(run: Run, service: DictionaryService, folder: Path) -> None:
    arguments = [
        "--title",
        "T",
        "--language",
        "en",
        "--wait",
        "--if-absent",
        "--collection",
        "docs",
    ]
    arguments += ["--metadata", "year=2024", "--metadata", "tag=a", "--metadata", "tag=b"]
    arguments += ["--metadata", "old=true", "--metadata", "zip=007", "--metadata", 'text="12"']
    arguments += ["--metadata", "nan=NaN", "--metadata", "none=null", "--metadata", "eq=a=b"]
    code, out, err = run("put", folder / "a.md", *arguments)
    assert (code, err) == (0, "")
    assert out.startswith("put 1 document (1 created), 1 passage, 3 tokens embedded in ")
    sent = MessageToDict(service.documents["a.md"], preserving_proto_field_name=True)
    assert sent.pop("modify_time")
    assert sent.pop("data")
    assert sent == {
        "collection": "collections/docs",
        "uri": "a.md",
        "file_name": "a.md",
        "title": "T",
        "language": "en",
        "if_absent": True,
        "wait_for_visibility": True,
        "metadata": {
            "year": 2024.0,
            "tag": ["a", "b"],
            "old": True,
            "zip": "007",
            "text": "12",
            "nan": "NaN",
            "none": "null",
            "eq": "a=b",
        },
    }


def test_folders(
    run: Run, service: DictionaryService, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = run("put", folder, "--to", "wiki/")
    assert code == 0
    assert out.startswith("put 3 documents (3 created)")
    uris = ["wiki/notes/a.md", "wiki/notes/b.md", "wiki/notes/sub/c.txt"]
    assert [uri for uri, _ in service.log] == uris
    service.log.clear()
    monkeypatch.chdir(folder)
    run("put", ".", "sub/c.txt", ".hidden")
    assert [uri for uri, _ in service.log] == [
        *("notes/a.md", "notes/b.md", "notes/sub/c.txt"),
        *("c.txt", ".hidden"),
    ]


def test_standard_input(
    run: Run, service: DictionaryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"<p>\xff")))
    arguments = ["--uri", "https://example.com/", "--media-type", "text/html"]
    code, _, err = run("put", "-", *arguments)
    assert (code, err) == (0, "")
    sent = service.documents["https://example.com/"]
    assert (sent.data, sent.media_type) == (b"<p>\xff", "text/html")


def test_failures_are_listed_and_the_rest_is_put(
    run: Run, service: DictionaryService, folder: Path
) -> None:
    service.fail_puts["notes/b.md"] = deque([BAD])
    (folder / "dark.md").touch()
    (folder / "dark.md").chmod(0)
    unreadable = [] if os.access(folder / "dark.md", os.R_OK) else ["dark"]  # root reads all
    code, out, err = run("put", folder)
    assert code == 1
    lines = err.splitlines()
    assert f"failed {folder}/b.md: no: notes/b.md" in lines
    assert len(lines) == 1 + len(unreadable)
    assert f"{1 + len(unreadable)} failed" in out
    assert {"notes/a.md", "notes/sub/c.txt"} <= set(service.documents)


def test_a_stream_that_fails_half_way(run: Run, service: DictionaryService, tmp_path: Path) -> None:
    for number in range(600):
        (tmp_path / f"{number:03}.md").touch()
    service.cut_after.append(300)
    service.refuse_streams_after_cut = grpc.StatusCode.PERMISSION_DENIED
    code, out, err = run("put", tmp_path)
    assert code == 2
    assert out.startswith("put 300 documents (300 created)")
    assert "without an answer" in out
    assert err.splitlines()[-1].endswith("not you")


def test_put_for_a_program(run: Run, service: DictionaryService, folder: Path) -> None:
    service.fail_puts["notes/b.md"] = deque([BAD])
    code, out, _ = run("put", folder, "--json")
    assert code == 1
    *answers, last = [json.loads(line) for line in out.splitlines()]
    answers.sort(key=lambda answer: answer["uri"])
    assert [answer["uri"] for answer in answers] == ["notes/a.md", "notes/b.md", "notes/sub/c.txt"]
    assert answers[0]["error"] is None
    assert answers[0]["documents"][0]["change"] == "created"
    assert len(answers[0]["documents"][0]["sha256"]) == 64
    assert answers[1]["error"]["reason"] == "UNREADABLE_DOCUMENT"
    assert answers[1]["path"] == f"{folder}/b.md"
    assert (last["summary"]["created"], last["summary"]["failed"]) == (2, 1)


def test_an_error_that_all_would_meet(run: Run, service: DictionaryService, folder: Path) -> None:
    service.fail_puts["notes/b.md"] = deque(
        [(grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")]
    )
    code, out, err = run("put", folder)
    assert code == 1
    assert out.startswith("put ")
    assert err == "error: no: notes/b.md\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.md"], "none.md does not exist"),
        (["a.md", "none.md"], "none.md does not exist"),
        (["-"], "give --uri with -: standard input has no name"),
        (["-", "a.md"], "give - alone"),
        (["notes", "--uri", "x"], "--uri is for a single document"),
        (["notes", "--title", "x"], "--title is for a single document"),
        (["a.md", "notes", "--if-sha256", "x"], "--if-sha256 is for a single document"),
        (["a.md", "notes/a.md"], "several paths would get the same URI (a.md)"),
        (["a.md", "--metadata", "year"], "'year' is not NAME=VALUE"),
        (["a.md", "--metadata", "=x"], "'=x' is not NAME=VALUE"),
        (["a.md", "--uri", ""], "it is empty"),
        (["/"], "/ has no name; put what is in it"),
        ([], "Missing argument 'FILE|FOLDER...'"),
        (["a.md", "--timeout", "0"], "timeout is 0.0"),
    ],
)
def test_mistakes_of_put(
    run: Run,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(folder.parent)
    Path("a.md").write_text("A")
    code, out, err = run("put", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


def test_a_server_that_takes_no_changes(
    server: RunningServer, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["put", str(folder), "--target", server.target]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "start it with `retrieval serve --writable`, or with --data DIR" in captured.err


def test_progress_on_a_terminal(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    _, _, err = run("put", folder)
    assert "\rput 1 document" in err.replace("\x1b[K", "")
    assert err.endswith("\r\x1b[K")


def put(run: Run, service: DictionaryService, folder: Path) -> None:
    assert run("put", folder)[0] == 0
    service.requests.clear()


def test_delete_by_uri(run: Run, service: DictionaryService, folder: Path) -> None:
    put(run, service, folder)
    code, out, err = run("delete", "notes/a.md", "notes/none.md", "notes/b.md", "--wait")
    assert (code, out) == (1, "deleted 2 documents, 1 failed\n")
    assert err == "failed notes/none.md: no: NOT_FOUND\n"
    assert set(service.documents) == {"notes/sub/c.txt"}
    assert all(request.wait_for_visibility for request in service.requests)
    assert run("delete", "notes/none.md", "--missing-ok")[:2] == (0, "deleted 0 documents\n")
    code, out, _ = run("delete", "notes/sub/c.txt", "x", "--json", "--collection", "default")
    assert code == 1
    assert json.loads(out) == {
        "deleted": ["notes/sub/c.txt"],
        "failed": [{"uri": "x", "reason": "NOT_FOUND", "message": "no: NOT_FOUND"}],
        "generation": service.generation,
    }
    assert run("delete", "x", "y", "--collection", "misspelt")[0] == 2


def test_delete_many(run: Run, service: DictionaryService, folder: Path) -> None:
    put(run, service, folder)
    code, out, _ = run("delete", "--prefix", "notes/", "--dry-run")
    assert code == 0
    assert out == (
        "would delete 3 documents: notes/a.md, notes/b.md, notes/sub/c.txt; 2 more documents would "
        "match, and `indexer build` keeps them up to date\n"
    )
    assert len(service.documents) == 3
    code, out, _ = run("delete", "--filter", "year<2000", "--json", "--dry-run")
    assert json.loads(out)["dry_run"] is True
    assert service.requests[-1].filter == "year<2000"
    code, out, _ = run("delete", "--prefix", "notes/")  # not a terminal: nobody to ask
    assert (code, out[:19]) == (0, "deleted 3 documents")
    assert not service.documents


def test_delete_asks_on_a_terminal(
    run: Run, service: DictionaryService, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(run, service, folder)
    for typed in ("n\n", "\n"):
        monkeypatch.setattr(sys, "stdin", Keyboard(typed))
        code, _, err = run("delete", "--prefix", "notes/")
        assert "Delete 3 documents?" in err
        assert (code, len(service.documents)) == (1, 3)
    monkeypatch.setattr(sys, "stdin", Keyboard("y\n"))
    assert run("delete", "--prefix", "notes/")[0] == 0
    assert not service.documents
    assert [request.dry_run for request in service.requests] == [True, True, True, False]


def test_yes_asks_nothing(
    run: Run, service: DictionaryService, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(run, service, folder)
    monkeypatch.setattr(sys, "stdin", Keyboard(""))
    assert run("delete", "--prefix", "notes/", "--yes")[0] == 0
    assert run("collection", "delete", "docs", "--yes")[:2] == (0, "deleted docs\n")
    assert not service.documents


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give URIs, or --prefix, or --filter"),
        (["a", "--prefix", "b"], "give URIs, or --prefix, or --filter"),
        (["--prefix", "a", "--filter", "b=c"], "give a filter or a prefix: both are given"),
        (["--prefix", ""], "prefix is empty, which would be every document"),
        (["a", "--dry-run"], "--dry-run is for --prefix and --filter"),
        (["--prefix", "a", "--missing-ok"], "are for URIs"),
        (["a", "b", "--if-sha256", "c"], "--if-sha256 is for a single document"),
    ],
)
def test_mistakes_of_delete(
    run: Run, service: DictionaryService, arguments: list[str], message: str
) -> None:
    code, out, err = run("delete", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert service.requests == []


def test_collections(run: Run, service: DictionaryService) -> None:
    arguments = [
        "--chunk-tokens",
        "0",
        "--language",
        "de",
        "--target-recall",
        "0.9",
        "--model",
        "m",
    ]
    code, out, _ = run("collection", "create", "docs", *arguments)
    assert (code, out) == (0, "docs: 0 documents, 0 passages, model \n")
    code, out, _ = run("collection", "update", "docs", "--index-type", "hnsw", "--json")
    assert json.loads(out)["name"] == "collections/docs"
    created, updated = (
        MessageToDict(request, preserving_proto_field_name=True) for request in service.requests
    )
    settings: dict[str, Any] = {"language": "de", "target_recall": 0.9}
    assert created == {
        "collection_id": "docs",
        "model": "m",
        "chunk_tokens": 0,
        "settings": settings,
    }
    assert updated == {"collection": "collections/docs", "settings": {"index_type": "hnsw"}}
    assert run("collection", "update", "docs")[0] == 2


def test_a_collection_is_not_deleted_unasked(
    run: Run, service: DictionaryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", Keyboard("n\n"))
    assert run("collection", "delete", "docs")[0] == 1
    assert service.requests == []


def test_collections_are_listed(server: RunningServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["collection", "list", "--target", server.target]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("tea: ") for line in lines)
    assert main(["collection", "list", "--json", "--target", server.target]) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(lines)
