"""Run reads at the same time that do not depend on each other.

The engine releases the interpreter's lock while it reads, so the time is that of the slowest read.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

_POOL: Final = ThreadPoolExecutor(max_workers=32, thread_name_prefix="lake-read")
"""Threads that wait for reads of all indexes of the process; they start when they are needed. A
search has at most three reads at a time, so ten searches can wait for an object store at once."""


def together(*reads: Callable[[], Any]) -> list[Any]:
    """Call some functions at the same time, and return their results in order.

    The functions must not call this one: a pool whose threads wait for each other stands still.
    If several fail, the error of the first one is raised.
    """
    *others, last = reads
    waiting = [_POOL.submit(read) for read in others]
    try:
        own = last()
    finally:
        results = [one.result() for one in waiting]
    return [*results, own]
