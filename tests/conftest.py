"""Fixtures shared by all tests: golden checkpoints and the real offline model."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import is_hypothesis_test, settings

from retrieval.encoder import Encoder
from retrieval.hub import find_model
from retrieval.registry import OFFLINE_MODEL
from tests.drawing import FUZZ, STEADY, draw_more

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
def minilm() -> Iterator[Encoder]:
    """The real all-MiniLM-L6-v2, loaded once."""
    yield Encoder.load(OFFLINE_MODEL, device="cpu")


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Undo what ``retrieval serve`` sets up: its stream is gone when the test is over."""
    root, ours = logging.getLogger(), logging.getLogger("retrieval")
    level, handlers, our_level = root.level, root.handlers[:], ours.level
    yield
    root.setLevel(level)
    root.handlers[:] = handlers
    ours.setLevel(our_level)
