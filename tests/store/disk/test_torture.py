"""``benchmarks/torture/``: a taste of it (a minute of a core), and all of it."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent.parent


def torture(*arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.torture", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


@pytest.mark.slow
def test_a_few_kills_and_broken_files_lose_nothing() -> None:
    said = torture(
        *("--kills", "1", "--together", "4", "--flips", "4", "--flushes", "1", "--disks", "1")
    )
    assert "kills of processes that wrote at once" in said
    assert "0 lost, 0 by halves, 0 damaged" in said
    assert "1 kill" in said
    assert "0 lost, 0 damaged, 0 texts embedded again" in said
    assert "4 broken files" in said


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_hundred_kills_and_broken_files_lose_nothing() -> None:
    said = torture()
    assert "200 kills" in said
    assert "200 broken files" in said
