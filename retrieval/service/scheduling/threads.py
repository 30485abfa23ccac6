"""Threads and tasks beside the event loop: blocking calls, their results, and failures."""

import asyncio
import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Final, Literal, NamedTuple, ParamSpec, Protocol, TypeAlias, TypeVar, cast

from retrieval.domain.deadline import abandoned, answer_by
from retrieval.errors import NotServing
from retrieval.service.observability.metrics import Metrics
from retrieval.service.scheduling.fair_queue import FairQueue, Pace, too_late, turn_of

LOG = logging.getLogger(__name__)

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


P = ParamSpec("P")
T = TypeVar("T")

_SLOW_SECONDS = 0.01
"""A call that takes longer is not waited for by others, if there is a thread for them."""
_KEPT_BACK_SECONDS = 0.002
"""A result waits for those after it, which go to the loop together, at most about so long."""

_LEFT_TO_OTHERS = 4
"""One of so many threads is not for calls of a caller that has all the rest."""

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


@dataclass(eq=False, slots=True)
class _Call:
    """A function to be called, and who waits for what it returns."""

    function: Callable[[], object]
    context: Context
    held: Held
    future: AnyFuture
    answer_by: float
    """``time.perf_counter()`` when its client gives up."""
    turn: str
    """Who takes its turn; see ``FairQueue``."""
    since: float
    """``time.perf_counter()`` of its coming."""
    cost: Final = 1.0


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


