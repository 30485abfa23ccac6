"""``retrieval serve --data`` with its writer process: put, found, killed, started again."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from retrieval.client import RetrievalClient
from retrieval.errors import ServiceError
from retrieval.store import verify
from tests.service.harness import Program, free_port, wait_until, word_model

SECONDS = 120.0


def start(data: Path, *options: str) -> Program:
    program = Program(
        "--data", str(data), "--model", str(word_model()), "--log-format", "text", *options
    )  # fmt: skip
    program.wait_ready()
    return program


def writers_of(server: int) -> list[int]:
    """The writer processes that a server has started."""
    command = ["pgrep", "-P", str(server), "-f", "indexer.ingest.writer"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    return [int(line) for line in listed.stdout.split()]


def alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def kept(client: RetrievalClient, collection: str) -> dict[str, str]:
    """URI → text of all documents of a collection."""
    return {
        document.uri: client.document(document.name, with_text=True).text
        for document in client.documents(collection=collection)
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def program(data: Path) -> Iterator[Program]:
    made = start(data, "--listen", "127.0.0.1:0")
    yield made
    made.finish(signal.SIGTERM)


@pytest.fixture
def client(program: Program) -> Iterator[RetrievalClient]:
    with RetrievalClient(program.target, timeout=SECONDS) as connected:
        yield connected


def finds(client: RetrievalClient, word: str, collection: str) -> list[str]:
    found = client.search(word, collection=collection, mode="lexical", k=100)
    return [passage.uri for passage in found.passages]


def test_what_is_put_is_found_until_it_is_deleted(client: RetrievalClient, data: Path) -> None:
    client.create_collection("notes", language="en")
    assert [one.name for one in client.collections()] == ["collections/notes"]
    with pytest.raises(ServiceError, match="already|exists") as caught:
        client.create_collection("notes")
    assert caught.value.status == "ALREADY_EXISTS"

    put = client.put("a/bread", text="Knead the dough.", collection="notes", wait=True)
    assert finds(client, "dough", "notes") == ["a/bread"]
    assert client.document(put.documents[0].name).uri == "a/bread"
    again = client.put("a/bread", text="Knead the dough.", collection="notes")
    assert (again.document.change, again.token_count) == ("unchanged", 0)

    client.put("a/ferry", text="The ferry leaves the harbour.", collection="notes")
    acknowledged = time.monotonic()
    wait_until(lambda: finds(client, "ferry", "notes"))
    assert time.monotonic() - acknowledged < 5  # a second on a machine that is not busy

    client.delete("a/bread", collection="notes", wait=True)
    assert finds(client, "dough", "notes") == []
    client.delete_collection("notes")
    with pytest.raises(ServiceError, match="no collection 'notes'"):
        client.search("ferry", collection="notes")
    assert list(client.collections()) == []
    assert not (data / "notes").exists()


def test_a_writer_killed_in_mid_stream_loses_nothing(
    client: RetrievalClient, program: Program, data: Path
) -> None:
    client.create_collection("stream")
    documents = {f"t/{n}": f"Ticket {n} is about bread." for n in range(120)}
    items = ({"uri": uri, "text": text} for uri, text in documents.items())
    acknowledged = {}
    for number, outcome in enumerate(client.put_many(items, collection="stream")):
        assert not outcome.error
        acknowledged[outcome.uri] = documents[outcome.uri]
        if number == 20:
            (writer,) = writers_of(program.process.pid)
            os.kill(writer, signal.SIGKILL)
    assert acknowledged == documents
    client.reload("stream")
    assert kept(client, "stream") == documents
    assert not list(verify(data / "stream"))


@pytest.mark.slow
def test_a_server_killed_in_mid_stream_loses_nothing_and_leaves_no_process(
    tmp_path: Path,
) -> None:
    listen = ("--listen", f"127.0.0.1:{free_port()}")
    program = start(tmp_path, *listen)
    documents = {f"t/{n}": f"Ticket {n} is about bread." for n in range(200)}
    items = ({"uri": uri, "text": text} for uri, text in documents.items())
    acknowledged = {}
    with RetrievalClient(program.target, timeout=SECONDS) as client:
        client.create_collection("stream")
        (writer,) = writers_of(program.process.pid)
        try:
            for number, outcome in enumerate(client.put_many(items, collection="stream")):
                assert not outcome.error
                acknowledged[outcome.uri] = documents[outcome.uri]
                if number == 20:
                    os.kill(program.process.pid, signal.SIGKILL)
                    program.finish()
                    at_the_kill = dict(acknowledged)
                    wait_until(lambda: not alive(writer))
                    program = start(tmp_path, *listen)
                    found = kept(client, "stream")
                    assert found.items() >= at_the_kill.items()
            assert acknowledged == documents
            client.reload("stream")
            assert kept(client, "stream") == documents
        finally:
            program.finish(signal.SIGTERM)
    assert not list(verify(tmp_path / "stream"))
