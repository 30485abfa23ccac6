"""An object store that stops answering in the middle of a commit or of a read."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from retrieval.errors import StorageError, StorageRefused
from retrieval.store import Location, open_reader, read_info, read_version, verify
from retrieval.store.lake import place as places
from retrieval.store.lake.writing import writer as writing
from tests.store.replicas.seaweed import BUCKET, seaweed_process
from tests.store.stores import needs_s3
from tests.store.test_store import fill, key, new_writer, staged, unit_vectors

pytestmark = [needs_s3, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A store of the test's own; its process id."""
    monkeypatch.setenv("RETRIEVAL_CACHE_DIR", str(tmp_path / "copies"))
    monkeypatch.setattr("retrieval.store.objects.REQUEST_SECONDS", 4)
    monkeypatch.setattr("retrieval.store.objects.RETRIES", 0)
    monkeypatch.setitem(places._STORAGE_OPTIONS, "timeout", "4s")
    monkeypatch.setitem(places._STORAGE_OPTIONS, "client_max_retries", "0")
    with seaweed_process(tmp_path / "store") as (environment, process):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield process.pid
        os.kill(process.pid, signal.SIGCONT)


def test_a_store_that_stops_answering(store: int, monkeypatch: pytest.MonkeyPatch) -> None:
    index = Location.parse(f"s3://{BUCKET}/index")
    fill(index, 3)
    reader = open_reader(index)
    real = writing.put_pointer

    def stopped(*arguments: object) -> None:
        os.kill(store, signal.SIGSTOP)
        real(*arguments)  # type: ignore[arg-type]

    with new_writer(index) as writer:
        with pytest.MonkeyPatch.context() as patched, pytest.raises(StorageError, match="lost the"):
            patched.setattr(writing, "put_pointer", stopped)
            with writer.commit() as commit:
                ids = commit.add_vectors([key("x")], unit_vectors(1, 9), [False])
                commit.put_document(staged("d/x", ["x"], ids))
        with pytest.raises(StorageError, match="can't reach s3://test/index: no answer from http:"):
            read_version(index)
        with pytest.raises(StorageError, match="can't reach s3://test/index: no answer from http:"):
            reader.passage(1, 0)
        os.kill(store, signal.SIGCONT)
        assert reader.passage(1, 0).text == "text 0 of d/a.txt"
        with writer.commit() as commit:  # whether the one before has arrived or not
            known = commit.find_vectors([key("x")])
            ids = list(known.values()) or commit.add_vectors(
                [key("x")], unit_vectors(1, 9), [False]
            )
            commit.put_document(staged("d/x", ["x"], ids))
    assert (read_info(index).documents, read_info(index).vectors) == (2, 4)
    assert list(verify(index)) == []


def test_a_bucket_that_is_not_there(store: int) -> None:
    assert store
    with pytest.raises(StorageRefused, match="there is no bucket for s3://other/index"):
        fill(Location.parse("s3://other/index"), 1)
    with pytest.raises(StorageRefused, match="there is no bucket for s3://other/index"):
        open_reader("s3://other/index")


def test_without_encryption_only_if_that_is_allowed(
    store: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    with pytest.raises(StorageRefused, match="allow that with AWS_ALLOW_HTTP=true"):
        open_reader(f"s3://{BUCKET}/index")
