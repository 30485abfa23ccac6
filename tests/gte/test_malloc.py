"""What operators free is kept for the next ones."""

import os
import subprocess
import sys

import pytest

from retrieval.gte.cpu.malloc import keep_freed_memory

PROGRAM = """
import resource, torch
from retrieval.gte.cpu.malloc import keep_freed_memory

def faults(runs):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(runs):
        first, second = torch.ones(1024, 1024), torch.ones(1024, 1024)
        del first, second
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
kept = keep_freed_memory()
faults(3)
print(int(kept), faults(50))
"""


def run(**environment: str) -> tuple[bool, int]:
    """Whether memory is kept, and the pages that 50 rounds of 8 MiB fault in."""
    output = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | environment,
    ).stdout
    kept, faults = output.split()
    return kept == "1", int(faults)


@pytest.mark.skipif(sys.platform != "linux", reason="it is glibc's allocator that is told")
def test_pages_are_mapped_once() -> None:
    kept, faults = run()
    if not kept:
        pytest.skip("the C library is not glibc, or the environment says what to keep")
    assert faults < 5_000
    # Two blocks of 1,024 pages, 50 times, where all is given back.
    kept, faults = run(MALLOC_TRIM_THRESHOLD_="0")
    assert not kept
    assert faults > 50_000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MALLOC_TRIM_THRESHOLD_", "1000000"),
        ("MALLOC_MMAP_THRESHOLD_", "1000000"),
        ("GLIBC_TUNABLES", "glibc.malloc.trim_threshold=1000000"),
    ],
)
def test_who_has_chosen_is_not_overruled(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert not keep_freed_memory.__wrapped__()
