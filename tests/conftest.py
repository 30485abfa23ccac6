"""Fixtures shared by all tests: golden checkpoints, models, indexes, a server.

They import the packages when they are used. The process that only deals tests out to others reads
this file, too, and needs none of them.
"""

import gc
import logging
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from hypothesis import is_hypothesis_test, settings

from tests.drawing import FUZZ, STEADY, draw_more

if TYPE_CHECKING:
    from retrieval.client import RetrievalClient
    from retrieval.encoding.encoder import Encoder
    from tests.service.harness import RunningServer

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
# oneDNN and torch's layer above it keep the code for the last 1,024 shapes of a product each, and
# drawn tests have no end of shapes: that is 450 MiB in a process that has run all of them.
# With 32 instead of 256, training takes half as long again, because it repeats its shapes.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256")
os.environ.setdefault("LRU_CACHE_CAPACITY", "256")

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


def pytest_collection_finish() -> None:
    """Exempt what imports and collecting have made from garbage collection: it stays anyway.

    A full collection would look at each of these million objects.
    """
    gc.collect()
    gc.freeze()


class _Trimmed:
    """How much memory the process had after freed memory was last returned to the system."""

    resident = 0


def _resident() -> int:
    """Bytes of this process that are in memory; 0 where the system does not say."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Return freed memory to the system after each module, and after a test that took much."""
    from retrieval.service.limits.memory import trim_memory

    ends = nextitem is None or nextitem.path != item.path
    if ends or _resident() > _Trimmed.resident + (64 << 20):
        gc.collect()
        trim_memory()
        _Trimmed.resident = _resident()


@pytest.fixture(scope="session", autouse=True)
def somebodys_process() -> Iterator[None]:
    """Keep commands that tests run in this process from claiming it as the program's own.

    The C library would then keep all memory that is freed from that moment on.
    """
    from retrieval.commands import program

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(program, "claim_process", lambda: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def one_reader() -> Iterator[None]:
    """Read the files of builds in this process with one reader: each takes 0.15 s to start.

    Programs that tests start have a reader for each core, and so have the tests of the readers.
    """
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("indexer.build.site.reader_count", lambda files: min(files, 1))
        yield


@pytest.fixture(scope="session", autouse=True)
def forked_readers() -> Iterator[None]:
    """Fork the readers of builds in this process from one: each would import for 0.12 s."""
    from tests.commands.forking import Forked

    started = SimpleNamespace(Popen=Forked, DEVNULL=subprocess.DEVNULL)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("indexer.readers.worker.subprocess", started)
        yield


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of the golden checkpoints."""
    return GOLDEN


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """The real all-MiniLM-L6-v2, from its package."""
    from retrieval.encoding.model_cards import OFFLINE_MODEL
    from retrieval.encoding.model_folders import find_model

    return find_model(OFFLINE_MODEL).path


@pytest.fixture(scope="module")
def minilm() -> "Encoder":
    """The real all-MiniLM-L6-v2, loaded once for a module."""
    from retrieval.encoding.encoder import Encoder
    from retrieval.encoding.model_cards import OFFLINE_MODEL

    return Encoder.load(OFFLINE_MODEL, device="cpu")


@pytest.fixture(scope="session")
def encoder() -> "Encoder":
    """The tiny model of the indexes below."""
    from retrieval.encoding.encoder import Encoder
    from tests.service.harness import word_model

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
    from tests.service.harness import build_index, write_documents

    folder = tmp_path_factory.mktemp("service")
    write_documents(folder / "notes")
    return build_index(folder / "notes", folder / "index")


@pytest.fixture(scope="session")
def other_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.service.harness import build_index

    folder = tmp_path_factory.mktemp("other")
    (folder / "tea").mkdir()
    (folder / "tea" / "tea.md").write_text("# Tea\n\nGreen tea is steeped at eighty degrees.\n")
    return build_index(folder / "tea", folder / "index")


@pytest.fixture(scope="session")
def server(index: Path, other_index: Path) -> Iterator["RunningServer"]:
    from tests.service.harness import running

    with running({"default": index, "tea": other_index}) as running_server:
        yield running_server


@pytest.fixture
def client(server: "RunningServer") -> Iterator["RetrievalClient"]:
    from retrieval.client import RetrievalClient

    with RetrievalClient(server.target) as connected:
        yield connected
