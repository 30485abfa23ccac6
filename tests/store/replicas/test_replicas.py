"""Publish generations of an index, and pull them into another folder."""

import json
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from retrieval.errors import (
    Conflict,
    IndexDamaged,
    IndexLocked,
    InvalidArgument,
    NotAnIndex,
    StorageError,
)
from retrieval.store import open_reader, open_writer, read_info, verify
from retrieval.store.disk.tables.locks import build_lock
from retrieval.store.objects import Bucket
from retrieval.store.replicas import publish as publishing
from retrieval.store.replicas.manifest import BLOCK_BYTES, Manifest
from retrieval.store.replicas.publish import Published, publish
from retrieval.store.replicas.pull import Pulled, pull
from tests.store.test_store import fill, key, staged, unit_vectors


@pytest.fixture
def index(tmp_path: Path) -> Path:
    fill(tmp_path / "index", 3)
    return tmp_path / "index"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return (tmp_path / "bucket").as_uri()


def put(folder: Path, name: str, *texts: str) -> None:
    with open_writer(folder, shared=True) as writer, writer.commit() as commit:
        vectors = unit_vectors(len(texts))
        ids = commit.add_vectors([key(text) for text in texts], vectors, [False] * len(texts))
        commit.put_document(staged(f"d/{name}", list(texts), ids))


def content(folder: Path) -> tuple[object, ...]:
    """Return what can be seen of an index."""
    with open_reader(folder) as reader:
        rows = reader.documents(10_000)
        texts = [reader.document_text(row.id) for row in rows]
        found = reader.search_vectors(np.eye(1, reader.info.model.dim, dtype=np.float32), 50)
        words = reader.search_lexical("text", 50)
        return (
            *(reader.info, rows, texts, found.vector_ids.tolist(), found.scores.tolist()),
            *(list(words.vector_ids), list(words.scores)),
        )


