"""Threads and tasks beside the event loop: blocking calls, their results, and their failures.

Waking the event loop costs more than most results are worth by themselves, so a thread that has
several results at hand delivers them together.
"""

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

P = ParamSpec("P")
T = TypeVar("T")

_SLOW_SECONDS = 0.01
"""Other calls don't wait for a call that takes longer, if there is a thread for them. A search
of a small index takes a few milliseconds."""
_KEPT_BACK_SECONDS = 0.002
"""How long, about, a result may wait to be delivered with the next ones."""

_LEFT_TO_OTHERS = 4
"""One caller may use all threads but one in this many."""

_LONG_QUEUE = 2
"""Waiting calls for each thread above which their deadlines are checked. Only the average time of a
call is known, which says little about a few calls."""

_PAUSE_SECONDS = 1.0
"""Before a task is started again: its cause of failure may have passed by then."""


class Outcome(NamedTuple):
    """What a future is to be resolved with."""

    future: AnyFuture
    result: object
    error: BaseException | None = None


def deliver(outcomes: Sequence[Outcome]) -> None:
    """Resolve several futures of one event loop, from any other thread.

    Cancelled futures are left alone, and so is a closed loop: nobody waits there any more.
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


class Held(Protocol):
    """A resource that must stay open while a thread works with it."""

    def hold(self) -> None:
        """Keep it open until ``release``."""
        ...

    def release(self) -> None:
        """Undo one ``hold``, in any thread."""
        ...


@dataclass(eq=False, slots=True)
class _Call:
    """A function to be called in a thread, and the future that waits for its result."""

    function: Callable[[], object]
    context: Context
    held: Held
    future: AnyFuture
    answer_by: float
    """``time.perf_counter()`` when its client gives up."""
    turn: str
    """The caller whose turn it takes; see ``FairQueue``."""
    since: float
    """``time.perf_counter()`` when it began to wait."""
    cost: Final = 1.0
    """Calls count alike: what one will take is not known."""


class _Lane:
    """A thread at work: it makes the waiting calls one after the other."""

    def __init__(self) -> None:
        self.since = time.perf_counter()
        """When the present call began."""
        self.crowded = False
        """Whether others waited at that time."""
        self.overtaken = False
        """Whether another lane was opened because the present call is slow."""
        self.outcomes: list[Outcome] = []
        """Results that are kept back, to be delivered together."""

    @property
    def is_slow(self) -> bool:
        """Whether the present call takes long."""
        return time.perf_counter() - self.since > _SLOW_SECONDS


class SearchThreads:
    """Threads for blocking calls: search, read, count, rerank.

    Quick calls go through one thread, one after the other: most of a search in a small index is
    Python, so that a second thread would only make both wait for the interpreter, and the event
    loop for both. When a call takes long (a large index, the disk, a model that reranks), one more
    thread goes on with the waiting calls, for as long as calls are slow.

    Callers take turns (``FairQueue``), and no caller gets all threads.
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
        """Start all threads now; later the system may have no room for one.

        Args:
            threads: how many calls can run at a time.
            name: of the threads, in logs and metrics.
            prepare: called by each thread as it starts.
            most_of_one: limits the threads of one caller; None for three of four.
            metrics: count failures and waiting times.
        """
        self._name = name
        self._prepare = prepare
        self._metrics = metrics or Metrics()
        self._metrics.supervises(name)
        self._lock = threading.Lock()
        self._waiting = FairQueue[_Call]()
        self._lanes: list[_Lane] = []
        self._calling = Counter[str]()
        """Caller → its running calls."""
        most = threads - threads // _LEFT_TO_OTHERS
        self._most_of_one = most if most_of_one is None else min(most, most_of_one)
        self._under_way = 0
        """Calls whose results are waited for."""
        self._watching = False
        self._pace = Pace()
        self._long_queue = _LONG_QUEUE * threads
        self._closed = False
        self._opened = SimpleQueue[_Lane | None]()
        """Lanes for idle threads; None ends a thread."""
        self._pool: list[threading.Thread] = []
        self._threads = threads
        self.revive()

    def revive(self) -> None:
        """Start threads again that have ended, which takes a bug.

        Raises:
            NotServing: the system can't start a thread.
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
        """Call a function in a thread, and wait for its result.

        If the awaiting task is cancelled (the client went away, its deadline passed) before the
        function's turn comes, the function is never called. A function that is already running runs
        on, unless it asks ``retrieval.domain.deadline`` whether its work is still wanted.

        Args:
            held: kept open until the function has returned, cancelled or not.
            function: blocks.
            args: its positional arguments.
            kwargs: its keyword arguments.

        Returns:
            what the function returns.

        Raises:
            NotServing: the server is shutting down.
            Overloaded: the request's deadline would pass before the function's turn comes.
            Exception: what the function raises.
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
        """Refuse new calls, wait for those that run or wait, and end the threads."""
        with self._lock:
            self._closed = True
        for _ in self._pool:
            self._opened.put(None)
        for thread in self._pool:
            thread.join()

    def _open_lane(self) -> bool:
        """Open a lane if a call may begin and all lanes are slow; the lock must be held."""
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
        """Return whether a caller has fewer running calls than one caller may have."""
        return self._calling[caller] < self._most_of_one

    def _all_are_overtaken(self) -> bool:
        return all(lane.overtaken for lane in self._lanes)

    def _watch(self) -> None:
        """Check the lanes in a while: by then a slow call may hold up others."""
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
        """Deliver the results that a lane has kept back; the lock must be held."""
        deliver(lane.outcomes)
        lane.outcomes = []

    def _work(self) -> None:
        """Run a thread: one lane after the other until it is told to end."""
        self._prepare()
        while lane := self._opened.get():
            try:
                self._call_all(lane)
            except Exception as error:  # noqa: BLE001  (a bug must not end the thread)
                say_failed("thread", self._name, error, self._metrics)
            finally:
                with self._lock:
                    if lane in self._lanes:  # the lane failed, and not the call it made
                        self._lanes.remove(lane)
                        self._open_lane()

    def _call_all(self, lane: _Lane) -> None:
        """Make the waiting calls one after the other, and deliver their results."""
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
        """Release what was held for a call."""
        try:
            call.held.release()
        except Exception as error:  # noqa: BLE001  (the waiting request is not at fault)
            say_failed("thread", self._name, error, self._metrics)

    def _end(self, call: _Call) -> None:
        """Undo what ``_next`` has counted; the lock must be held."""
        self._pace.leave(1)
        self._calling[call.turn] -= 1
        if not self._calling[call.turn]:
            del self._calling[call.turn]

    def _learn(self, lane: _Lane) -> None:
        """Learn how long a call took; the lock must be held."""
        seconds = time.perf_counter() - lane.since
        self._pace.learn(1, seconds, side_by_side=len(self._lanes), crowded=lane.crowded)

    def _next(self, lane: _Lane) -> _Call | None:
        """Return a lane's next call; None to end it: nothing waits, or other lanes suffice."""
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
        """Refuse the calls of a long queue that would be too late; the lock must be held."""
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
    """Make a call; return None without making it if nobody waits for its result any more."""
    if call.future.cancelled():
        return None
    try:
        return Outcome(call.future, call.context.run(call.function))
    except Exception as error:  # noqa: BLE001  (raised again where it is waited for)
        return Outcome(call.future, None, error)


