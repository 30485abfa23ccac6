"""The writer process when something fails: a reader, the disk, a commit, the process itself."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import grpc
import pytest

from indexer.ingest.writer.commits.committer import Committer
from indexer.ingest.writer.commits.operations import (
    Conditions,
    DeleteDocument,
    PutDocuments,
    PutResult,
)
from indexer.ingest.writer.embedding import Embedding
from indexer.staging import Prepared, Put, prepare
from retrieval.domain.records import Chunk, ChunkSettings, Document, Section, SourceFile
from retrieval.encoding.encoder import Encoder
from retrieval.errors import Conflict, DiskFull, IndexLocked, StorageError
from retrieval.indexer_v1 import ingest_service_pb2 as pb
from retrieval.store import Commit, open_reader, open_writer, read_info, verify
from tests.indexer.ingest.writer_process import WriterProcess, create, reason, writing
from tests.store.places import can_mount

SLOW = b"<p>one two three.\n" * 400_000
"""Takes a second or so to parse."""


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the writer process writes to standard error."""
    return tmp_path_factory.mktemp("log") / "writer.jsonl"


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory, log: Path) -> Iterator[WriterProcess]:
    with writing(tmp_path_factory.mktemp("data"), log=log, log_format="json") as process:
        create(process)
        yield process


def test_a_killed_reader_costs_one_document(writer: WriterProcess) -> None:
    writer.put("a/1", text="one")
    wait_for(lambda: len(writer.readers()) == 1)  # another one is started with the collection
    [usual] = writer.readers()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(writer.put, "a/slow.html", data=SLOW)
        busy = Path(f"/proc/{usual}/stat")
        before = int(busy.read_text().split()[13])
        wait_for(lambda: int(busy.read_text().split()[13]) > before + 10)
        os.kill(usual, signal.SIGSEGV)
        with pytest.raises(grpc.RpcError) as raised:
            slow.result()
    assert reason(raised.value) == ("INVALID_ARGUMENT", "UNREADABLE_DOCUMENT")
    assert "crashed its parser (ended by SIGSEGV)" in raised.value.details()  # type: ignore[attr-defined]
    assert writer.put("a/2", text="two").documents[0].uri == "a/2"


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    acknowledged: dict[str, str] = {}

    def put_all(writer: WriterProcess, first: int) -> None:
        with suppress(grpc.RpcError):
            for number in range(first, 1_000_000, 4):
                put = writer.put(f"a/{number}", text=f"number {number}")
                acknowledged[f"a/{number}"] = put.documents[0].sha256

    with writing(tmp_path) as writer, ThreadPoolExecutor(4) as pool:
        folder = create(writer)
        for first in range(4):
            pool.submit(put_all, writer, first)
        wait_for(lambda: len(acknowledged) > 20)
        writer.process.kill()
        writer.process.wait()
    assert not list(verify(folder))
    with writing(tmp_path) as writer, open_reader(folder) as reader:
        for uri, sha256 in acknowledged.items():
            row = reader.document_by_uri(uri)
            assert reader.document_text(row.id) == f"number {uri[2:]}"
            again = writer.put(uri, text=f"number {uri[2:]}", if_sha256=sha256)
            assert again.token_count == 0


def test_a_signal_ends_it_after_its_commits(tmp_path: Path) -> None:
    with writing(tmp_path) as writer, ThreadPoolExecutor(8) as pool:
        folder = create(writer)
        writer.put("a/warm", text="warm")
        puts = [pool.submit(writer.put, f"a/{n}", text=f"number {n}") for n in range(100)]
        wait_for(lambda: sum(put.done() for put in puts) > 10)
        writer.process.send_signal(signal.SIGTERM)
        assert writer.process.wait(60) == 0
        done = [put.result() for put in puts if put.exception() is None]
    assert len(done) > 10
    with open_reader(folder) as reader:
        for put in done:
            reader.document_by_uri(put.documents[0].uri)


