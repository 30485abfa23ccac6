"""Deadline of the request being answered: long-running work checks it now and then, and stops.

Both variables belong to the context of the request, which also reaches the threads that work for
it. Outside a request there is no deadline.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from retrieval.errors import DeadlinePassed

answer_by: ContextVar[float] = ContextVar("answer_by", default=math.inf)
"""Value of ``time.perf_counter()`` at which the client gives up."""

abandoned: ContextVar[Callable[[], bool]] = ContextVar("abandoned", default=lambda: False)
"""Returns whether the client has gone away before its deadline."""

LOOK_SECONDS = 0.05
"""Seconds between checks of a waiting thread: 20 a second cost nothing, and free it soon enough."""


def is_over() -> bool:
    """Return whether nobody waits for the result any more."""
    return time.perf_counter() > answer_by.get() or abandoned.get()()


def check_wanted() -> None:
    """Stop if nobody waits for the result any more.

    Raises:
        DeadlinePassed: the deadline has passed, or the client has gone away.
    """
    if is_over():
        raise DeadlinePassed("the request's deadline passed, and the work for it was stopped")


@contextmanager
def holding(lock: threading.Lock) -> Iterator[None]:
    """Hold a lock; stop waiting for it when nobody waits for the result any more.

    Raises:
        DeadlinePassed: see ``check_wanted``.
    """
    while not lock.acquire(timeout=LOOK_SECONDS):
        check_wanted()
    try:
        yield
    finally:
        lock.release()