def publish_in_between(monkeypatch: pytest.MonkeyPatch, index: Path, url: str) -> None:
    """Let another publisher finish while the next one is at work."""
    describe = publishing._describe

    def after_another(*arguments: object) -> Manifest:
        monkeypatch.setattr(publishing, "_describe", describe)
        publish(index, url)
        return describe(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(publishing, "_describe", after_another)


def same(first: Path, second: Path) -> None:
    assert content(first) == content(second)
    assert list(verify(second)) == []


def test_a_copy_is_the_same_index(index: Path, url: str, tmp_path: Path) -> None:
    copy = tmp_path / "copies" / "docs"
    published = publish(index, url)
    assert published == Published(1, 1, True, published.size, published.size, 0)
    pulled = pull(url, copy)
    assert pulled == Pulled(1, 1, True, published.size, published.size)
    same(index, copy)
    assert publish(index, url) == Published(1, 1, False, published.size, 0, 0)
    assert pull(url, copy) == Pulled(1, 1, False, published.size, 0)


def test_generations_share_what_they_have_in_common(index: Path, url: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    put(index, "large", *(f"{'x' * 9_000} {number}" for number in range(500)))
    assert publish(index, url).size > 3 * BLOCK_BYTES
    pull(url, copy)
    for number in range(3):
        put(index, f"{number}", f"text {number}")
        published, pulled = publish(index, url), pull(url, copy)
        assert 0 < published.sent < published.size / 2
        assert 0 < pulled.fetched < pulled.size / 2
        same(index, copy)


def test_old_generations_are_deleted(index: Path, url: str, tmp_path: Path) -> None:
    for number in range(5):
        put(index, f"{number}", f"text {number}")
        published = publish(index, url, keep=2)
    assert published.number == 5
    assert published.deleted == 1
    bucket = Bucket(url)
    assert len(bucket.list("generations")) == 2
    needed = set()
    for one in bucket.list("generations"):
        needed |= Manifest.from_json(bucket.read(f"generations/{one.name}"), "").objects
    kept = {f"{part}/{one.name}" for part in ("files", "blocks") for one in bucket.list(part)}
    assert kept == needed
    pull(url, tmp_path / "copy")
    same(index, tmp_path / "copy")


def test_a_copy_keeps_files_of_two_generations_only(index: Path, url: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for number in range(6):
        put(index, f"{number}", f"text {number}")
        publish(index, url)
        pull(url, copy)
    assert len(list(copy.glob("index-*.db"))) == 2
    assert len(list(copy.glob("*.view"))) == 1
    assert not list(copy.glob("*.partial"))


def test_a_reader_goes_on_while_generations_come(index: Path, url: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    publish(index, url)
    pull(url, copy)
    with open_reader(copy) as reader:
        before = reader.document_text(reader.documents(1)[0].id)
        for number in range(3):
            put(index, "a.txt", f"another text {number}")
            publish(index, url)
            pull(url, copy)
        assert reader.document_text(reader.documents(1)[0].id) == before
        assert reader.info.generation == 1
    assert read_info(copy).generation == 4


def test_readers_open_while_generations_come(index: Path, url: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    publish(index, url)
    pull(url, copy)
    done = threading.Event()
    failures, generations = list[BaseException](), set[int]()

    def read() -> None:
        while not done.is_set():
            try:
                with open_reader(copy) as reader:
                    generations.add(reader.info.generation)
                    assert len(reader.search_lexical("text", 5).vector_ids)
            except BaseException as error:  # noqa: BLE001
                failures.append(error)
                return

    thread = threading.Thread(target=read)
    thread.start()
    for number in range(8):
        put(index, f"{number}", f"text {number}")
        publish(index, url)
        pull(url, copy)
    done.set()
    thread.join()
    assert failures == []
    assert len(generations) > 1


def test_others_write_while_it_is_published(
    index: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All files are replaced after the generation was opened."""
    expected = content(index)
    send = publishing._send

    def first_compact(*arguments: object) -> int:
        put(index, "new", "a new text")
        with open_writer(index) as writer:
            assert writer.compact().merged
        return send(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(publishing, "_send", first_compact)
    publish(index, url)
    pull(url, tmp_path / "copy")
    assert content(tmp_path / "copy") == expected


def test_another_index_is_not_published_over(index: Path, url: str, tmp_path: Path) -> None:
    publish(index, url)
    fill(tmp_path / "other", 2)
    with pytest.raises(InvalidArgument, match="generations of another index"):
        publish(tmp_path / "other", url)
    old = shutil.copytree(index, tmp_path / "old")
    put(index, "new", "a new text")
    publish(index, url)
    with pytest.raises(InvalidArgument, match="holds generation 2 of this index, and this copy"):
        publish(old, url)
    pull(url, tmp_path / "copy")
    assert publish(tmp_path / "other", url, replace=True).number == 3
    pull(url, tmp_path / "copy")
    same(tmp_path / "other", tmp_path / "copy")


def test_two_publish_at_once(index: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(index, url)
    put(index, "new", "a new text")
    publish_in_between(monkeypatch, index, url)
    with pytest.raises(Conflict, match="run this again"):
        publish(index, url)
    assert publish(index, url).is_new is False


def test_what_was_altered_is_not_pulled(index: Path, url: str, tmp_path: Path) -> None:
    publish(index, url)
    pull(url, tmp_path / "copy")
    put(index, "new", "a new text")
    publish(index, url)
    for path in (tmp_path / "bucket").rglob("*"):
        if path.is_file() and path.parent.name == "blocks":
            path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(IndexDamaged, match="is not what was published"):
        pull(url, tmp_path / "copy")
    assert read_info(tmp_path / "copy").generation == 1
    assert list(verify(tmp_path / "copy")) == []


def test_a_damaged_index_is_not_published(index: Path, url: str) -> None:
    [path] = index.glob("vectors-*")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(IndexDamaged, match="indexer verify"):
        publish(index, url)
    assert Bucket(url).list("generations") == []


@pytest.mark.parametrize(
    "change",
    [
        {"files": [{"name": "../../x", "size": 1, "sha256": "0" * 64}]},
        {"files": [{"name": "vectors-a/../b.faiss", "size": 1, "sha256": "0" * 64}]},
        {"files": [{"name": "index.db", "size": 1, "sha256": "0" * 64}]},
        {"blocks": ["../../../etc/passwd"]},
        {"blocks": []},
        {"database_bytes": -5},
        {"number": 0},
        {"generation": {}},
        {"more": 1},
    ],
)
def test_manifests_of_strangers(index: Path, url: str, change: dict[str, object]) -> None:
    publish(index, url)
    name = "generations/00000000000000000001.json"
    body = json.dumps(json.loads(json.loads(Bucket(url).read(name))["manifest"]) | change)
    outer = json.dumps({"sha256": sha256(body.encode()).hexdigest(), "manifest": body})
    with pytest.raises(IndexDamaged, match="publish the index again"):
        Manifest.from_json(outer.encode(), "it")


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b'{"sha256": 1, "manifest": 2}', b"\xff"])
def test_what_is_no_manifest(text: bytes) -> None:
    with pytest.raises(IndexDamaged):
        Manifest.from_json(text, "it")


def test_folders_and_addresses_that_do_not_fit(index: Path, url: str, tmp_path: Path) -> None:
    with pytest.raises(NotAnIndex, match="no index was published"):
        pull(url, tmp_path / "copy")
    publish(index, url)
    with pytest.raises(NotAnIndex, match="an index of its own"):
        pull(url, index)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(NotAnIndex, match=r"holds 'thesis\.tex'"):
        pull(url, tmp_path / "full")
    for address in ("", "docs", "s3://", "http://host/x", "ftp://host/x"):
        with pytest.raises(InvalidArgument, match="no address of an object store"):
            publish(index, address)
    with pytest.raises(InvalidArgument, match="credentials"):
        publish(index, "s3://key:secret@bucket/x")
    with pytest.raises(InvalidArgument, match="keep is 0"):
        publish(index, url, keep=0)
    pull(url, tmp_path / "copy")
    with pytest.raises(InvalidArgument, match="is pulled from an object store"):
        open_writer(tmp_path / "copy", shared=True)
    with build_lock(tmp_path / "copy"), pytest.raises(IndexLocked):
        pull(url, tmp_path / "copy")


def test_an_unreachable_store_is_named(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ENDPOINT": "http://127.0.0.1:9",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "very-secret",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("retrieval.store.objects.RETRIES", 0)
    with pytest.raises(
        StorageError, match="can't reach s3://bucket/docs: no answer from http://127.0.0.1:9"
    ) as raised:
        publish(index, "s3://bucket/docs")
    assert "very-secret" not in str(raised.value)
    assert not re.search(r"\d ?m?s\b|retries", str(raised.value))  # the same each time


@pytest.mark.parametrize(
    "step",
    ["durable_files.flush", "pull.sync", "pull._make_view", "pull._switch", "pull._clean_up"],
)
def test_a_killed_pull_leaves_a_whole_generation(
    index: Path, url: str, tmp_path: Path, step: str
) -> None:
    copy = tmp_path / "copy"
    publish(index, url)
    pull(url, copy)
    put(index, "new", "a new text")
    publish(index, url)
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom retrieval.store import durable_files\n"
        "from retrieval.store.replicas import pull\n"
        f"{step} = lambda *_: os.kill(os.getpid(), 9)\n"
        "pull.pull(sys.argv[1], Path(sys.argv[2]))"
    )
    killed = subprocess.run([sys.executable, "-c", code, url, copy], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert read_info(copy).generation == (2 if step == "pull._clean_up" else 1)
    assert list(verify(copy)) == []
    pull(url, copy)
    same(index, copy)
    assert not list(copy.glob("*.partial"))


@pytest.mark.slow
def test_kills_at_random_moments(index: Path, url: str, tmp_path: Path) -> None:
    """Publishers and pullers are killed 60 times; a copy is always a generation that was made."""
    copy, rng = tmp_path / "copy", random.Random(5)
    made = {1: content(index)}
    publish(index, url)
    pull(url, copy)
    programs = {
        "publish": "from retrieval.store.replicas.publish import publish as run",
        "pull": "from retrieval.store.replicas.pull import pull as run",
    }

    def run(name: str, arguments: Sequence[str]) -> None:
        code = f"{programs[name]}\nimport sys\nfrom pathlib import Path\nprint('on', flush=True)\n"
        code += f"run({', '.join(arguments)})"
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.uniform(0, 0.25))
        process.kill()
        process.wait()

    for number in range(30):
        put(index, f"{number}", f"text {number}")
        made[2 + number] = content(index)
        run("publish", [f"Path({str(index)!r})", repr(url)])
        run("pull", [repr(url), f"Path({str(copy)!r})"])
        assert content(copy) == made[read_info(copy).generation]
        assert list(verify(copy)) == []
    publish(index, url)
    pull(url, copy)
    same(index, copy)