def test_a_full_disk_refuses_and_loses_nothing(tmp_path: Path) -> None:
    if not can_mount():
        pytest.skip("this user may not mount anything")
    script = 'mount -t tmpfs -o size=6m none "$0" && fallocate -l 3m "$0/ballast" && exec "$@"'
    wrap = ["unshare", "-m", "bash", "-c", script, str(tmp_path)]
    with writing(tmp_path, wrap) as writer:
        create(writer)
        put: list[str] = []
        with pytest.raises(grpc.RpcError) as raised:
            for number in range(1_000):
                writer.put(f"a/{number}", text=f"number {number} " + os.urandom(100_000).hex())
                put.append(f"a/{number}")
        assert reason(raised.value) == ("RESOURCE_EXHAUSTED", "DISK_FULL")
        assert put
        inside = Path(f"/proc/{writer.process.pid}/root{tmp_path}")
        (inside / "ballast").unlink()
        assert writer.put("a/after", text="there is room again").documents[0].uri == "a/after"
        copy = shutil.copytree(inside / "notes", tmp_path / "copy")
    with open_reader(copy) as reader:
        assert [row.uri for row in reader.documents(9_999)] == sorted([*put, "a/after"])
    assert not list(verify(copy))


def test_an_index_that_took_the_place_of_another_is_opened_anew(tmp_path: Path) -> None:
    with writing(tmp_path) as writer:
        folder = create(writer)
        writer.put("a/1", text="one")
        create(writer, "other", chunk_tokens=9)
        shutil.rmtree(folder)
        (tmp_path / "other").rename(folder)
        statuses = []
        for _ in range(4):
            try:
                writer.put("a/2", text="two")
            except grpc.RpcError as error:
                statuses.append(reason(error)[1])
        assert len(statuses) < 4
        assert set(statuses) <= {"STORAGE_ERROR", "MODEL_MISMATCH"}
    with open_reader(folder) as reader:
        assert [row.uri for row in reader.documents(9)] == ["a/2"]
    assert read_info(folder).chunking.chunk_tokens == 9
    assert not list(verify(folder))


def test_what_another_index_held_is_not_taken_for_what_this_one_holds(
    writer: WriterProcess,
) -> None:
    folder = create(writer, "before")
    assert writer.put("a/1", "before", text="one").documents[0].change == pb.CHANGE_CREATED
    assert writer.put("a/1", "before", text="one").documents[0].change == pb.CHANGE_UNCHANGED
    fresh = create(writer, "after")
    shutil.rmtree(folder)
    fresh.rename(folder)
    assert writer.put("a/1", "before", text="one").documents[0].change == pb.CHANGE_CREATED
    assert writer.put("a/2", "before", text="two").documents[0].change == pb.CHANGE_CREATED
    with open_reader(folder) as reader:
        assert [row.uri for row in reader.documents(9)] == ["a/1", "a/2"]


def test_what_clients_are_not_told_is_logged_with_the_id_of_their_request(
    writer: WriterProcess, log: Path
) -> None:
    folder = create(writer, "damaged")
    (folder / "index.db").write_bytes(b"damaged " * 1000)
    request = pb.PutDocumentRequest(collection="collections/damaged", uri="a", text="one")
    with pytest.raises(grpc.RpcError) as raised:
        writer.stub.PutDocument(request, metadata=(("x-request-id", "mine"),))
    assert str(folder) not in raised.value.details()  # type: ignore[attr-defined]
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    [line] = [line for line in lines if line.get("request_id") == "mine"]
    assert line["level"] == "WARNING"
    assert str(folder) in line["message"]


# The commit thread by itself.


@pytest.fixture
def index(tmp_path: Path, encoder: Encoder) -> Path:
    with open_writer(tmp_path / "index", shared=True) as writer:
        writer.set_model(encoder.identity, ChunkSettings(20, 5), "en")
        with writer.commit() as commit:
            commit.set_index_type("flat", 0.9)
    return tmp_path / "index"


@pytest.fixture
def committer(index: Path, encoder: Encoder) -> Iterator[Committer]:
    embedding = Embedding()
    some = Committer(index, lambda texts: embedding.embed(encoder, texts), seconds=0.0)
    yield some
    some.close()
    embedding.close()


def prepared(uri: str, text: str) -> Prepared:
    chunk = Chunk(0, 0, len(text), text, 1, 1, (), len(text.split()))
    document = Document(uri, uri, "text", text, (Section(0, ()),))
    source = SourceFile(Path(), uri, "a", len(text), 1)
    return prepare(document, source, text, [chunk], context=False)


