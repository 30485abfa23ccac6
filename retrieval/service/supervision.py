"""Tasks that run beside the requests, and go on whatever happens."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from retrieval.service.metrics import Metrics

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


async def _run_for_ever(name: str, run: Callable[[], Awaitable[None]], metrics: Metrics) -> None:
    while True:
        try:
            await run()
        except Exception:
            LOG.exception("%s failed, and is started again", name)
        else:
            LOG.error("%s has ended, and is started again", name)
        metrics.background_failed(name)
        await asyncio.sleep(_PAUSE_SECONDS)
