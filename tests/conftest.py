"""Fixtures shared by all tests: golden checkpoints, models, indexes, a server."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import is_hypothesis_test, settings

from retrieval.client import RetrievalClient
from retrieval.encoding.encoder import Encoder
from retrieval.encoding.model_cards import OFFLINE_MODEL
from retrieval.encoding.model_folders import find_model
from tests.drawing import FUZZ, STEADY, draw_more
from tests.service.harness import RunningServer, build_index, running, word_model, write_documents

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

settings.load_profile(STEADY)

GOLDEN = Path(__file__).parent / "golden"
GOLDEN_FOLDERS = sorted(path.name for path in GOLDEN.iterdir() if path.is_dir())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests that hypothesis draws for; let them draw more under the profile ``fuzz``."""
    fuzz = config.getoption("--hypothesis-profile") == FUZZ
    drawn = [
        item
        for item in items
        if isinstance(item, pytest.Function) and is_hypothesis_test(item.function)
    ]
    for item in drawn:
        item.add_marker("drawn")
    # A parametrized test is one function with many items.
    for test in {item.function for item in drawn} if fuzz else ():
        draw_more(test)


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of the golden checkpoints."""
    return GOLDEN


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """The real all-MiniLM-L6-v2, from its package."""
    return find_model(OFFLINE_MODEL).path


@pytest.fixture(scope="session")
def minilm() -> Encoder:
    """The real all-MiniLM-L6-v2, loaded once."""
    return Encoder.load(OFFLINE_MODEL, device="cpu")


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    """The tiny model of the indexes below."""
    return Encoder.load(str(word_model()), device="cpu")


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Undo what ``retrieval serve`` sets up: its stream is gone when the test is over."""
    root, ours = logging.getLogger(), logging.getLogger("retrieval")
    level, handlers, our_level = root.level, root.handlers[:], ours.level
    yield
    root.setLevel(level)
    root.handlers[:] = handlers
    ours.setLevel(our_level)


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