def put(uri: str, text: str, **conditions: Any) -> PutDocuments:
    one = prepared(uri, text)
    return PutDocuments(uri, text, [one], [], False, None, Conditions(**conditions))


@dataclass(frozen=True)
class Poison:
    """An operation that makes its commit fail after a change."""

    error: Exception
    documents: Sequence[Prepared] = ()

    def check(self, commit: Commit) -> None:
        """Nothing to check."""

    def apply(self, commit: Commit, put: Put) -> object:
        commit.remove_documents(["a/0"])
        raise self.error


@dataclass(frozen=True)
class Block:
    """An operation that holds its commit until it is told to go on."""

    go_on: "Future[None]"
    documents: Sequence[Prepared] = ()
    begun: Event = field(default_factory=Event)

    def check(self, commit: Commit) -> None:
        self.begun.set()
        self.go_on.result(60)

    def apply(self, commit: Commit, put: Put) -> object:
        return None


def held_back(committer: Committer, operations: Sequence[Any]) -> list[Any]:
    """Have operations committed together; return their results, or the errors."""
    go_on: Future[None] = Future()
    committer.put(Block(go_on))
    futures = [committer.put(one) for one in operations]
    go_on.set_result(None)
    return [one.exception(60) or one.result() for one in futures]


def test_a_commit_takes_all_that_waits(committer: Committer, index: Path) -> None:
    before = read_info(index).generation
    results = held_back(committer, [put(f"a/{n}", f"text {n}") for n in range(50)])
    assert {one.generation for one in results} == {before + 1}
    assert read_info(index).generation == before + 1


def test_a_refused_operation_spoils_no_other(committer: Committer, index: Path) -> None:
    first, refused, deleted, last = held_back(
        committer,
        [
            put("a/0", "one"),
            put("a/0", "two", if_sha256="other"),
            DeleteDocument("a/0", Conditions(if_sha256="one")),
            put("a/1", "three", if_absent=True),
        ],
    )
    assert isinstance(first.result, PutResult)
    assert isinstance(refused, Conflict)
    assert deleted.result.uris == ["a/0"]
    assert last.generation == read_info(index).generation


def test_a_poisoned_operation_fails_alone(committer: Committer, index: Path) -> None:
    committer.put(put("a/0", "kept")).result(60)
    operations = [put("a/1", "one"), Poison(ValueError("poison")), put("a/2", "two")]
    one, poison, two = held_back(committer, operations)
    assert isinstance(poison, ValueError)
    assert one.generation < two.generation == read_info(index).generation
    with open_reader(index) as reader:
        assert [row.uri for row in reader.documents(9)] == ["a/0", "a/1", "a/2"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (StorageError("the disk refuses"), StorageError),
        (DiskFull("the disk is full"), DiskFull),
        (IndexLocked("locked"), IndexLocked),
    ],
)
def test_what_concerns_all_fails_all_and_the_next_works(
    committer: Committer, index: Path, error: Exception, kind: type[Exception]
) -> None:
    committer.put(put("a/0", "kept")).result(60)
    results = held_back(committer, [put("a/1", "one"), Poison(error), put("a/2", "two")])
    assert {type(one) for one in results} == {kind}
    committer.put(put("a/3", "three")).result(60)
    with open_reader(index) as reader:
        assert [row.uri for row in reader.documents(9)] == ["a/0", "a/3"]


def test_vectors_that_a_compaction_removes_are_made_again(
    committer: Committer, index: Path
) -> None:
    committer.put(put("a/0", "a text of its own")).result(60)
    committer.put(DeleteDocument("a/0", Conditions())).result(60)
    with open_writer(index) as other:
        other.compact()
    done = committer.put(put("a/1", "a text of its own"), {}).result(60)
    assert done.generation == read_info(index).generation
    assert not list(verify(index))


def test_what_was_cancelled_is_not_committed(committer: Committer, index: Path) -> None:
    go_on: Future[None] = Future()
    block = Block(go_on)
    committer.put(block)
    assert block.begun.wait(60)  # what comes now is for the next commit, and waits
    cancelled, other = (committer.put(put(f"a/{n}", f"text {n}")) for n in range(2))
    assert cancelled.cancel()
    go_on.set_result(None)
    other.result(60)
    with open_reader(index) as reader:
        assert [row.uri for row in reader.documents(9)] == ["a/1"]
