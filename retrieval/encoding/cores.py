"""Work side by side: one batch per core, and the next input while the current one is processed.

Two cores embed two batches faster than they share one: no core waits for the other half of an
operator, and each core's data stays in its own cache (``benchmarks.encoder.speed`` measures it).
"""

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from statistics import median
from threading import Barrier, BrokenBarrierError, Lock
from typing import TypeVar

import torch

Item = TypeVar("Item")
Begun = TypeVar("Begun")
Result = TypeVar("Result")

_TRIES = 8
"""Calls that are timed on one core and on all; the median of eight ignores a few outliers."""
_PAUSE_SECONDS = 0.002
"""Pause before each call, long enough for an operator's threads to fall asleep."""
_ABOUT = 1.25
"""Factor by which a single core may be slower, because the others are then free for other work."""


def on_single_cores(function: Callable[[Item], Result], items: list[Item]) -> Iterator[Result]:
    """Map a function over items of about equal cost, each on one core.

    Args:
        function: uses torch. It runs in threads whose operators use one core each; there are as
            many threads as the caller's operators use cores. If the items left over after whole
            rounds would leave most cores idle, they run in the caller's thread on all cores.
        items: arguments of the function.

    Returns:
        the results, in order; closing the iterator cancels the calls that have not begun.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        yield from map(function, items)
        return
    left_over = len(items) % threads
    alone = left_over if left_over <= threads // 2 or len(items) < threads else 0
    yield from map(function, items[:alone])
    if alone < len(items):
        yield from _single_core_threads(threads).map(function, items[alone:])


def on_single_core(function: Callable[[Item], Result], item: Item) -> Future[Result]:
    """Start a function on a single core, in a thread apart from those of ``on_single_cores``.

    The caller must not run more than ``single_cores`` of them at once.
    """
    return _single_core_threads(single_cores(), "single").submit(function, item)


def on_one_core(function: Callable[[], Result]) -> Result:
    """Call a function on a single core and wait for it; the threads for batches stay free.

    This suits many small operators that are not urgent. On all cores each operator waits for the
    threads of the one before, which takes tens of times as long if other programs are running.

    Args:
        function: uses torch.
    """
    if single_cores() == 1:
        return function()
    return _single_core_threads(1, "aside").submit(function).result()


def single_cores() -> int:
    """Return how many functions ``on_single_core`` can run at once: an operator's thread count."""
    return torch.get_num_threads()


def suits_one_core(function: Callable[[], object]) -> bool:
    """Measure whether occasional short work is about as fast on one core as on all.

    The threads of an operator sleep while there is nothing to do. Waking them can take longer than
    the operator itself, above all on virtual cores. The function is called 16 times, with pauses.

    Args:
        function: uses torch.
    """
    if single_cores() == 1:
        return True
    return on_one_core(lambda: _seconds(function)) <= _seconds(function) * _ABOUT


def _seconds(function: Callable[[], object]) -> float:
    """Return the median seconds of a call after a pause."""
    taken = []
    for _ in range(_TRIES):
        time.sleep(_PAUSE_SECONDS)
        started = time.perf_counter()
        function()
        taken.append(time.perf_counter() - started)
    return median(taken)


_creating = Lock()


def _single_core_threads(count: int, name: str = "encoder") -> ThreadPoolExecutor:
    with _creating:
        return _make_threads(count, name)


@cache
def _make_threads(count: int, name: str) -> ThreadPoolExecutor:
    """Start a pool that lives as long as the process; the caller's number of threads stays."""
    started = Barrier(count + 1)

    def use_one_core() -> None:
        torch.set_num_threads(1)  # for this thread, and as the default of future threads
        torch.get_num_threads()  # a thread adopts the default at its first use: now
        with suppress(BrokenBarrierError):
            started.wait()

    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, thread_name_prefix=name, initializer=use_one_core)
    try:
        for _ in range(count):
            pool.submit(int)  # the pool starts a thread for a task
        started.wait()
    except BaseException:  # After Ctrl-C, threads waiting at the barrier would keep Python alive.
        started.abort()
        pool.shutdown(wait=False)
        raise
    finally:
        torch.set_num_threads(before)
    return pool


def ahead(items: Iterable[Item]) -> Iterator[Item]:
    """Yield items, and make the next one in a thread while the caller processes this one."""
    iterator = iter(items)
    # Marks the iterator's end; None can't, because an item may be None.
    end: list[Item] = []

    def make_next() -> list[Item]:
        return next(([item] for item in iterator), end)

    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        made = make_next()
        while made is not end:
            coming = pool.submit(make_next)
            yield made[0]
            made = coming.result()


def one_behind(
    begin: Callable[[Item], Begun], finish: Callable[[Begun], Result], items: Iterable[Item]
) -> Iterator[Result]:
    """Begin each item before finishing the previous one, and yield the results in order.

    Args:
        begin: starts work that continues by itself, as on a GPU.
        finish: waits for the work.
        items: arguments of ``begin``.
    """
    waiting: list[Begun] = []
    for item in items:
        waiting.append(begin(item))
        if len(waiting) > 1:
            yield finish(waiting.pop(0))
    yield from map(finish, waiting)
