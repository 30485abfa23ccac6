"""An index whose words an older version made: what the server, the client and the log say."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from retrieval.client import RetrievalClient
from retrieval.errors import ServiceError
from tests.service.harness import running


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
