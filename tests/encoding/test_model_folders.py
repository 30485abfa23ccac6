"""Finding models by name: against a real HTTP server that speaks the hub's protocol."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from retrieval.encoding.model_cards import MODEL_CARDS, find_card
from retrieval.encoding.model_folders import FETCHED_FILES, find_model
from retrieval.errors import InvalidArgument, ModelNotFound
from tests.commands.forking import run_forked
from tests.indexer.commands.test_cli import indexer
from tests.tiny_model import make_tiny_model

REPO = "acme/tiny-gte"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER_FILES = {
    "modeling.py": b"raise SystemExit('remote code ran')",
    "pytorch_model.bin": b"pickle",
}


class FakeHub(http.server.ThreadingHTTPServer):
    """Serves one model repository as the hub does; can cut a file off half-way."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = files
        self.asked: list[str] = []
        """Paths of all requests."""
        self.served: list[str] = []
        self.cut_off = ""
        """Name of a file to send only half of."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: FakeHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(path)
        for revision in ("main", "v1", COMMIT):
            if path in (f"/api/models/{REPO}/revision/{revision}", f"/api/models/{REPO}"):
                self._json(
                    {
                        "id": REPO,
                        "modelId": REPO,
                        "sha": COMMIT,
                        "siblings": [{"rfilename": n} for n in self.server.files],
                    }
                )
                return
            if path.startswith(f"/api/models/{REPO}/tree/{revision}"):
                self._json(
                    [
                        {
                            "type": "file",
                            "path": n,
                            "size": len(d),
                            "oid": hashlib.sha1(d).hexdigest(),
                        }
                        for n, d in self.server.files.items()
                    ]
                )
                return
            prefix = f"/{REPO}/resolve/{revision}/"
            if path.startswith(prefix) and path.removeprefix(prefix) in self.server.files:
                self._file(path.removeprefix(prefix), body=body)
                return
        self.send_response(404)
        self.send_header("X-Error-Code", "RevisionNotFound" if REPO in path else "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _json(self, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _file(self, name: str, *, body: bool) -> None:
        data = self.server.files[name]
        start = 0
        if wanted := self.headers.get("Range"):
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if body:
            self.server.served.append(name)
            if name == self.server.cut_off:
                self.wfile.write(data[start : len(data) // 2])
                self.close_connection = True
                return
            self.wfile.write(data[start:])


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FakeHub]:
    folder = make_tiny_model(tmp_path / "origin")
    files = {path.name: path.read_bytes() for path in folder.iterdir()} | OTHER_FILES
    server = FakeHub(files)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def run(
    command: list[str | Path], hub: FakeHub | str, cache: Path, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run a command of ours with the hub's address and cache set, as a user would."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")} | {
        "HF_ENDPOINT": hub if isinstance(hub, str) else hub.url,
        "HF_HOME": str(cache),
        "HF_HUB_DOWNLOAD_TIMEOUT": "3",
        "HF_HUB_ETAG_TIMEOUT": "3",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        **env,
    }
    return run_forked([sys.executable, "-m", *map(str, command)], env=environment)


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.md").write_text("# Alpha\n\nSome words about alpha.\n")
    return folder


def test_download_then_offline_and_the_revision_is_recorded(
    hub: FakeHub, tmp_path: Path, docs: Path
) -> None:
    index, cache = tmp_path / "index", tmp_path / "cache"
    build: list[str | Path] = [
        "indexer",
        "build",
        docs,
        "--index",
        index,
        "--model",
        f"{REPO}@v1",
        "--json",
    ]
    first = run(build, hub, cache)
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["model_revision"] == COMMIT
    assert set(hub.served) == {"config.json", "tokenizer.json", "model.safetensors"}
    status = indexer("status", "--index", index, "--json")
    assert json.loads(status.stdout)["model_revision"] == COMMIT
    # The recorded commit is found again in the cache, with no network and no name given.
    hub.asked.clear()
    offline = run(
        ["indexer", "search", "alpha", "--index", index, "--json"], hub, cache, HF_HUB_OFFLINE="1"
    )
    assert offline.returncode == 0, offline.stderr
    assert json.loads(offline.stdout)["passages"][0]["uri"] == "docs/a.md"
    assert not hub.asked
    assert (cache / "hub" / f"models--{REPO.replace('/', '--')}").is_dir()


def test_a_part_of_a_download_is_no_model_and_is_completed_at_the_next_run(
    hub: FakeHub, tmp_path: Path, docs: Path
) -> None:
    index, cache = tmp_path / "index", tmp_path / "cache"
    build: list[str | Path] = ["indexer", "build", docs, "--index", index, "--model", REPO]
    hub.cut_off = "model.safetensors"
    cut = run(build, hub, cache)
    assert cut.returncode == 2
    message = [line for line in cut.stderr.splitlines() if line.startswith("error:")]
    assert len(message) == 1
    assert "model.safetensors" in message[0]
    assert "Traceback" not in cut.stderr
    offline = run(build, hub, cache, HF_HUB_OFFLINE="1")
    assert offline.returncode == 2
    assert "model.safetensors" in offline.stderr
    assert not index.exists()
    hub.cut_off = ""
    again = run(build, hub, cache)
    assert again.returncode == 0, again.stderr


def test_without_a_hub_one_line_says_what_to_do(tmp_path: Path, docs: Path) -> None:
    cache = tmp_path / "cache"
    result = run(
        ["indexer", "build", docs, "--index", tmp_path / "index", "--model", "gte-base-en-v1.5"],
        "http://127.0.0.1:9",
        cache,
    )
    assert result.returncode == 2
    errors = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    for part in (
        "gte-base-en-v1.5",
        "config.json, tokenizer.json and model.safetensors",
        str(cache),
        "--model mini-gte-en-v1 (in this package) or all-minilm-l6-v2 "
        "(pip install 'gte-retrieval[offline]'), which work offline",
    ):
        assert part in errors[0]
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize("name", [f"{REPO}@nowhere", "acme/absent"])
def test_unknown_repository_or_revision(
    hub: FakeHub, tmp_path: Path, docs: Path, name: str
) -> None:
    result = run(
        ["indexer", "build", docs, "--index", tmp_path / "i", "--model", name], hub, tmp_path / "c"
    )
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert f"error: model '{name.partition('@')[0]}'" in result.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "--model is empty"),
        ("./nowhere", "no model folder"),
        ("/nowhere/at/all", "no model folder"),
        ("xyzzy", "unknown model 'xyzzy': give one of gte-large-en-v1.5, "),
        ("gte-base-en", "did you mean 'gte-base-en-v1.5'"),
        ("minilm", "did you mean 'all-minilm-l6-v2'"),
        ("All-MiniLM-L12-v2", "did you mean 'all-minilm-l6-v2'"),
        ("bge-reranker-base", "makes no embeddings: give it with --reranker"),
        ("BAAI/bge-reranker-base", "makes no embeddings: give it with --reranker"),
        ("a/b/c", "unknown model"),
        ("../x", "no model folder"),
    ],
)
def test_names_that_are_no_model(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where nothing lies beside the working folder, whatever lies beside the clone.
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFound, match=message):
        find_model(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "--reranker is empty"),
        ("xyzzy", "unknown reranker 'xyzzy': give one of gte-multilingual-reranker-base, "),
        ("bge-reranker", "did you mean 'bge-reranker-"),
        ("gte-base-en-v1.5", "makes embeddings and can't rerank"),
        ("./nowhere", "no model folder"),
    ],
)
def test_names_that_are_no_reranker(name: str, message: str) -> None:
    with pytest.raises(ModelNotFound, match=message):
        find_model(name, "reranker")


@pytest.mark.parametrize("name", [None, 3, b"gte-base-en-v1.5", ["gte-base-en-v1.5"]])
def test_a_name_that_is_no_text(name: Any) -> None:
    with pytest.raises(InvalidArgument, match="the model's name is "):
        find_model(name)


def test_a_folder_may_be_a_path(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "tiny")
    assert find_model(folder) == find_model(str(folder))


def test_a_reranker_without_a_hub(tmp_path: Path, docs: Path) -> None:
    index = tmp_path / "index"
    model = make_tiny_model(tmp_path / "model")
    assert indexer("build", docs, "--index", index, "--model", model).returncode == 0
    asked = ["indexer", "search", "x", "--index", index, "--rerank", "3", "--reranker"]
    result = run([*asked, "bge-reranker-base"], "http://127.0.0.1:9", tmp_path)
    assert result.returncode == 2
    (error,) = result.stderr.splitlines()
    assert error.startswith("error: reranker 'BAAI/bge-reranker-base': config.json, ")
    assert error.endswith(
        "give --reranker a local folder that holds them, or search without reranking"
    )


def test_a_folder_goes_before_a_known_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_model("mini-gte-en-v1").source == "package"
    make_tiny_model(tmp_path / "mini-gte-en-v1")
    make_tiny_model(tmp_path / "acme" / "tiny-gte")
    for name in ("mini-gte-en-v1", "acme/tiny-gte"):
        assert find_model(name).path == tmp_path / name


def test_a_tilde_is_the_home_folder_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = make_tiny_model(tmp_path / "tiny")
    assert find_model("~/tiny").path == folder
    with pytest.raises(ModelNotFound, match="no model folder at '~/gte-base-en-v1.5'"):
        find_model("~/gte-base-en-v1.5")


def test_a_revision_is_not_taken_from_a_package(hub: FakeHub, tmp_path: Path, docs: Path) -> None:
    command = ["indexer", "build", docs, "--index", tmp_path / "i", "--model"]
    asked = run([*command, "all-minilm-l6-v2@v1"], hub, tmp_path / "c")
    assert asked.returncode == 2
    assert "sentence-transformers/all-MiniLM-L6-v2" in hub.asked[0]


def test_hub_id_that_is_malformed() -> None:
    with pytest.raises(ModelNotFound, match="not a hub id"):
        find_model("acme/--bad..name--")


def test_folder_that_lacks_files(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelNotFound, match=r"lacks tokenizer\.json, model\.safetensors"):
        find_model(str(tmp_path))


def test_a_folder_of_the_hub_cache_is_known_by_its_hub_id(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "models--BAAI--bge-base-en-v1.5" / "snapshots" / COMMIT)
    card = find_model(str(folder)).card
    assert card is not None
    assert card.name == "bge-base-en-v1.5"
    assert find_model(str(make_tiny_model(tmp_path / "anything"))).card is None


def test_cards() -> None:
    assert set(MODEL_CARDS) >= {
        "gte-large-en-v1.5",
        "gte-base-en-v1.5",
        "gte-Qwen1.5-7B-instruct",
        "mxbai-embed-large-v1",
        "multilingual-e5-large-instruct",
        "bge-large-en-v1.5",
        "bge-base-en-v1.5",
        "all-minilm-l6-v2",
    }
    card = find_card("alibaba-nlp/GTE-base-en-v1.5")
    assert card is not None
    assert (card.name, card.dim, card.max_tokens) == ("gte-base-en-v1.5", 768, 8192)


def test_nothing_executable_is_ever_fetched() -> None:
    assert not [name for name in FETCHED_FILES if name.endswith((".py", ".bin", ".pt", ".pkl"))]
