"""Batches side by side on single cores, and the next input made ahead."""

import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from retrieval.encoding import backend, cores
from retrieval.encoding.backend import CoreBackend
from retrieval.encoding.cores import (
    ahead,
    on_one_core,
    on_single_core,
    on_single_cores,
    one_behind,
    suits_one_core,
)
from retrieval.gte import GteModel, Pooling, ShortTexts
from tests.commands.forking import run_forked
from tests.conftest import GOLDEN


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@given(st.integers(0, 40), st.integers(1, 6))
def test_results_come_in_order(count: int, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        squares = on_single_cores(lambda number: number**2, list(range(count)))
        assert list(squares) == [number**2 for number in range(count)]
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_each_call_has_one_core_and_what_is_left_over_has_all() -> None:
    def call(_: int) -> tuple[bool, int]:
        time.sleep(0.01)
        return threading.current_thread() is threading.main_thread(), torch.get_num_threads()

    assert list(on_single_cores(call, [0])) == [(True, 2)]
    assert list(on_single_cores(call, [0, 1, 2])) == [(True, 2), (False, 1), (False, 1)]


@pytest.mark.usefixtures("two_threads")
def test_one_core_is_there_while_batches_have_all_their_threads() -> None:
    released = threading.Event()
    batches = [on_single_core(lambda _: released.wait(60), None) for _ in range(2)]
    try:
        assert on_one_core(torch.get_num_threads) == 1
        assert not any(batch.done() for batch in batches)
        with pytest.raises(ZeroDivisionError):
            on_one_core(lambda: 1 // 0)
    finally:
        released.set()
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_a_model_for_queries_is_traced_on_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []

    def record(model: GteModel, pooling: Pooling) -> ShortTexts:
        threads.append(torch.get_num_threads())
        return ShortTexts(model, pooling)

    monkeypatch.setattr(backend, "ShortTexts", record)
    folder = GOLDEN / "base_ntk_short"
    CoreBackend(folder, "cls", dtype=torch.float32, device="cpu", workload="latency")
    assert threads == [1]


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(("on_one", "suits"), [(0.001, True), (0.005, True), (0.02, False)])
def test_one_core_suits_where_it_is_about_as_fast(
    on_one: float, suits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    clock = SimpleNamespace(sleep=sleep, perf_counter=lambda: now)
    monkeypatch.setattr(cores, "time", clock)

    def call() -> None:
        sleep(on_one if torch.get_num_threads() == 1 else 0.005)

    assert suits_one_core(call) == suits


def test_the_only_core_suits() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert suits_one_core(lambda: pytest.fail("there is nothing to try"))
    finally:
        torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_threads_started_later_keep_all_cores() -> None:
    list(on_single_cores(abs, [1, 2]))
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert seen == [2]


@pytest.mark.parametrize("after", [1, 2, 5])
def test_an_interrupt_while_threads_start_does_not_keep_the_process(after: int) -> None:
    program = f"""
import os, signal, time, torch
from retrieval.encoding.cores import on_single_cores

signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads({after + 1})
set_threads, begun = torch.set_num_threads, []

def interrupted(count):
    begun.append(count)
    if len(begun) == {after}:
        os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.1)
    set_threads(count)

torch.set_num_threads = interrupted
list(on_single_cores(abs, [0] * {after + 1}))
"""
    ended = run_forked([sys.executable, "-c", program])
    assert ended.returncode == -signal.SIGINT
    assert ended.stderr.endswith("\nKeyboardInterrupt\n")
    assert "Barrier" not in ended.stderr


@pytest.mark.usefixtures("two_threads")
def test_a_failure_reaches_the_caller_and_stops_the_rest() -> None:
    begun: list[int] = []

    def call(number: int) -> int:
        begun.append(number)
        time.sleep(0.005)
        return 1 // number

    with pytest.raises(ZeroDivisionError):
        list(on_single_cores(call, [0, *range(1, 20_000)]))
    assert len(begun) < 10_000


def test_the_next_item_is_made_meanwhile() -> None:
    made: list[int] = []

    def make() -> Iterator[int]:
        for number in range(3):
            made.append(number)
            yield number

    items = ahead(make())
    assert next(items) == 0
    while made != [0, 1]:
        time.sleep(0.001)
    time.sleep(0.01)
    assert made == [0, 1]  # one ahead, no more
    assert list(items) == [1, 2]


def test_what_making_an_item_raises_comes_in_its_turn() -> None:
    items = ahead(1 // number for number in (1, 0))
    assert next(items) == 1
    with pytest.raises(ZeroDivisionError):
        next(items)


def test_nothing_to_make() -> None:
    assert list(ahead([])) == []
    assert list(ahead([None])) == [None]


@given(st.integers(0, 9))
def test_the_next_is_begun_before_the_one_ahead_is_finished(count: int) -> None:
    events: list[str] = []

    def begin(number: int) -> int:
        events.append(f"begin {number}")
        return number

    def finish(number: int) -> int:
        events.append(f"finish {number}")
        return -number

    results = one_behind(begin, finish, range(count))
    assert list(results) == [-number for number in range(count)]
    assert sorted(events) == sorted(
        [f"{what} {number}" for number in range(count) for what in ("begin", "finish")]
    )
    for number in range(count - 1):
        assert events.index(f"begin {number + 1}") < events.index(f"finish {number}")
