"""Tests with the clients of others, which `make test-integrations` installs apart from ours."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("schemathesis") else ["test_*.py"]
