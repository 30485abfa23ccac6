"""One small index and one server over it for all tests that don't change them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from retrieval.client import RetrievalClient
from tests.service.harness import RunningServer, build_index, running, write_documents


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("service")
    write_documents(folder / "notes")
    return build_index(folder / "notes", folder / "index")


@pytest.fixture(scope="session")
def other_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("other")
    (folder / "tea").mkdir()
    (folder / "tea" / "tea.md").write_text("# Tea\n\nGreen tea is steeped at eighty degrees.\n")
    return build_index(folder / "tea", folder / "index")


@pytest.fixture(scope="session")
def server(index: Path, other_index: Path) -> Iterator[RunningServer]:
    with running({"default": index, "tea": other_index}) as running_server:
        yield running_server


@pytest.fixture
def client(server: RunningServer) -> Iterator[RetrievalClient]:
    with RetrievalClient(server.target) as connected:
        yield connected
