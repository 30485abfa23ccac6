"""The ``indexer`` command as a user types it, good input and bad."""

import contextlib
import io
import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from indexer.commands.cli import main
from retrieval.encoding.model_cards import DEFAULT_MODEL
from tests.commands.forking import Forked, run_forked
from tests.tiny_model import make_tiny_model

INDEXER = Path(sys.executable).parent / "indexer"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.md").write_text("# Alpha\n\nWords about alpha.\n")
    return folder


def indexer(
    *arguments: str | Path, cwd: Path | None = None, process: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run the command: in this process, which is quick, or in one of its own."""
    words = [str(argument) for argument in arguments]
    if process:
        return subprocess.run(
            [str(INDEXER), *words], capture_output=True, text=True, check=False, cwd=cwd
        )
    stdout, stderr = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(cwd or "."),
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        code = main(words)
    return subprocess.CompletedProcess(words, code, stdout.getvalue(), stderr.getvalue())


def assert_user_error(result: subprocess.CompletedProcess[str], *parts: str) -> None:
    """Exit code 2, and one line that says what is wrong."""
    assert result.returncode == 2, (result.stdout, result.stderr)
    assert "Traceback" not in result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.stderr
    for part in parts:
        assert part in errors[0]


def test_build_status_list_search(docs: Path, model: Path, tmp_path: Path) -> None:
    (docs / "b.exe").write_text("x")
    built = indexer("build", "docs", "--model", model, cwd=tmp_path, process=True)
    assert built.returncode == 0, built.stderr
    assert "1 added" in built.stdout
    assert "1 unsupported format" in built.stdout
    assert (tmp_path / "index" / "index.db").is_file()
    status = json.loads(indexer("status", "--json", cwd=tmp_path).stdout)
    assert (status["documents"], status["chunks"], status["dimensions"]) == (1, 1, 64)
    assert "docs/a.md  Alpha" in indexer("list", cwd=tmp_path).stdout
    skipped = indexer("list", "--skipped", cwd=tmp_path).stdout
    assert skipped == "docs/b.exe: unsupported format (.exe)\n"
    found = json.loads(indexer("search", "alpha", "--json", "-k", "3", cwd=tmp_path).stdout)
    assert found["passages"][0]["uri"] == "docs/a.md"
    assert found["passages"][0]["line_end"] == 3
    text = indexer("search", "alpha", cwd=tmp_path).stdout
    assert "docs/a.md:1-3" in text


def test_guessed_encodings_are_listed_and_can_be_named(
    docs: Path, model: Path, tmp_path: Path
) -> None:
    (docs / "old.txt").write_bytes("Öl für die Pumpe, größere Mengen im März".encode("cp850"))
    (docs / "short.txt").write_bytes("Öl".encode("cp850"))
    build = ("build", "docs", "--model", model)
    built = indexer(*build, cwd=tmp_path)
    assert "cp850+guessed" in built.stdout
    assert "docs/old.txt  old  [1 chunk, cp850+guessed]" in indexer("list", cwd=tmp_path).stdout
    named = indexer(*build, "--encoding", "cp850", cwd=tmp_path)
    assert named.returncode == 0, named.stderr
    assert "guessed" not in named.stdout + indexer("list", cwd=tmp_path).stdout
    assert "Öl\n" in indexer("show", "docs/short.txt", cwd=tmp_path).stdout
    assert_user_error(indexer(*build, "--encoding", "nonsense", cwd=tmp_path), "nonsense")


def test_the_default_model_needs_no_download(docs: Path, tmp_path: Path) -> None:
    (docs / "long.md").write_text("# Long\n\n" + "Some words about beta. " * 100)
    built = run_forked(
        [sys.executable, "-m", "indexer", "build", "docs", "--json"],
        cwd=tmp_path,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")},
    )
    assert built.returncode == 0, built.stderr
    assert not (tmp_path / "cache").exists()
    status = json.loads(indexer("status", "--json", cwd=tmp_path).stdout)
    assert (status["model"], status["dimensions"]) == (DEFAULT_MODEL, 384)
    assert (status["chunk_tokens"], status["chunk_overlap"], status["chunks"]) == (254, 31, 4)
    again = indexer("build", "docs", "--json", cwd=tmp_path)
    assert json.loads(again.stdout)["documents"]["unchanged"] == 2


def test_json_is_the_only_thing_on_stdout(docs: Path, model: Path, tmp_path: Path) -> None:
    result = indexer("build", docs, "--index", tmp_path / "i", "--model", model, "--json")
    report = json.loads(result.stdout)
    assert report["documents"]["added"] == 1
    assert report["chunks"]["total"] == 1
    assert report["model"] == "tiny"


def test_models_lists_the_cards() -> None:
    names = [card["name"] for card in json.loads(indexer("models", "--json").stdout)]
    assert "gte-base-en-v1.5" in names
    assert "works offline" in indexer("models").stdout


def test_help_starts_fast_and_shows_examples() -> None:
    for command in ([], ["build"], ["search"], ["status"], ["list"], ["models"]):
        result = indexer(*command, "--help")
        assert result.returncode == 0
        assert "Examples:" in result.stdout


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda folder: folder / "absent", ["no such file or folder"]),
        (
            lambda folder: (folder / "empty").mkdir() or folder / "empty",
            ["no documents in", "0 files skipped"],
        ),
        (
            lambda folder: (folder / "x.bin").write_bytes(b"\0") and folder / "x.bin",
            ["no documents in", "1 file skipped"],
        ),
        (lambda folder: Path("/dev/null"), ["neither a file nor a folder"]),
        (lambda folder: Path("/"), ["can't be indexed"]),
    ],
    ids=["missing", "empty", "binary", "device", "root"],
)
def test_nothing_to_index(tmp_path: Path, model: Path, make: object, parts: list[str]) -> None:
    result = indexer("build", make(tmp_path), "--index", tmp_path / "index", "--model", model)  # type: ignore[operator]
    assert_user_error(result, *parts)
    assert not (tmp_path / "index").exists()


def test_difficult_files_are_indexed_or_named(docs: Path, model: Path, tmp_path: Path) -> None:
    """Every entry of a nasty folder is either a document or a skip with its reason."""
    (docs / "binary.txt").write_bytes(bytes(range(256)) * 10)
    (docs / "zero.md").write_bytes(b"")
    (docs / "invalid.txt").write_bytes(b"caf\xe9 \xff\xfe ol\xe9 " * 20)
    (docs / "blank.md").write_text(" \n\t\n")
    (docs / "broken.md").symlink_to("nowhere.md")
    (docs / "loop.md").symlink_to("loop.md")
    (docs / "circle").symlink_to(docs, target_is_directory=True)
    (tmp_path / "outside.md").write_text("outside")
    (docs / "out.md").symlink_to(tmp_path / "outside.md")
    (docs / "with space.md").write_text("spaces in the name")
    (docs / "quo'te\".md").write_text("quotes in the name")
    (docs / "new\nline.md").write_text("a line end in the name")
    (docs / "emoji 🎉.md").write_text("an emoji in the name")
    Path(os.fsdecode(os.fsencode(docs) + b"/bytes\xff.md")).write_text("not UTF-8 in the name")
    os.mkfifo(docs / "pipe.md")
    (docs / "socket.md").parent.mkdir(exist_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(docs / "s.md"))
    result = indexer("build", docs, "--index", tmp_path / "index", "--model", model, "--json")
    listener.close()
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    documents = json.loads(indexer("list", "--index", tmp_path / "index", "--json").stdout)
    uris = {document["uri"] for document in documents}
    assert uris == {
        "docs/a.md",
        "docs/invalid.txt",
        "docs/with space.md",
        "docs/quo'te\".md",
        "docs/new\nline.md",
        "docs/emoji 🎉.md",
        "docs/bytes\\xff.md",
    }
    skipped = json.loads(
        indexer("list", "--index", tmp_path / "index", "--skipped", "--json").stdout
    )
    reasons = {entry["uri"]: entry["reason"] for entry in skipped}
    assert reasons == {
        "docs/binary.txt": "binary",
        "docs/zero.md": "empty",
        "docs/blank.md": "no text",
        "docs/broken.md": "broken symlink",
        "docs/loop.md": "link loop",
        "docs/circle": "link loop",
        "docs/out.md": "outside root",
        "docs/pipe.md": "not a regular file",
        "docs/s.md": "not a regular file",
    }
    assert report["documents"]["skipped"] == len(reasons)
    assert sum(report["encodings"].values()) == len(uris)
    listed = indexer("list", "--index", tmp_path / "index").stdout
    assert len(listed.splitlines()) >= len(uris)


def test_unknown_models_and_options(docs: Path, model: Path, tmp_path: Path) -> None:
    target = ["--index", tmp_path / "index"]
    assert_user_error(
        indexer("build", docs, *target, "--model", "gte-huge"), "unknown model 'gte-huge'"
    )
    assert_user_error(indexer("build", docs, *target, "--model", tmp_path), "lacks config.json")
    assert_user_error(
        indexer("build", docs, *target, "--model", model, "--chunk-tokens", "0"), "neither a number"
    )
    assert_user_error(indexer("build", docs, *target, "--model", model, "--device", "cuda"), "CUDA")
    assert indexer("build", docs, "--dtype", "int3").returncode == 2
    assert indexer("build").returncode == 2
    assert indexer("bild").returncode == 2
    assert not (tmp_path / "index").exists()


def test_folders_that_are_no_index(docs: Path, model: Path, tmp_path: Path) -> None:
    assert_user_error(
        indexer("search", "x", "--index", tmp_path / "absent"), "is not an index", "indexer build"
    )
    assert_user_error(indexer("status", "--index", docs), "is not an index")
    result = indexer("build", docs, "--index", docs, "--model", model)
    assert_user_error(result, "not an index and not empty")
    assert sorted(path.name for path in docs.iterdir()) == ["a.md"]
    strange = tmp_path / "strange"
    strange.mkdir()
    connection = sqlite3.connect(strange / "index.db")
    connection.execute("CREATE TABLE precious (a)")
    connection.close()
    assert_user_error(
        indexer("build", docs, "--index", strange, "--model", model), "not an index's database"
    )


def test_index_of_another_model(docs: Path, model: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    assert indexer("build", docs, "--index", index, "--model", model).returncode == 0
    other = make_tiny_model(tmp_path / "other", "base_ntk_short")
    assert_user_error(indexer("build", docs, "--index", index, "--model", other), "another model")
    assert_user_error(indexer("search", "x", "--index", index, "--model", other), "another model")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([""], "the query is empty"),
        (["  "], "the query is empty"),
        (["x" * 100_000], "100000 characters; at most 65536"),
        (["x", "-k", "0"], "k must be from 1 to 1000, not 0"),
        (["x", "-k", "-1"], "not -1"),
        (["x", "-k", str(10**9)], "not 1000000000"),
        (["x", "--min-score", "nan"], "min_score"),
    ],
    ids=["empty", "blank", "long", "k=0", "k=-1", "k=1e9", "nan"],
)
def test_queries_out_of_range(
    docs: Path, model: Path, tmp_path: Path, arguments: list[str], part: str
) -> None:
    index = tmp_path / "index"
    indexer("build", docs, "--index", index, "--model", model)
    assert_user_error(indexer("search", "--index", index, *arguments), part)


def test_interrupt_says_what_to_do(docs: Path, model: Path, tmp_path: Path) -> None:
    for number in range(200):
        (docs / f"{number}.txt").write_text(f"document {number} " * 400)
    words = ["build", str(docs), "--index", str(tmp_path / "i"), "--model", str(model)]
    process = Forked(
        [sys.executable, "-m", "indexer", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "i" / "index.db").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(2)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "run the command again to continue" in stderr
    assert "Traceback" not in stderr


@pytest.mark.slow
def test_a_huge_one_line_file(model: Path, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "huge.txt").write_text("lorem ipsum dolor sit amet " * 1_900_000)
    result = indexer("build", docs, "--index", tmp_path / "i", "--model", model, "--json")
    assert result.returncode == 0
    assert json.loads(result.stdout)["documents"]["added"] == 1


def test_identical_passages_are_shown_once(tmp_path: Path, model: Path) -> None:
    for name in ("one", "two", "three"):
        path = tmp_path / "docs" / name / "note.md"
        path.parent.mkdir(parents=True)
        path.write_text("# Note\n\nThe same words.\n")
    assert indexer("build", "docs", "--model", model, cwd=tmp_path).returncode == 0
    once = indexer("search", "same words", cwd=tmp_path).stdout
    assert once.count("note.md:") == 1
    assert "(2 more say nearly the same)" in once
    assert indexer("search", "same words", "--copies", cwd=tmp_path).stdout.count("note.md:") == 3
    as_json = json.loads(indexer("search", "same words", "--json", cwd=tmp_path).stdout)
    assert len(as_json["passages"]) == 3
    chosen = indexer("search", "same words", "--json", "--collapse", "1", cwd=tmp_path).stdout
    assert len(json.loads(chosen)["passages"]) == 1
    by_document = indexer("search", "same words", "--by-document", cwd=tmp_path)
    assert by_document.stdout.count("note.md:") == 1
