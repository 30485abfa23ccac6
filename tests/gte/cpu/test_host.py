"""Programs keep the memory that operators free; other processes are left as they are."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from retrieval.gte.cpu.host import _CHOSEN, keep_freed_memory
from tests.tiny_model import make_tiny_model

PROGRAM = """
import resource, torch
from retrieval.gte.cpu.host import keep_freed_memory

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
    assert faults < 20_000  # 1,000 to 6,000 were seen: the heap grows in the first rounds
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


LOADING = """
import json, locale, logging, os, signal, sys, threading, warnings
import numpy, safetensors, tokenizers, torch  # which filter warnings when imported
from retrieval.domain import own_process
from retrieval.gte.cpu import host

called = []
host.CDLL = lambda _: called.append("mallopt")

def state():
    return {
        "environment": dict(os.environ),
        "niceness": [os.getpriority(os.PRIO_PROCESS, int(thread)) for thread in (0, os.getpid())],
        "threads of an operator": torch.get_num_threads(),
        "threads between operators": torch.get_num_interop_threads(),
        "default dtype": str(torch.get_default_dtype()),
        "gradients": torch.is_grad_enabled(),
        "random numbers": torch.get_rng_state().sum().item(),
        "loggers": [logging.root.level, len(logging.root.handlers), logging.root.manager.disable],
        "warnings": [str(one) for one in warnings.filters],
        "signals": [str(signal.getsignal(number)) for number in signal.valid_signals()],
        "locale": locale.setlocale(locale.LC_ALL),
        "hooks": [repr(sys.excepthook), repr(threading.excepthook)],
        "folder": os.getcwd(),
    }

before = state()
from retrieval.encoder import Encoder
if sys.argv[2] == "claimed":
    own_process.claim_process()
for dtype in ("float32", "int8"):
    encoder = Encoder.load(sys.argv[1], device="cpu", dtype=dtype, workload="latency")
    encoder.encode(["how are pods scheduled?", "short"], kind="query")
    encoder.encode([f"a longer text about {number} things" for number in range(200)])
    assert encoder.query_on_one_core in (False, True)
after = state()
print(json.dumps([called, [name for name in before if before[name] != after[name]]]))
"""


def loading(model: Path, process: str) -> list[list[str]]:
    """What loading and encoding called, and which parts of the process it changed."""
    environment = {name: value for name, value in os.environ.items() if name not in _CHOSEN}
    output = subprocess.run(
        [sys.executable, "-c", LOADING, str(model), process],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    ).stdout
    changes: list[list[str]] = json.loads(output)
    return changes


def test_loading_a_model_changes_nothing_of_the_process(tmp_path: Path) -> None:
    assert loading(make_tiny_model(tmp_path), "somebody's") == [[], []]


@pytest.mark.skipif(sys.platform != "linux", reason="it is glibc's allocator that is told")
def test_a_program_of_ours_keeps_freed_memory(tmp_path: Path) -> None:
    assert loading(make_tiny_model(tmp_path), "claimed") == [["mallopt"], []]
