"""The generated stubs are those of the ``.proto`` files."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def test_stubs_are_current() -> None:
    check = [sys.executable, str(REPOSITORY / "proto" / "generate.py"), "--check"]
    done = subprocess.run(check, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
