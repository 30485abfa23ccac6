"""Fixtures of the stores' tests."""

from pathlib import Path

import pytest

from retrieval.store import Location
from tests.store.stores import STORES, place_in


@pytest.fixture(params=STORES)
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """Location of a new index, in each of the stores."""
    return place_in(request.param, tmp_path)
