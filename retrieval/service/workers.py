"""Threads beside the event loop."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from functools import partial
from typing import NamedTuple, ParamSpec, Protocol, TypeVar, cast

from retrieval.service.delivery import AnyFuture, Outcome, deliver
from retrieval.store import search_on_one_core

P = ParamSpec("P")
T = TypeVar("T")

_FEW_THREADS = 2
"""Among so many the calls of one turn are shared out, as long as they are few."""
_MOST_TOGETHER = 8
_KEPT_BACK_SECONDS = 0.002
"""A result waits for those after it, which go to the loop together, at most about so long."""


class Held(Protocol):
    """Something that must stay open while a thread works with it."""

    def hold(self) -> None:
        """Keep it open until ``release``."""
        ...

    def release(self) -> None:
        """Undo one ``hold``; may be called in any thread."""
        ...


class _Call(NamedTuple):
    """A function to be called, and who waits for what it returns."""

    function: Callable[[], object]
    context: Context
    held: Held
    future: AnyFuture


class Workers:
    """The threads that search and read.

    Calls that are made in one turn of the event loop, as by all requests whose texts went through
    the model together, are shared out among few threads: each switch between threads costs about
    as much as a search in a small index.
    """

    def __init__(self, threads: int) -> None:
        """Start no thread yet; they start on demand.

        Args:
            threads: most threads.
        """
        self._pool = ThreadPoolExecutor(threads, "search", search_on_one_core)
        self._calls: list[_Call] = []

    async def run(
        self, held: Held, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call a function in a thread.

        When the awaiting task is cancelled (the client went away, its deadline passed) before the
        function's turn comes, the function is never called. One that is running already runs on.

        Args:
            held: kept open until the function has returned, cancelled or not.
            function: blocking.
            args: its arguments.
            kwargs: its arguments by name.

        Returns:
            what the function returns; what it raises is raised.
        """
        loop = asyncio.get_running_loop()
        future: AnyFuture = loop.create_future()
        if not self._calls:
            loop.call_soon(self._share_out)
        held.hold()
        self._calls.append(_Call(partial(function, *args, **kwargs), copy_context(), held, future))
        return cast(T, await future)

    def close(self) -> None:
        """Wait for the running functions to return, and end the threads."""
        self._pool.shutdown(wait=True)

    def _share_out(self) -> None:
        calls, self._calls = self._calls, []
        share = min(_MOST_TOGETHER, -(-len(calls) // _FEW_THREADS))
        for start in range(0, len(calls), share):
            self._pool.submit(_run, calls[start : start + share])


def _run(calls: Sequence[_Call]) -> None:
    """Call functions one after the other, and deliver what they return."""
    outcomes: list[Outcome] = []
    since = time.perf_counter()
    for call in calls:
        if not call.future.cancelled():
            try:
                outcomes.append(Outcome(call.future, call.context.run(call.function)))
            except Exception as error:  # noqa: BLE001  (raised again where it is waited for)
                outcomes.append(Outcome(call.future, None, error))
        call.held.release()
        if time.perf_counter() - since > _KEPT_BACK_SECONDS:
            deliver(outcomes)
            outcomes, since = [], time.perf_counter()
    deliver(outcomes)
