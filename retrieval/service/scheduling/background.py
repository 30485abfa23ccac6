"""Threads and tasks beside the event loop: niceness, results for the loop, failures.

Waking the loop costs more than most results do: who has several at hand wakes it once.
"""

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, NamedTuple, TypeAlias

from retrieval.service.observability.metrics import Metrics

AnyFuture: TypeAlias = "asyncio.Future[object]"


class Outcome(NamedTuple):
    """What somebody waits for."""

    future: AnyFuture
    result: object
    error: BaseException | None = None


def deliver(outcomes: Sequence[Outcome]) -> None:
    """Give several futures of one loop their results; for any thread but the loop's.

    Futures that were cancelled meanwhile are left alone, and so is a loop that is closed: nobody
    waits in it any more.
    """
    if outcomes and not (loop := outcomes[0].future.get_loop()).is_closed():
        loop.call_soon_threadsafe(_settle, outcomes)


def _settle(outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        if outcome.future.done():
            continue
        if outcome.error is not None:
            outcome.future.set_exception(outcome.error)
        else:
            outcome.future.set_result(outcome.result)


LOG = logging.getLogger(__name__)

_PAUSE_SECONDS = 1.0
"""Before a task is started again: what ended it may be over by then."""


def supervise(
    name: str, run: Callable[[], Awaitable[None]], metrics: Metrics
) -> "asyncio.Task[None]":
    """Start a task that ends when it is cancelled; if it fails it is logged and started again.

    Args:
        name: in the log, and as ``task`` of the metric.
        run: makes the task, each time anew.
        metrics: told of failures.

    Returns:
        the task that sees to it.
    """
    metrics.supervises(name)
    return asyncio.create_task(_run_for_ever(name, run, metrics), name=name)


Kind = Literal["thread", "task"]


def say_failed(kind: Kind, name: str, error: Exception, metrics: Metrics) -> None:
    """Log and count a failure of something that goes on all the same.

    Args:
        kind: what it is.
        name: its own.
        error: what it failed with.
        metrics: told of it.
    """
    LOG.error("the %s %s failed, and goes on", kind, name, exc_info=error)
    metrics.background_failed(name)


def say_ended(kind: Kind, name: str, metrics: Metrics) -> None:
    """Log and count the end of something that is started again.

    Args:
        kind: what it is.
        name: its own.
        metrics: told of it.
    """
    LOG.error("the %s %s has ended, and is started again", kind, name)
    metrics.background_failed(name)


async def _run_for_ever(name: str, run: Callable[[], Awaitable[None]], metrics: Metrics) -> None:
    while True:
        try:
            await run()
        except Exception as error:  # noqa: BLE001  (a bug must not end it for good)
            say_failed("task", name, error, metrics)
        else:
            say_ended("task", name, metrics)
        await asyncio.sleep(_PAUSE_SECONDS)


def behind_others(niceness: int) -> None:
    """Let this thread go behind others where cores are short.

    Requests that come, answers that are ready and refusals then need not wait until a product is
    computed. Where nobody else wants a core it changes nothing, nor where the server as a whole is
    to be nicer than that.

    Args:
        niceness: from 0 to 19, of which each step is about a tenth less of a core.
    """
    if sys.platform == "linux":  # elsewhere it is the whole process that has a priority
        thread = os.PRIO_PROCESS, threading.get_native_id()
        if os.getpriority(*thread) < niceness:
            os.setpriority(*thread, niceness)
