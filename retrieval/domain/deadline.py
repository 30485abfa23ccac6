"""Until when work is wanted: whatever may take long asks now and then, and stops.

Both variables travel with the context of the request that is being answered, also into the threads
that work for it. Outside a request, work is wanted until it is done.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from retrieval.errors import DeadlinePassed

answer_by: ContextVar[float] = ContextVar("answer_by", default=math.inf)
"""``time.perf_counter()`` when the client of the request that is being answered gives up."""

abandoned: ContextVar[Callable[[], bool]] = ContextVar("abandoned", default=lambda: False)
"""Whether nobody waits for the answer any more, though its deadline has not passed."""

LOOK_SECONDS = 0.05
"""How often a thread that waits for another looks whether it is still wanted."""


def is_over() -> bool:
    """Whether nobody waits any more for what is being done."""
    return time.perf_counter() > answer_by.get() or abandoned.get()()


def check_wanted() -> None:
    """Stop what nobody waits for.

    Raises:
        DeadlinePassed: its deadline has passed, or the client went away.
    """
    if is_over():
        raise DeadlinePassed("the request's deadline passed, and the work for it was stopped")


@contextmanager
def holding(lock: threading.Lock) -> Iterator[None]:
    """Hold a lock, and wait for it only as long as the work is wanted.

    Raises:
        DeadlinePassed: see ``check_wanted``.
    """
    while not lock.acquire(timeout=LOOK_SECONDS):
        check_wanted()
    try:
        yield
    finally:
        lock.release()