def supervise(
    name: str, run: Callable[[], Awaitable[None]], metrics: Metrics
) -> "asyncio.Task[None]":
    """Start a task that runs until it is cancelled; log each failure and start it again.

    Args:
        name: of the task, in the log and in metrics.
        run: makes what the task awaits, each time anew.
        metrics: count failures.

    Returns:
        the task that supervises it.
    """
    metrics.supervises(name)
    return asyncio.create_task(_run_for_ever(name, run, metrics), name=name)


Kind = Literal["thread", "task"]


def say_failed(kind: Kind, name: str, error: Exception, metrics: Metrics) -> None:
    """Log and count a failure of a thread or task that goes on all the same.

    Args:
        kind: what failed.
        name: of the thread or task.
        error: the cause.
        metrics: count it.
    """
    LOG.error("the %s %s failed, and goes on", kind, name, exc_info=error)
    metrics.background_failed(name)


def say_ended(kind: Kind, name: str, metrics: Metrics) -> None:
    """Log and count the end of a thread or task that is started again.

    Args:
        kind: what ended.
        name: of the thread or task.
        metrics: count it.
    """
    LOG.error("the %s %s has ended, and is started again", kind, name)
    metrics.background_failed(name)


async def _run_for_ever(name: str, run: Callable[[], Awaitable[None]], metrics: Metrics) -> None:
    while True:
        try:
            await run()
        except Exception as error:  # noqa: BLE001  (a bug must not end the task for good)
            say_failed("task", name, error, metrics)
        else:
            say_ended("task", name, metrics)
        await asyncio.sleep(_PAUSE_SECONDS)


def behind_others(niceness: int) -> None:
    """Let this thread yield to others if cores are short.

    New requests, finished answers and refusals then need not wait for a matrix product. Nothing
    changes if no other thread wants a core, or if the whole server is nicer already.

    Args:
        niceness: from 0 to 19; each step means about a tenth less of a contended core.
    """
    if sys.platform == "linux":  # elsewhere it is the whole process that has a priority
        thread = os.PRIO_PROCESS, threading.get_native_id()
        if os.getpriority(*thread) < niceness:
            os.setpriority(*thread, niceness)