class SearchThreads:
    """Threads that do what blocks: search, read, count, rerank.

    Quick calls go one after the other through one thread: most of a search in a small index is
    Python, so that a second thread would only make both wait for the interpreter, and the event
    loop for both. Whenever one takes long (a large index, the disk, a model that reranks), one
    thread more goes on with what waits; it takes part for as long as calls are slow.

    Callers take turns (``FairQueue``), and no caller has all threads.
    """

    def __init__(
        self,
        threads: int,
        *,
        name: str = "search",
        prepare: Callable[[], None] = lambda: None,
        most_of_one: int | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """Start the threads: later there may be no room for one.

        Args:
            threads: most calls at a time.
            name: of the threads.
            prepare: called by each thread as it starts.
            most_of_one: most threads of one caller; None: three of four.
            metrics: told what fails.
        """
        self._name = name
        self._prepare = prepare
        self._metrics = metrics or Metrics()
        self._metrics.supervises(name)
        self._lock = threading.Lock()
        self._waiting = FairQueue[_Call]()
        self._lanes: list[_Lane] = []
        self._calling = Counter[str]()
        """How many calls of each caller run."""
        most = threads - threads // _LEFT_TO_OTHERS
        self._most_of_one = most if most_of_one is None else min(most, most_of_one)
        self._under_way = 0
        """Calls that somebody waits for."""
        self._watching = False
        self._pace = Pace()
        self._long_queue = _LONG_QUEUE * threads
        self._closed = False
        self._opened = SimpleQueue[_Lane | None]()
        """Lanes for threads that have none; None ends one."""
        self._pool: list[threading.Thread] = []
        self._threads = threads
        self.revive()

    def revive(self) -> None:
        """Start threads again that have ended, which only a bug can bring about.

        Raises:
            NotServing: the system lets no thread start.
        """
        with self._lock:
            if self._closed:
                return
            alive = [thread for thread in self._pool if thread.is_alive()]
            for _dead in range(len(self._pool) - len(alive)):
                say_ended("thread", self._name, self._metrics)
            self._pool = alive
            while len(self._pool) < self._threads:
                name = f"{self._name}_{len(self._pool)}"
                thread = threading.Thread(target=self._work, name=name, daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:
                    raise NotServing(f"searches can't be run: {error}") from error
                self._pool.append(thread)

    async def run(
        self, held: Held, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call a function in a thread.

        When the awaiting task is cancelled (the client went away, its deadline passed) before the
        function's turn comes, the function is never called. One that is running already runs on,
        unless it asks ``retrieval.domain.deadline`` whether it is still wanted.

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
        context = copy_context()
        context.run(abandoned.set, future.cancelled)
        call = _Call(
            called, context, held, future, answer_by.get(), turn_of.get(), time.perf_counter()
        )
        with self._lock:
            if self._closed:
                raise NotServing("the server is shutting down")
            if len(self._waiting) >= self._long_queue:
                self._pace.check(1, overtaken=self._waiting.overtaken(call.turn, call.cost))
            held.hold()
            self._pace.join(1)
            self._waiting.add(call)
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
            self._closed = True
        for _ in self._pool:
            self._opened.put(None)
        for thread in self._pool:
            thread.join()

    def _open_lane(self) -> bool:
        """Open one more if something may begin and all others are slow; the lock is held."""
        wanted = len(self._lanes) < self._threads and self._all_are_overtaken() and self._may_begin
        if wanted:
            lane = _Lane()
            self._lanes.append(lane)
            self._opened.put(lane)
        return bool(wanted)

    @property
    def _may_begin(self) -> bool:
        return self._waiting.next(self._has_turn) is not None

    def _has_turn(self, caller: str) -> bool:
        """Whether a caller's next call may begin: its calls don't take all threads."""
        return self._calling[caller] < self._most_of_one

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

    def _work(self) -> None:
        """What a thread does as long as it lives: one lane after the other."""
        self._prepare()
        while lane := self._opened.get():
            try:
                self._call_all(lane)
            except Exception as error:  # noqa: BLE001  (the thread must go on)
                say_failed("thread", self._name, error, self._metrics)
            finally:
                with self._lock:
                    if lane in self._lanes:  # what it was at has failed, and not the call itself
                        self._lanes.remove(lane)
                        self._open_lane()

    def _call_all(self, lane: _Lane) -> None:
        """Call what waits, one after the other, and deliver what is returned."""
        delivered = time.perf_counter()
        while call := self._next(lane):
            outcome = _call(call)
            self._release(call)
            with self._lock:
                self._end(call)
                if outcome:
                    self._learn(lane)
                    lane.outcomes.append(outcome)
                if time.perf_counter() - delivered > _KEPT_BACK_SECONDS:
                    self._deliver(lane)
                    delivered = time.perf_counter()

    def _release(self, call: _Call) -> None:
        """Let go of what was held for a call."""
        try:
            call.held.release()
        except Exception as error:  # noqa: BLE001  (it is nobody's fault who waits)
            say_failed("thread", self._name, error, self._metrics)

    def _end(self, call: _Call) -> None:
        """Undo what ``_next`` has counted; the lock is held."""
        self._pace.leave(1)
        self._calling[call.turn] -= 1
        if not self._calling[call.turn]:
            del self._calling[call.turn]

    def _learn(self, lane: _Lane) -> None:
        """Remember how long a call took; the lock is held."""
        seconds = time.perf_counter() - lane.since
        self._pace.learn(1, seconds, side_by_side=len(self._lanes), crowded=lane.crowded)

    def _next(self, lane: _Lane) -> _Call | None:
        """What a lane does next; None: it ends, as there is nothing, or another suffices."""
        with self._lock:
            suffices = lane.overtaken and not lane.is_slow and not self._all_are_overtaken()
            self._refuse_late(lane)
            call = None if suffices else self._waiting.next(self._has_turn)
            if call is not None:
                lane.overtaken &= lane.is_slow
                lane.since = time.perf_counter()
                self._metrics.queued(self._name, lane.since - call.since)
                self._waiting.take(call, call.cost)
                self._calling[call.turn] += 1
                lane.crowded = bool(self._waiting)
                return call
            self._lanes.remove(lane)
            self._deliver(lane)
            return None

    def _refuse_late(self, lane: _Lane) -> None:
        """Pass over those of a long queue that would be too late; the lock is held."""
        if len(self._waiting) <= self._long_queue:
            return
        seconds = self._pace.seconds_once_begun(1)
        in_time = time.perf_counter() + seconds
        while len(self._waiting) > self._long_queue:
            call = self._waiting.next()
            if call is None or call.answer_by >= in_time:
                return
            self._waiting.remove(call)
            self._release(call)
            self._pace.leave(1)
            lane.outcomes.append(Outcome(call.future, None, too_late(seconds)))


def _call(call: _Call) -> Outcome | None:
    """Call a function; None: nobody waits for what it returns any more, so it was not called."""
    if call.future.cancelled():
        return None
    try:
        return Outcome(call.future, call.context.run(call.function))
    except Exception as error:  # noqa: BLE001  (raised again where it is waited for)
        return Outcome(call.future, None, error)
