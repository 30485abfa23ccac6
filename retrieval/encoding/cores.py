"""Work done side by side: batches on one core each, the next input while this one runs.

Two cores embed two batches faster than they share one: nothing waits for the slower half of an
operator, and each core's share stays in its own cache (``benchmarks/encoder/`` has the figures).
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
_PAUSE_SECONDS = 0.002
_ABOUT = 1.25
"""What a single core may take longer: the others are free for other work meanwhile."""


def on_single_cores(function: Callable[[Item], Result], items: list[Item]) -> Iterator[Result]:
    """Map over items of about the same cost, on one core each.

    Args:
        function: uses torch; called in threads whose operators use one thread each, as many at a
            time as the caller's operators use. What is left over after whole rounds is called
            here, with all of these, if it would leave most of them idle.
        items: what to call it with.

    Returns:
        the results, in order; closing the iterator cancels what has not begun.
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
    """Begin to call a function on a single core, in a thread that batches of a map don't wait for.

    The caller sees to it that no more than ``single_cores`` run at once.
    """
    return _single_core_threads(single_cores(), "single").submit(function, item)


def on_one_core(function: Callable[[], Result]) -> Result:
    """Call a function on a single core and wait for it; batches' own threads stay free meanwhile.

    For many small operators that nobody is in a hurry for: on all cores, each of them waits for the
    threads of the one before, which takes tens of times as long where other programs run as well.

    Args:
        function: uses torch.
    """
    if single_cores() == 1:
        return function()
    return _single_core_threads(1, "aside").submit(function).result()


def single_cores() -> int:
    """How many functions ``on_single_core`` can run at once: as many as operators use threads."""
    return torch.get_num_threads()


def suits_one_core(function: Callable[[], object]) -> bool:
    """Whether a short piece of work that comes now and then is about as fast on one core as on all.

    Threads of an operator sleep while there is nothing to do, and waking them can take longer than
    the operator, most of all where cores are virtual. So it is tried, with pauses: 16 calls.

    Args:
        function: uses torch.
    """
    if single_cores() == 1:
        return True
    return on_one_core(lambda: _seconds(function)) <= _seconds(function) * _ABOUT


def _seconds(function: Callable[[], object]) -> float:
    """What it takes after a pause, the median of some calls."""
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
    """A pool that lives as long as the process."""
    started = Barrier(count + 1)

    def use_one_core() -> None:
        torch.set_num_threads(1)  # of this thread, and the default of threads yet to come
        torch.get_num_threads()  # a thread takes up the default at its first use: let that be now
        with suppress(BrokenBarrierError):
            started.wait()

    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, thread_name_prefix=name, initializer=use_one_core)
    try:
        for _ in range(count):
            pool.submit(int)  # a thread starts with a task
        started.wait()
    except BaseException:  # Ctrl-C: threads that wait for one another would keep Python from ending
        started.abort()
        pool.shutdown(wait=False)
        raise
    finally:
        torch.set_num_threads(before)
    return pool


def ahead(items: Iterable[Item]) -> Iterator[Item]:
    """Yield items, making the next one in a thread while the caller is busy with this one."""
    iterator = iter(items)
    # The iterator's end, as a value: an item may be anything, None included.
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
    """Begin each item before the one ahead of it is finished; results come in order.

    Args:
        begin: starts work that goes on by itself, as a GPU's does.
        finish: waits for it.
        items: what to begin with.
    """
    waiting: list[Begun] = []
    for item in items:
        waiting.append(begin(item))
        if len(waiting) > 1:
            yield finish(waiting.pop(0))
    yield from map(finish, waiting)
