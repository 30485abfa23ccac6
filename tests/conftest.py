"""Fixtures shared by all tests: golden checkpoints and the real offline model."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from retrieval.encoder import Encoder
from retrieval.hub import find_model
from retrieval.registry import OFFLINE_MODEL

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

GOLDEN = Path(__file__).parent / "golden"
GOLDEN_FOLDERS = sorted(path.name for path in GOLDEN.iterdir() if path.is_dir())


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
