"""Tests that `make test-integrations` runs: programs, and documents hard to answer with."""

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from tests.gateway.integrations.conftest import node  # noqa: F401  (a fixture)
from tests.gateway.mcp.harness import write_degenerate
from tests.service.harness import RunningServer, build_index, running

collect_ignore_glob = [] if find_spec("schemathesis") else ["test_*.py"]


@pytest.fixture(scope="session")
def degenerate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("degenerate")
    write_degenerate(folder / "docs")
    index = build_index(folder / "docs", folder / "index", chunk_tokens=250)
    with running({"default": index}) as server:
        yield server
