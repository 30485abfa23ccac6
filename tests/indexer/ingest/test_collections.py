"""The collections of a writer process, without the process."""

import asyncio
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from indexer.ingest.writer import collections
from indexer.ingest.writer.collection import Shared
from indexer.ingest.writer.collections import NewCollection, WritableCollections
from indexer.ingest.writer.commits.operations import ChangeSettings, Conditions
from indexer.ingest.writer.embedding import Embedding
from indexer.ingest.writer.models import Models
from indexer.ingest.writer.room import Room
from indexer.ingest.writer.uploads import upload_of
from indexer.readers.on_demand import OnDemandReaders
from retrieval.indexer_v1 import ingest_service_pb2 as pb
from tests.service.harness import word_model


def open_files(folder: Path) -> list[str]:
    """Files below a folder that this process has open, deleted ones included."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found.append(str(descriptor.readlink()))
    return [path for path in found if path.startswith(f"{folder}/")]


def test_files_that_somebody_deleted_are_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collections, "_LOOK_SECONDS", 0.01)

    async def scenario() -> None:
        embedding = Embedding()
        with OnDemandReaders(1, 1) as readers:
            models = Models(str(word_model()), "cpu")
            shared = Shared(models, embedding, readers, Room(1 << 20), 0.0)
            some = WritableCollections({}, tmp_path, shared)
            await some.create(NewCollection("notes", "", None, None, ChangeSettings("", "", 0.0)))
            notes = await some.get("notes")
            request = pb.PutDocumentRequest(uri="a", text="one")
            await notes.put(upload_of(request), Conditions())
            looking = asyncio.create_task(some.close_deleted())
            await asyncio.sleep(0.05)
            assert open_files(tmp_path)
            shutil.rmtree(tmp_path / "notes")
            async with asyncio.timeout(60):
                while open_files(tmp_path):
                    await asyncio.sleep(0.01)
            looking.cancel()
        embedding.close()

    asyncio.run(scenario())
