"""A trace is freed with the model it belongs to; the functions that all traces share stay."""

import gc
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from retrieval.gte import ShortTexts, load_model, pack
from retrieval.gte.cpu.torchscript import _process_unit
from tests.conftest import GOLDEN

FOLDER = GOLDEN / "base_ntk_short"

PROGRAM = """
import gc, resource, sys, torch
from pathlib import Path
from retrieval.gte import ShortTexts, load_model, pack

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

def load(times):
    for _ in range(times):
        model = load_model(Path(sys.argv[1]), dtype=getattr(torch, sys.argv[2]), workload="latency")
        assert ShortTexts(model, "mean").takes(pack([[1, 2, 3]]))
        del model
        gc.collect()

torch.set_num_threads(1)
load(2)
before = resident()
load(6)
print(resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for its numbers")
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_process_does_not_grow_with_each_load(dtype: str) -> None:
    output = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(FOLDER), dtype],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    # Measured: 0.1 to 0.5 MiB; 31 MiB (float32) and 59 MiB (int8) if torch kept the traces.
    assert int(output) < 10 << 20


def test_a_trace_leaves_nothing_in_the_process() -> None:
    def kept() -> tuple[int, int]:
        gc.collect()
        compiled = torch.jit._recursive.concrete_type_store.methods_compiled
        functions: object = _process_unit().get_functions()
        assert isinstance(functions, list)
        return len(functions), len(compiled)

    def load_and_drop(_: int = 0) -> None:
        short = ShortTexts(load_model(FOLDER, workload="latency"), "mean")
        assert short.takes(pack([[1, 2, 3]]))

    load_and_drop()
    before = kept()
    load_and_drop()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(load_and_drop, range(2)))
    assert kept() == before
    assert torch.jit._state._python_cu is _process_unit()
