"""Work that is finished even if nobody waits for it any more."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from retrieval.errors import RetrievalError

LOG = logging.getLogger(__name__)

_T = TypeVar("_T")


class HandedOver:
    """What the writer process was given and has not answered; belongs to the event loop.

    The process may be about to commit it, and another operation on the same URI has to wait for
    that. So a client that goes away cancels nothing that was handed over.
    """

    def __init__(self) -> None:
        """Start with nothing."""
        self._tasks: set[asyncio.Task[Any]] = set()

    async def finish(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do some work to its end, and return its result to whoever still waits.

        Raises:
            RetrievalError: what the work raises.
        """
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    async def all_finished(self, seconds: float) -> None:
        """Wait until nothing is left, but no longer than this."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    def _forget(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()  # marks it as seen; a request that still waits raises it
        if error is not None and not isinstance(error, RetrievalError):
            LOG.error("a change has failed", exc_info=error)
