"""Threads and tasks that run beside the requests, and go on whatever happens."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Literal

from retrieval.service.observability.metrics import Metrics

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
