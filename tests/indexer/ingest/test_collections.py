"""The collections of a writer process, without the process."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

import pytest

from indexer.ingest.writer import collections
from indexer.ingest.writer.collection import Shared
from indexer.ingest.writer.collections import NewCollection, WritableCollections
from indexer.ingest.writer.commits.operations import ChangeSettings, Conditions, PutResult
from indexer.ingest.writer.embedding import Embedding
from indexer.ingest.writer.models import Models
from indexer.ingest.writer.room import Room
from indexer.ingest.writer.uploads.upload import Upload, upload_of
from indexer.readers.on_demand import OnDemandReaders
from retrieval.errors import NotServing
from retrieval.indexer_v1 import ingest_service_pb2 as pb
from retrieval.store import open_reader
from tests.indexer.ingest.test_faults import Block
from tests.service.harness import word_model


def open_files(folder: Path) -> list[str]:
    """Files below a folder that this process has open, deleted ones included."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found.append(str(descriptor.readlink()))
    return [path for path in found if path.startswith(f"{folder}/")]


def with_notes(
    folder: Path, scenario: Callable[[WritableCollections, OnDemandReaders], Awaitable[None]]
) -> None:
    """Run a scenario with an empty collection of the name ``notes``."""

    async def main() -> None:
        embedding = Embedding()
        with OnDemandReaders(1, 1) as readers:
            models = Models((str(word_model()),), "cpu")
            shared = Shared(models, embedding, readers, Room(1 << 20), 0.0)
            some = WritableCollections({}, folder, shared)
            await some.create(NewCollection("notes", "", None, None, ChangeSettings("", "", 0.0)))
            try:
                await scenario(some, readers)
            finally:
                await some.close()
        embedding.close()

    asyncio.run(main())


def upload(text: str, seconds: int = 0) -> Upload:
    request = pb.PutDocumentRequest(uri="a", text=text)
    request.modify_time.FromSeconds(seconds)
    return upload_of(request)


def test_files_that_somebody_deleted_are_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collections, "_LOOK_SECONDS", 0.01)

    async def scenario(some: WritableCollections, _readers: OnDemandReaders) -> None:
        notes = await some.get("notes")
        await notes.put(upload("one"), Conditions())
        looking = asyncio.create_task(some.close_deleted())
        await asyncio.sleep(0.05)
        assert open_files(tmp_path)
        shutil.rmtree(tmp_path / "notes")
        async with asyncio.timeout(60):
            while open_files(tmp_path):
                await asyncio.sleep(0.01)
        looking.cancel()

    with_notes(tmp_path, scenario)


def test_another_modification_time_alone_reads_nothing(tmp_path: Path) -> None:
    async def scenario(some: WritableCollections, readers: OnDemandReaders) -> None:
        notes = await some.get("notes")
        first = await notes.put(upload("one", 7), Conditions())
        assert isinstance(first.result, PutResult)
        readers.close()  # nothing can be read any more
        second = await notes.put(upload("one", 8), Conditions(if_sha256=upload("one").sha256))
        third = await notes.put(upload("one", 8), Conditions())
        for done in (second, third):
            assert isinstance(done.result, PutResult)
            assert [one.change for one in done.result.documents] == ["unchanged"]
            assert (done.generation, done.tokens) == (first.generation + 1, 0)
        with open_reader(tmp_path / "notes") as reader:
            assert reader.document_by_uri("a").modified_at == "1970-01-01T00:00:08Z"
        with pytest.raises(NotServing):
            await notes.put(upload("two", 8), Conditions())

    with_notes(tmp_path, scenario)


def test_a_document_replaced_before_its_time_is_changed_is_put(tmp_path: Path) -> None:
    async def scenario(some: WritableCollections, _readers: OnDemandReaders) -> None:
        notes = await some.get("notes")
        await notes.put(upload("one", 7), Conditions())
        waiting = notes._committer._gatherer._waiting
        go_on: Future[None] = Future()
        notes._committer.put(Block(go_on))
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            while waiting:  # until a commit is under way
                await asyncio.sleep(0.01)
            group.create_task(notes.put(upload("two", 7), Conditions()))
            while not waiting:
                await asyncio.sleep(0.01)
            again = group.create_task(notes.put(upload("one", 8), Conditions()))
            while len(waiting) < 2:
                await asyncio.sleep(0.01)
            go_on.set_result(None)
        result = again.result().result
        assert isinstance(result, PutResult)
        assert [one.change for one in result.documents] == ["updated"]
        with open_reader(tmp_path / "notes") as reader:
            assert reader.document_text(reader.document_by_uri("a").id) == "one"

    with_notes(tmp_path, scenario)
