"""A server of an index that another machine publishes to an object store."""

import logging
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from indexer.commands.cli import main as indexer
from retrieval.client import RetrievalClient
from retrieval.errors import InvalidArgument, NotAnIndex
from retrieval.service.config import ServiceConfig, pulled_indexes
from retrieval.store import Location, verify
from retrieval.store.replicas.publish import publish
from tests.service.collections.test_reload import build
from tests.service.harness import Program, RunningServer, running, wait_until

SOON = 0.05


@pytest.fixture
def url(tmp_path: Path) -> str:
    return (tmp_path / "bucket").as_uri()


def finds(client: RetrievalClient, word: str) -> bool:
    return bool(client.search(word, collection="docs", mode="lexical").passages)


@contextmanager
def pulling(url: str, copy: Path) -> Iterator[tuple[RunningServer, RetrievalClient]]:
    with (
        running(
            {"docs": copy}, pulled={"docs": url}, pull_seconds=SOON, reload_seconds=SOON
        ) as server,
        RetrievalClient(server.target) as client,
    ):
        yield server, client


def test_new_generations_are_served_and_an_outage_is_survived(
    tmp_path: Path, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    index, copy = build(tmp_path, "apples"), tmp_path / "copies" / "docs"
    publish(index, url)
    with caplog.at_level(logging.INFO), pulling(url, copy) as (_, client):
        assert finds(client, "apples")
        build(tmp_path, "oranges")
        publish(index, url)
        wait_until(lambda: finds(client, "oranges") and not finds(client, "apples"))
        (tmp_path / "bucket").rename(tmp_path / "away")
        wait_until(lambda: "docs can't be pulled: no index was published" in caplog.text)
        assert finds(client, "oranges")
        shutil.rmtree(tmp_path / "bucket")
        (tmp_path / "away").rename(tmp_path / "bucket")
        wait_until(lambda: "docs can be pulled again" in caplog.text)
        build(tmp_path, "pears")
        publish(index, url)
        wait_until(lambda: finds(client, "pears"))
    assert caplog.text.count("can't be pulled") == 1
    assert list(verify(copy)) == []


def test_a_server_starts_with_its_last_copy(
    tmp_path: Path, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    index, copy = build(tmp_path, "apples"), tmp_path / "copy"
    with pytest.raises(NotAnIndex, match="no index was published"), pulling(url, copy):
        pytest.fail("there is nothing to serve")
    publish(index, url)
    with pulling(url, copy):
        pass
    shutil.rmtree(tmp_path / "bucket")
    with pulling(url, copy) as (_, client):
        assert finds(client, "apples")
        assert "docs can't be pulled" in caplog.text


def test_the_commands(tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    index, copies = build(tmp_path, "apples"), tmp_path / "copies"
    for said in ("published generation 1 to file:///", "generation 1 is at file:///"):
        assert indexer(["publish", url, "--index", str(index)]) == 0
        assert capsys.readouterr().out.startswith(said)
    server = Program(
        *("--index", f"docs={url}", "--pull", str(copies), "--pull-interval", "0.1"),
        *("--listen", "127.0.0.1:0"),
    )
    try:
        assert "collection docs: 3 documents" in server.wait_ready()
        with RetrievalClient(server.target) as client:
            assert finds(client, "apples")
    finally:
        assert server.finish(signal.SIGTERM)[0] == 0
    assert indexer(["build", str(tmp_path / "documents"), "--index", str(copies / "docs")]) == 2
    assert "is a copy that is pulled" in capsys.readouterr().err
    assert indexer(["publish", "nowhere", "--index", str(index)]) == 2
    assert "nowhere is no address of an object store" in capsys.readouterr().err


def test_where_indexes_are_pulled_to(tmp_path: Path) -> None:
    places = {"docs": Location("s3", "bucket/docs"), "code": Location("", "code-index")}
    assert pulled_indexes(places, tmp_path) == (
        {"docs": Location("", str(tmp_path / "docs")), "code": Location("", "code-index")},
        {"docs": "s3://bucket/docs"},
    )
    assert pulled_indexes({"code": places["code"]}, None) == ({"code": places["code"]}, {})
    assert pulled_indexes(places, None) == (places, {})  # tables are served from where they are
    with pytest.raises(InvalidArgument, match=r"give --pull DIR .* to file:///docs, in this case"):
        pulled_indexes({"docs": Location("file", "/docs")}, None)
    with pytest.raises(InvalidArgument, match="--pull needs an index in an object store"):
        pulled_indexes({"code": places["code"]}, tmp_path)
    with pytest.raises(InvalidArgument, match="--pull-interval"):
        ServiceConfig(indexes=places, pull_seconds=0)
