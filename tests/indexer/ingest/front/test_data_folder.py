"""Collections that other programs build into the folder of ``--data``, and delete there."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from indexer.ingest.front.process import supervisor
from retrieval.client import RetrievalClient
from retrieval.errors import ServiceError
from retrieval.service.config import Writing
from retrieval.store import open_writer
from tests.indexer.ingest.front.test_door import COMMAND
from tests.service.harness import RunningServer, running, wait_until

SOON = 0.05


@pytest.fixture
def data(index: Path, tmp_path: Path) -> Path:
    shutil.copytree(index, tmp_path / "data" / "old")
    return tmp_path / "data"


@pytest.fixture
def server(index: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningServer]:
    monkeypatch.setattr(supervisor, "COMMAND", COMMAND)
    indexes = {"named": index, "old": data / "old"}
    with running(indexes, writing=Writing(data), reload_seconds=SOON) as running_server:
        yield running_server


@pytest.fixture
def client(server: RunningServer) -> Iterator[RetrievalClient]:
    with RetrievalClient(server.target) as connected:
        yield connected


def names(client: RetrievalClient) -> list[str]:
    return [one.name.removeprefix("collections/") for one in client.collections()]


def test_what_is_built_appears_and_what_is_deleted_vanishes(
    client: RetrievalClient, index: Path, data: Path
) -> None:
    assert names(client) == ["named", "old"]
    for other in (".hidden", "Not A Name", "empty"):  # no collections
        (data / other).mkdir()
    shutil.copytree(index, data / ".hidden", dirs_exist_ok=True)
    shutil.copytree(index, data / "new")
    wait_until(lambda: names(client) == ["named", "new", "old"])
    assert client.search("dough", collection="new", k=1).passages
    assert client.health("new")
    (data / "old").rename(data / ".removed")
    wait_until(lambda: names(client) == ["named", "new"])
    with pytest.raises(ServiceError, match="no collection 'old'"):
        client.search("dough", collection="old")
    shutil.copytree(index, data / "old")
    wait_until(lambda: names(client) == ["named", "new", "old"])


def test_an_index_that_can_not_be_opened_is_named_once(
    client: RetrievalClient, index: Path, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (data / "bad").mkdir()
    (data / "bad" / "index.db").write_bytes(b"damaged " * 1000)
    wait_until(lambda: "collection bad can't be opened" in caplog.text)
    shutil.copytree(index, data / ".good")
    with open_writer(data / "begun"):  # a build that has committed nothing yet
        pass
    (data / ".good").rename(data / "good")
    wait_until(lambda: names(client) == ["good", "named", "old"])
    assert caplog.text.count("can't be opened") == 1


def test_a_folder_that_is_not_there_says_nothing_about_collections(
    client: RetrievalClient, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wait_until(lambda: names(client) == ["named", "old"])
    shutil.copytree(data / "old", data / "new")
    wait_until(lambda: names(client) == ["named", "new", "old"])  # so it has been looked at
    data.rename(data.with_name("unmounted"))
    data.mkdir()
    wait_until(lambda: "another folder has taken its place" in caplog.text)
    assert names(client) == ["named", "new", "old"]
    data.rmdir()
    data.with_name("unmounted").rename(data)
    shutil.copytree(data / "old", data / "newer")
    wait_until(lambda: names(client) == ["named", "new", "newer", "old"])
