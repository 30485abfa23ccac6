"""Places for indexes of every store."""

import importlib.util
from pathlib import Path
from typing import Final

import pytest

from retrieval.store import Location

HAS_LANCE: Final = importlib.util.find_spec("lance") is not None

needs_lance = pytest.mark.skipif(
    not HAS_LANCE, reason="pylance is not installed; `make test-lake` installs it apart"
)

STORES: Final = ("folder", pytest.param("lake", marks=needs_lance))
"""Parameters of tests that run against every store."""


def place_in(store: str, folder: Path) -> Location:
    """Return the location of a new index of a store in a folder."""
    return Location("lance" if store == "lake" else "", str(folder / "index"))
