"""Search services on the same passages and model, each started as its users would start it.

All listen on loopback, keep their own defaults, and are warm before they are measured.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError

from benchmarks.common.beir import BIN, served

START_SECONDS = 600
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Service:
    """A running service."""

    name: str
    kind: str
    """Name of its target in ``benchmarks.service.load``."""
    target: str
    pid: int
    metrics: str = ""
    """URL of its Prometheus metrics."""


def free_port() -> int:
    """Return a port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def ours(folder: Path, options: Sequence[str] = (), kind: str = "grpc") -> Iterator[Service]:
    """Run ``retrieval serve`` over the index in ``folder``."""
    port = free_port()
    quiet = ["--metrics", f"127.0.0.1:{port}", "--log-level", "warning"]
    with served(folder / "index", [*quiet, *options]) as (address, pid):
        yield Service("ours", kind, address, pid, f"http://127.0.0.1:{port}/metrics")


@contextmanager
def http(folder: Path, _passages: Sequence[str], _model: Path) -> Iterator[Service]:
    """Run ``retrieval serve --http`` over the same index, and ask it over HTTP."""
    port = free_port()
    options = ["--log-level", "warning", "--http", f"127.0.0.1:{port}"]
    with served(folder / "index", options) as (_address, pid):
        yield Service("http", "gateway", f"http://127.0.0.1:{port}", pid)


@contextmanager
def fastapi(folder: Path, passages: Sequence[str], model: Path) -> Iterator[Service]:
    """Run ``benchmarks/service/fastapi_search.py`` under uvicorn."""
    (folder / "passages.json").write_text(json.dumps(passages), encoding="utf-8")
    environment = {"PASSAGES": str(folder / "passages.json"), "MODEL": str(model)}
    port = free_port()
    command = ["uvicorn", "benchmarks.service.fastapi_search:app", "--port", str(port)]
    command += ["--no-access-log", "--log-level", "warning"]
    base = f"http://127.0.0.1:{port}"
    with started("fastapi", command, folder, environment, f"{base}/docs") as pid:
        yield Service("fastapi", "http", f"{base}/search?query=", pid)


@contextmanager
def txtai(folder: Path, passages: Sequence[str], model: Path) -> Iterator[Service]:
    """Run txtai's API with its own embeddings index, which keeps the texts."""
    (folder / "txtai.yml").write_text(
        f"writable: true\nembeddings:\n  path: {model}\n  content: true\n", encoding="utf-8"
    )
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    command = ["uvicorn", "txtai.api:app", "--port", str(port), "--log-level", "warning"]
    environment = {"CONFIG": str(folder / "txtai.yml")}
    with started("txtai", command, folder, environment, f"{base}/count") as pid:
        rows = [{"id": str(number), "text": text} for number, text in enumerate(passages)]
        post(f"{base}/add", json.dumps(rows).encode())
        urllib.request.urlopen(f"{base}/index", timeout=START_SECONDS).read()
        yield Service("txtai", "http", f"{base}/search?limit=10&query=", pid)


@contextmanager
def chromadb(folder: Path, passages: Sequence[str], model: Path) -> Iterator[Service]:
    """Run chromadb's server; ``model`` embeds in the client."""
    import chromadb as library
    from sentence_transformers import SentenceTransformer

    port = free_port()
    command = ["chroma", "run", "--path", str(folder / "chroma"), "--port", str(port)]
    heartbeat = f"http://127.0.0.1:{port}/api/v2/heartbeat"
    with started("chromadb", command, folder, {}, heartbeat) as pid:
        collection = library.HttpClient("127.0.0.1", port).create_collection(
            "passages", embedding_function=None, configuration={"hnsw": {"space": "cosine"}}
        )
        vectors = SentenceTransformer(str(model)).encode(list(passages), normalize_embeddings=True)
        for start in range(0, len(passages), 1000):
            rows = slice(start, start + 1000)
            ids = [str(number) for number in range(len(passages))[rows]]
            collection.add(ids, embeddings=vectors[rows], documents=list(passages[rows]))
        yield Service("chromadb", "chroma", f"127.0.0.1:{port}", pid)


PEERS = {"http": http, "fastapi": fastapi, "txtai": txtai, "chromadb": chromadb}


def post(url: str, body: bytes) -> None:
    """Send JSON by POST."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=START_SECONDS).read()


@contextmanager
def started(
    name: str, command: Sequence[str], folder: Path, environment: dict[str, str], url: str
) -> Iterator[int]:
    """Run a program of this environment in a block; yield its pid once ``url`` answers.

    Its output goes to a file in ``folder``.
    """
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            [str(BIN / command[0]), *command[1:]],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        until = time.monotonic() + START_SECONDS
        while not answers(url):
            if process.poll() is not None or time.monotonic() > until:
                sys.exit(f"{name} did not start:\n{(folder / f'{name}.log').read_text()}")
            time.sleep(0.5)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()


def answers(url: str) -> bool:
    """Return whether the URL answers."""
    try:
        urllib.request.urlopen(url, timeout=5).read()
    except HTTPError:
        return True
    except (URLError, OSError):
        return False
    return True
