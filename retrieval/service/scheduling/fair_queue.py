"""Queues that are fair and prompt: whose turn it is, and whether it can be answered in time.

First come, first served lets whoever asks for most have most. Here each caller that has something
waiting gets the same share of the work, whatever the others ask for: start-time fair queueing
(P. Goyal, H. Vin, H. Cheng, 1996).

It is also the worst that a server with too much to do can do for clients that give up after a
while: whose turn it is has waited longest, and is about to give up. So who would be too late is
told when it comes, not when it has waited in vain.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Generic, Protocol, TypeVar

from retrieval.domain.deadline import answer_by
from retrieval.errors import Overloaded

turn_of: ContextVar[str] = ContextVar("turn_of", default="")
"""Who takes the turn of the request that is being answered: its token or certificate, else the
connection that it came through."""


class Waiting(Protocol):
    """Something that waits for its turn."""

    @property
    def turn(self) -> str:
        """Who takes its turn."""
        ...

    @property
    def cost(self) -> float:
        """How much work of it waits, in units of the queue's own; the same as long as it does."""
        ...


_Waits = TypeVar("_Waits", bound=Waiting)


class FairQueue(Generic[_Waits]):
    """What waits, in the order of its turns. Not thread-safe.

    A clock goes by work that was done for each caller. A caller's next turn is when the clock is at
    the end of its last one, or now, if that is over. So who comes anew goes before those that have
    just had a turn, and who comes again and again does not.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._queues: dict[str, deque[_Waits]] = {}
        """By caller; none is empty."""
        self._costs: dict[str, float] = {}
        """By caller, of all that it has waiting."""
        self._turns: dict[str, float] = {}
        """By the clock, when each caller has its next turn; of callers with nothing to do only if
        that is not over."""
        self._now = 0.0
        self._count = 0

    def __len__(self) -> int:
        """How many wait."""
        return self._count

    def __iter__(self) -> Iterator[_Waits]:
        """All that wait, in the order of their turns: the first of each caller, then the second."""
        queues = [iter(self._queues[caller]) for caller in self._callers()]
        while queues:
            going_on = []
            for queue in queues:
                for one in queue:
                    yield one
                    going_on.append(queue)
                    break
            queues = going_on

    def __contains__(self, one: object) -> bool:
        """Whether something waits."""
        return any(one in queue for queue in self._queues.values())

    def add(self, one: _Waits) -> None:
        """Let something wait, behind all else of its caller."""
        caller = one.turn
        if caller not in self._queues:
            self._queues[caller] = deque()
            self._costs[caller] = 0.0
            self._turns[caller] = max(self._now, self._turns.get(caller, 0.0))
        self._queues[caller].append(one)
        self._costs[caller] += one.cost
        self._count += 1

    def next(self, may: Callable[[str], bool] = lambda _caller: True) -> _Waits | None:
        """Whose turn it is.

        Args:
            may: whether a caller may have a turn now; others are passed over.

        Returns:
            what is first of the first caller that may; None: nothing is.
        """
        caller = min(filter(may, self._queues), key=self._turns.__getitem__, default=None)
        return None if caller is None else self._queues[caller][0]

    def remove(self, one: _Waits) -> None:
        """Take something out that nobody wants any more."""
        queue = self._queues[one.turn]
        queue.remove(one)
        self._costs[one.turn] -= one.cost
        self._count -= 1
        if not queue:
            del self._queues[one.turn], self._costs[one.turn]
            if self._turns[one.turn] <= self._now:
                del self._turns[one.turn]

    def take(self, one: _Waits, work: float) -> None:
        """Take something out whose turn has come. If it needs more turns, it is added again.

        Args:
            one: what has the turn.
            work: that is done for it now, in units of its cost.
        """
        caller = one.turn
        self._now = max(self._now, self._turns[caller])
        self._turns[caller] += work
        self.remove(one)
        over = [name for name, turn in self._turns.items() if turn <= self._now]
        for name in over:
            if name not in self._queues:
                del self._turns[name]

    def _callers(self) -> list[str]:
        """Those that have something waiting, in the order of their next turns."""
        return sorted(self._queues, key=self._turns.__getitem__)

    def overtaken(self, caller: str, cost: float) -> float:
        """How much of what waits would be done later than something that comes now.

        Until that is done, each other request of its caller does at most as much, and each other
        caller at most as much as all of these. About so: it is asked for with every request, and
        takes no longer where many wait.

        Args:
            caller: whose it is.
            cost: how much work it is.
        """
        mine = self._costs.get(caller, 0.0)
        sooner = min(mine, cost * len(self._queues.get(caller, ())))
        others = (waiting for name, waiting in self._costs.items() if name != caller)
        return mine - sooner + sum(max(0.0, waiting - cost - sooner) for waiting in others)


_NEWEST = 0.3
"""Weight of the latest batch in what is known of all."""


class Pace:
    """How long it takes until what joins a queue is done, by what was done before.

    What a batch costs is in units of the queue's own. Not thread-safe.
    """

    def __init__(self) -> None:
        """Know nothing yet: everything is in time."""
        self._ahead = 0.0
        self._seconds_a_unit = 0.0
        self._batch_cost = 0.0
        self._side_by_side = 1

    def join(self, cost: float) -> None:
        """Count what waits from now on, or is under way, until it leaves."""
        self._ahead += cost

    def leave(self, cost: float) -> None:
        """Undo one ``join``: it is done, or nobody wants it any more."""
        self._ahead -= cost

    def learn(self, cost: float, seconds: float, *, side_by_side: int, crowded: bool) -> None:
        """Note what a batch took.

        Args:
            cost: of all in it, > 0.
            seconds: from its start to its end.
            side_by_side: how many batches run at a time.
            crowded: whether there was no room for others that waited. Small batches take long for
                what they are: they tell only that a queue is faster than it seemed.
        """
        a_unit = seconds / cost
        if crowded:
            self._side_by_side = side_by_side
            self._seconds_a_unit = _adapted(self._seconds_a_unit, a_unit)
            self._batch_cost = _adapted(self._batch_cost, cost)
        elif a_unit < self._seconds_a_unit:
            self._seconds_a_unit = _adapted(self._seconds_a_unit, a_unit)

    def seconds_until_done(self, cost: float, *, overtaken: float = 0.0) -> float:
        """How long what joins now is likely to take; 0 where nothing is before it.

        Args:
            cost: of what joins.
            overtaken: of what has joined before it and is done after it.
        """
        ahead = self._ahead - overtaken
        if ahead <= 0:
            return 0.0
        waiting = ahead * self._seconds_a_unit / self._side_by_side
        return waiting + self.seconds_once_begun(cost)

    def cost_in(self, seconds: float) -> float:
        """How much is done in so long by a batch that others wait for; infinite if not known."""
        return seconds / self._seconds_a_unit if self._seconds_a_unit else math.inf

    def seconds_once_begun(self, cost: float) -> float:
        """How long it is likely to take when its turn has come, with what goes along with it."""
        along = min(self._ahead, self._batch_cost)
        return max(cost, along) * self._seconds_a_unit

    def check(self, cost: float, *, overtaken: float = 0.0) -> None:
        """Refuse what the request that is being answered would get too late.

        Args:
            cost: of what it wants done.
            overtaken: see ``seconds_until_done``.

        Raises:
            Overloaded: its client would have given up by then.
        """
        seconds = self.seconds_until_done(cost, overtaken=overtaken)
        if time.perf_counter() + seconds > answer_by.get():
            raise too_late(seconds)


def too_late(seconds: float) -> Overloaded:
    """What a request is told whose client would have given up before it is answered.

    Args:
        seconds: until then.
    """
    return Overloaded(
        f"there is so much to do that the answer would take {seconds:.2g} s more, and the "
        "request's deadline is before that: try again in a moment"
    )


def _adapted(known: float, latest: float) -> float:
    return known + _NEWEST * (latest - known) if known else latest
