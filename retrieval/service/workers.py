"""Threads beside the event loop."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from functools import partial
from typing import NamedTuple, ParamSpec, Protocol, TypeVar, cast

from retrieval.service.delivery import AnyFuture, Outcome, deliver
from retrieval.service.pace import Pace, answer_by, too_late
from retrieval.store import search_on_one_core

P = ParamSpec("P")
T = TypeVar("T")

_SLOW_SECONDS = 0.01
"""A call that takes longer is not waited for by others, if there is a thread for them."""
_KEPT_BACK_SECONDS = 0.002
"""A result waits for those after it, which go to the loop together, at most about so long."""

_LONG_QUEUE = 2
"""Calls waiting for each thread from which on it is asked whether they will be in time. What is
known of calls is their average, which says little about a few."""


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
    answer_by: float
    """``time.perf_counter()`` when its client gives up."""


class _Lane:
    """A thread's turn: it calls what waits, one after the other."""

    def __init__(self) -> None:
        self.since = time.perf_counter()
        """When it began what it is at."""
        self.crowded = False
        """Whether others waited then."""
        self.overtaken = False
        """Whether another lane was opened because it takes so long."""
        self.outcomes: list[Outcome] = []
        """Kept back."""

    @property
    def is_slow(self) -> bool:
        """Whether what it is at takes long."""
        return time.perf_counter() - self.since > _SLOW_SECONDS


class Workers:
    """The threads that search and read.

    Quick calls go one after the other through one thread: most of a search in a small index is
    Python, so that a second thread would only make both wait for the interpreter, and the event
    loop for both. Whenever one takes long (a large index, the disk, a model that reranks), one
    thread more goes on with what waits; it takes part for as long as calls are slow.
    """

    def __init__(self, threads: int) -> None:
        """Start no thread yet; they start on demand.

        Args:
            threads: most threads.
        """
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, "search", search_on_one_core)
        self._lock = threading.Lock()
        self._waiting: deque[_Call] = deque()
        self._lanes: list[_Lane] = []
        self._under_way = 0
        """Calls that somebody waits for."""
        self._watching = False
        self._pace = Pace()
        self._long_queue = _LONG_QUEUE * threads

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

        Raises:
            Overloaded: so much waits already that the request's deadline would pass.
        """
        future: AnyFuture = asyncio.get_running_loop().create_future()
        called = partial(function, *args, **kwargs)
        call = _Call(called, copy_context(), held, future, answer_by.get())
        with self._lock:
            if len(self._waiting) >= self._long_queue:
                self._pace.check(1)
            held.hold()
            self._pace.join(1)
            self._waiting.append(call)
            at_once = self._open_lane()
        self._under_way += 1
        if not at_once:
            self._watch()
        try:
            return cast(T, await future)
        finally:
            self._under_way -= 1

    def close(self) -> None:
        """Wait for what was begun or waits to return, and end the threads; nothing more comes."""
        with self._lock:
            self._threads = 0
        self._pool.shutdown(wait=True)

    def _open_lane(self) -> bool:
        """Open one more if something waits and all others are slow; the lock is held."""
        wanted = self._waiting and len(self._lanes) < self._threads and self._all_are_overtaken()
        if wanted:
            lane = _Lane()
            self._lanes.append(lane)
            self._pool.submit(self._call_all, lane)
        return bool(wanted)

    def _all_are_overtaken(self) -> bool:
        return all(lane.overtaken for lane in self._lanes)

    def _watch(self) -> None:
        """Look at the lanes in a while: by then somebody may be waiting for another's slow call."""
        if not self._watching:
            self._watching = True
            asyncio.get_running_loop().call_later(_SLOW_SECONDS, self._look)

    def _look(self) -> None:
        self._watching = False
        with self._lock:
            for lane in self._lanes:
                if lane.is_slow:
                    lane.overtaken = True
                    self._deliver(lane)
            self._open_lane()
        if self._under_way:
            self._watch()

    @staticmethod
    def _deliver(lane: _Lane) -> None:
        """Hand over what a lane has kept back; the lock is held."""
        deliver(lane.outcomes)
        lane.outcomes = []

    def _call_all(self, lane: _Lane) -> None:
        """Call what waits, one after the other, and deliver what is returned."""
        delivered = time.perf_counter()
        while call := self._next(lane):
            outcome = _call(call)
            with self._lock:
                self._pace.leave(1)
                if outcome:
                    self._learn(lane)
                    lane.outcomes.append(outcome)
                if time.perf_counter() - delivered > _KEPT_BACK_SECONDS:
                    self._deliver(lane)
                    delivered = time.perf_counter()

    def _learn(self, lane: _Lane) -> None:
        """Remember how long a call took; the lock is held."""
        seconds = time.perf_counter() - lane.since
        self._pace.learn(1, seconds, side_by_side=len(self._lanes), crowded=lane.crowded)

    def _next(self, lane: _Lane) -> _Call | None:
        """What a lane does next; None: it ends, as there is nothing, or another suffices."""
        with self._lock:
            suffices = lane.overtaken and not lane.is_slow and not self._all_are_overtaken()
            if self._waiting and not suffices:
                self._refuse_late(lane)
                lane.overtaken &= lane.is_slow
                lane.since = time.perf_counter()
                call = self._waiting.popleft()
                lane.crowded = bool(self._waiting)
                return call
            self._lanes.remove(lane)
            self._deliver(lane)
            return None

    def _refuse_late(self, lane: _Lane) -> None:
        """Pass over those at a long queue's head that would be too late; the lock is held."""
        seconds = self._pace.seconds_once_begun(1)
        in_time = time.perf_counter() + seconds
        while len(self._waiting) > self._long_queue and self._waiting[0].answer_by < in_time:
            call = self._waiting.popleft()
            call.held.release()
            self._pace.leave(1)
            lane.outcomes.append(Outcome(call.future, None, too_late(seconds)))


def _call(call: _Call) -> Outcome | None:
    """Call a function; None: nobody waits for what it returns any more, so it was not called."""
    outcome = None
    if not call.future.cancelled():
        try:
            outcome = Outcome(call.future, call.context.run(call.function))
        except Exception as error:  # noqa: BLE001  (raised again where it is waited for)
            outcome = Outcome(call.future, None, error)
    call.held.release()
    return outcome
