"""Tests of the store on Lance tables: `make test-lake` runs them.

The fast suite has the contract of stores, which covers this one, too. These would take it a minute,
and 300 MB more in each of its processes.
"""

from pathlib import Path

import pytest

from tests.store.stores import HAS_LANCE

collect_ignore_glob = [] if HAS_LANCE else ["*test_*.py"]

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder as slow; the hook gets those of others, too."""
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.slow)
