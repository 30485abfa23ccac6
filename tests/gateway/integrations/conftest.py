"""Tests with the clients of others, which `make test-integrations` installs apart from ours."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

collect_ignore_glob = [] if find_spec("schemathesis") else ["test_*.py"]

HERE = Path(__file__).parent

RunScript = Callable[..., Any]
"""Runs a script with arguments; returns what it prints, which is JSON."""


@pytest.fixture(scope="session")
def node() -> RunScript:
    """Node, with the packages in a folder of the environment; the first run installs them."""
    if shutil.which("npm") is None:
        pytest.skip("there is no Node.js here: install it with npm to test its clients")
    folder = Path(sys.prefix) / "node"
    wanted, installed = HERE / "package.json", folder / ".installed"
    if not installed.exists() or installed.read_text() != wanted.read_text():
        folder.mkdir(exist_ok=True)
        shutil.copy(wanted, folder)
        subprocess.run(["npm", "install", "--no-audit", "--no-fund"], cwd=folder, check=True)
        installed.write_text(wanted.read_text())

    def run(script: Path, *arguments: str) -> Any:
        # Node looks for packages beside the script.
        copied = shutil.copy(script, folder)
        done = subprocess.run(
            ["node", copied, *arguments], capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run
