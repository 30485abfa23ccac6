"""Indexes that can be served, and not as they should be: what the server and its log say."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from indexer.build.build import build
from indexer.build.progress import SilentProgress
from indexer.build.settings import BuildOptions
from retrieval.client import RetrievalClient
from retrieval.errors import ServiceError
from retrieval.store import IndexType
from retrieval.store.disk.vectors import tuning
from retrieval.store.disk.writing import maintenance
from tests.service.harness import running
from tests.tiny_model import make_tiny_model


def test_a_server_names_words_that_it_can_not_search(
    index: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "old"
    shutil.copytree(index, folder)
    with closing(sqlite3.connect(folder / "index.db")) as connection, connection:
        connection.execute("UPDATE lexical_index SET analysis = analysis - 1")
    with (
        caplog.at_level("WARNING"),
        running({"default": index, "old": folder}) as server,
        RetrievalClient(server.target) as client,
    ):
        assert client.search("bread", collection="old").passages
        with pytest.raises(ServiceError, match="no words.*indexer build") as caught:
            client.search("bread", collection="old", mode="lexical")
    assert caught.value.service_reason == "NO_LEXICAL_INDEX"
    (warning,) = [
        record.getMessage() for record in caplog.records if "words" in record.getMessage()
    ]
    assert warning.startswith("collection old is searched by vectors alone")


@pytest.mark.parametrize(
    ("index_type", "expected"), [("auto", "are searched exactly"), ("ivf", "with recall@10")]
)
def test_a_server_names_a_recall_that_is_missed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    index_type: IndexType,
    expected: str,
) -> None:
    for name in ("MIN_ANN_ROWS", "EXACT_ROWS"):
        monkeypatch.setattr(maintenance, name, 100)
    monkeypatch.setattr(tuning, "CANDIDATES", (10,))
    lines = "".join(json.dumps({"text": f"{n} {n * n}"}) + "\n" for n in range(400))
    (tmp_path / "a.jsonl").write_text(lines)
    folder, model = tmp_path / "index", str(make_tiny_model(tmp_path / "model"))
    options = BuildOptions(
        [tmp_path / "a.jsonl"],
        folder,
        model,
        chunk_tokens=40,
        device="cpu",
        index_type=index_type,
        target_recall=1.0,
    )
    build(options, SilentProgress())
    with caplog.at_level("WARNING"), running({"numbers": folder}):
        pass
    (warning,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert warning.getMessage().startswith("collection numbers: 400 vectors are searched ")
    assert expected in warning.getMessage()
