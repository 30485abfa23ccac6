"""The indexes that earlier versions made."""

import shutil
from pathlib import Path

import pytest

INDEXES = ("index",)
"""Folders beside this file, the oldest first; see ``make_index``."""


@pytest.fixture(params=INDEXES, scope="module")
def pinned_index(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of an index that an earlier version made, shared by the tests that only read it."""
    made = Path(__file__).parent / str(request.param)
    return Path(shutil.copytree(made, tmp_path_factory.mktemp("pinned") / "index"))
