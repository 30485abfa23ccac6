"""Tests of the store on Lance tables, which `make test-lake` runs."""

from tests.store.stores import HAS_LANCE

collect_ignore_glob = [] if HAS_LANCE else ["*test_*.py"]
