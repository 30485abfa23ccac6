"""Threads beside the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Held(Protocol):
    """Something that must stay open while a thread works with it."""

    def hold(self) -> None:
        """Keep it open until ``release``."""
        ...

    def release(self) -> None:
        """Undo one ``hold``; may be called in any thread."""
        ...


class Workers:
    """The threads that search and read."""

    def __init__(self, threads: int) -> None:
        """Start no thread yet; they start on demand.

        Args:
            threads: most threads.
        """
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="search")

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
        held.hold()
        future = self._pool.submit(copy_context().run, partial(function, *args, **kwargs))
        future.add_done_callback(lambda _: held.release())
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Wait for the running functions to return, and end the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)
