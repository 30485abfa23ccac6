"""Real places where nothing can be written: mounts of this test's own, for root only."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

EVERYTHING_READ_ONLY = """
    findmnt -rno TARGET | tac | grep -vE '^/(proc|sys|dev)(/|$)' |
        while read place; do mount -o remount,ro,bind "$place" 2>/dev/null || true; done
    mount -t tmpfs -o ro none /dev/shm
"""
"""Shell commands after which nothing can be written anywhere."""


@cache
def can_mount() -> bool:
    """Whether this user may mount file systems in a namespace of its own."""
    if os.geteuid() != 0:
        return False
    tried = subprocess.run(
        ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False
    )
    return tried.returncode == 0


def run_with_mounts(setup: str, code: str, *arguments: str) -> str:
    """Run Python code after shell commands that mount, both in a namespace that ends with them.

    Args:
        setup: shell commands; ``$1`` … are the arguments.
        code: Python; ``sys.argv[1:]`` are the arguments.
        arguments: for both.

    Returns:
        what the code printed.
    """
    if not can_mount():
        pytest.skip("this user may not mount anything")
    script = f'set -e\n{setup}\nexec "$PYTHON" -c "$CODE" "$@"'
    done = subprocess.run(
        ["unshare", "-m", "bash", "-c", script, "bash", *arguments],
        env={**os.environ, "PYTHON": sys.executable, "CODE": code, "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
