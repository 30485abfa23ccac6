"""Documents that are put into an index on Lance tables, by ``retrieval serve --writable``."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from indexer.build.build import build
from indexer.build.progress import SilentProgress
from indexer.build.settings import BuildOptions
from indexer.ingest.writer.settings import WriterSettings
from retrieval.client import RetrievalClient
from retrieval.store import Location, read_info, verify
from tests.indexer.ingest.test_end_to_end import SECONDS, finds, kept, writers_of
from tests.service.harness import Program, word_model


def options(place: Location, documents: Path) -> BuildOptions:
    return BuildOptions([documents], place, model=str(word_model()), device="cpu")


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documents") / "built"
    folder.mkdir()
    (folder / "ferry.md").write_text("# Ferry\n\nThe ferry leaves the harbour.\n")
    return folder


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory, documents: Path) -> Location:
    place = Location("lance", str(tmp_path_factory.mktemp("lake") / "notes é"))
    build(options(place, documents), SilentProgress())
    return place


@pytest.fixture(scope="module")
def program(lake: Location) -> Iterator[Program]:
    made = Program(
        *("--index", f"notes={lake}", "--writable", "--model", str(word_model())),
        *("--listen", "127.0.0.1:0", "--log-format", "text"),
    )
    made.wait_ready()
    yield made
    made.finish(signal.SIGTERM)


@pytest.fixture
def client(program: Program) -> Iterator[RetrievalClient]:
    with RetrievalClient(program.target, timeout=SECONDS) as connected:
        yield connected


def test_settings_keep_the_location_of_a_collection() -> None:
    places = {
        "a": Location("lance", "/srv/a b"),
        "b": Location("", "/srv/é"),
        "c": Location("s3", "x/y"),
    }
    settings = WriterSettings(socket=Path("socket"), collections=places)
    assert WriterSettings.from_json(settings.to_json()) == settings


def test_what_is_put_is_found_until_it_is_deleted(
    client: RetrievalClient, lake: Location, documents: Path
) -> None:
    assert finds(client, "ferry", "notes") == ["built/ferry.md"]
    client.put("a/bread", text="Knead the dough.", collection="notes", wait=True)
    assert finds(client, "dough", "notes") == ["a/bread"]
    again = client.put("a/bread", text="Knead the dough.", collection="notes")
    assert (again.document.change, again.token_count) == ("unchanged", 0)
    client.update_collection("notes", target_recall=0.95)
    assert read_info(lake).target_recall == 0.95

    (documents / "train.md").write_text("# Train\n\nThe train is late.\n")
    build(options(lake, documents), SilentProgress())  # beside the server
    client.reload("notes")
    assert finds(client, "train", "notes") == ["built/train.md"]
    assert finds(client, "dough", "notes") == ["a/bread"]

    client.delete("a/bread", collection="notes", wait=True)
    assert finds(client, "dough", "notes") == []
    assert list(verify(lake)) == []


@pytest.mark.slow
def test_a_writer_killed_in_mid_stream_loses_nothing(
    client: RetrievalClient, program: Program, lake: Location
) -> None:
    documents = {f"t/{n}": f"Ticket {n} is about bread." for n in range(60)}
    items = ({"uri": uri, "text": text} for uri, text in documents.items())
    acknowledged = {}
    for number, outcome in enumerate(client.put_many(items, collection="notes")):
        assert not outcome.error
        acknowledged[outcome.uri] = documents[outcome.uri]
        if number == 20:
            (writer,) = writers_of(program.process.pid)
            os.kill(writer, signal.SIGKILL)
    assert acknowledged == documents
    client.reload("notes")
    there = kept(client, "notes")
    assert {uri: there[uri] for uri in documents} == documents
    assert list(verify(lake)) == []
