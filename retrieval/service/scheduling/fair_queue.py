"""Fair queues: whose turn it is, and whether a request that joins can be answered in time.

First come, first served gives most to the caller that asks for most. Here each caller with waiting
work gets the same share of it, whatever the others ask for: start-time fair queueing (P. Goyal,
H. Vin, H. Cheng, 1996).

First come, first served also serves an overloaded queue worst: the request whose turn it is has
waited longest, and its client is about to give up. So a request that would be too late is refused
when it joins, before it has waited in vain.
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
"""Name under which the present request takes turns with others; see ``engine.calls.Call``."""


class Waiting(Protocol):
    """Something that waits for its turn."""

    @property
    def turn(self) -> str:
        """The caller whose turn it takes."""
        ...

    @property
    def cost(self) -> float:
        """How much of its work waits, in the queue's own units; constant while it waits."""
        ...


_Waits = TypeVar("_Waits", bound=Waiting)


class FairQueue(Generic[_Waits]):
    """Waiting items in the order of their turns; callers take turns. Not thread-safe.

    A clock advances with the work that is done. A caller's next turn is at the time when the work
    of its last turn ends, or now if that has passed. So a new caller is served before those that
    have just had a turn, and a caller that keeps coming is not.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._queues: dict[str, deque[_Waits]] = {}
        """Caller → its items; no queue is empty."""
        self._costs: dict[str, float] = {}
        """Caller → cost of all its items."""
        self._turns: dict[str, float] = {}
        """Caller → time of its next turn; callers without items are kept until it has passed."""
        self._now = 0.0
        self._count = 0

    def __len__(self) -> int:
        """Return how many items wait."""
        return self._count

    def __iter__(self) -> Iterator[_Waits]:
        """Yield all items in the order of their turns, the first of each caller first."""
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
        """Return whether an item waits."""
        return any(one in queue for queue in self._queues.values())

    def add(self, one: _Waits) -> None:
        """Add an item behind all others of its caller."""
        caller = one.turn
        if caller not in self._queues:
            self._queues[caller] = deque()
            self._costs[caller] = 0.0
            self._turns[caller] = max(self._now, self._turns.get(caller, 0.0))
        self._queues[caller].append(one)
        self._costs[caller] += one.cost
        self._count += 1

    def next(self, may: Callable[[str], bool] = lambda _caller: True) -> _Waits | None:
        """Return the item whose turn it is.

        Args:
            may: tells whether a caller may have a turn now; others are passed over.

        Returns:
            the first item of the first caller that may have a turn; None if there is none.
        """
        caller = min(filter(may, self._queues), key=self._turns.__getitem__, default=None)
        return None if caller is None else self._queues[caller][0]

    def remove(self, one: _Waits) -> None:
        """Remove an item that nobody wants any more."""
        queue = self._queues[one.turn]
        queue.remove(one)
        self._costs[one.turn] -= one.cost
        self._count -= 1
        if not queue:
            del self._queues[one.turn], self._costs[one.turn]
            if self._turns[one.turn] <= self._now:
                del self._turns[one.turn]

    def take(self, one: _Waits, work: float) -> None:
        """Remove an item whose turn has come; add it again if it needs more turns.

        Args:
            one: the item.
            work: how much of it is done in this turn, in units of its cost.
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
        """Return the callers with waiting items, in the order of their next turns."""
        return sorted(self._queues, key=self._turns.__getitem__)

    def overtaken(self, caller: str, cost: float) -> float:
        """Estimate how much of the waiting work would be done after an item that joins now.

        Until that item is done, each other item of its caller gets at most as much work done, and
        each other caller at most as much as all of these together. This is an estimate because
        every request asks for it: the time it takes grows with the callers, not with the items.

        Args:
            caller: of the item.
            cost: of the item.
        """
        mine = self._costs.get(caller, 0.0)
        sooner = min(mine, cost * len(self._queues.get(caller, ())))
        others = (waiting for name, waiting in self._costs.items() if name != caller)
        return mine - sooner + sum(max(0.0, waiting - cost - sooner) for waiting in others)


_NEWEST = 0.3
"""Weight of the latest batch in the moving average: the last two outweigh all before them."""


class Pace:
    """Estimates when work that joins a queue will be done, from how long work took before.

    Costs are in the queue's own units. Not thread-safe.
    """

    def __init__(self) -> None:
        """Start without knowledge, so that everything seems to be in time."""
        self._ahead = 0.0
        self._seconds_a_unit = 0.0
        self._batch_cost = 0.0
        self._side_by_side = 1

    def join(self, cost: float) -> None:
        """Count work that waits or is in progress, until it leaves."""
        self._ahead += cost

    def leave(self, cost: float) -> None:
        """Undo one ``join``: the work is done, or nobody wants it any more."""
        self._ahead -= cost

    def learn(self, cost: float, seconds: float, *, side_by_side: int, crowded: bool) -> None:
        """Learn how long a batch took.

        Args:
            cost: of the whole batch, > 0.
            seconds: from its start to its end.
            side_by_side: how many batches run at a time.
            crowded: whether work was left waiting because the batch was full. A batch that was not
                full took long for its cost, so it can only show that the queue is faster than
                estimated.
        """
        a_unit = seconds / cost
        if crowded:
            self._side_by_side = side_by_side
            self._seconds_a_unit = _adapted(self._seconds_a_unit, a_unit)
            self._batch_cost = _adapted(self._batch_cost, cost)
        elif a_unit < self._seconds_a_unit:
            self._seconds_a_unit = _adapted(self._seconds_a_unit, a_unit)

    def seconds_until_done(self, cost: float, *, overtaken: float = 0.0) -> float:
        """Estimate the seconds until work that joins now is done; 0 if nothing is ahead of it.

        Args:
            cost: of the work that joins.
            overtaken: cost of the work that joined before and will be done after it.
        """
        ahead = self._ahead - overtaken
        if ahead <= 0:
            return 0.0
        waiting = ahead * self._seconds_a_unit / self._side_by_side
        return waiting + self.seconds_once_begun(cost)

    def cost_in(self, seconds: float) -> float:
        """Return the cost that a full batch gets done in a time; infinite if not known."""
        return seconds / self._seconds_a_unit if self._seconds_a_unit else math.inf

    def seconds_once_begun(self, cost: float) -> float:
        """Estimate the seconds that work takes once its turn has come, in a batch with others."""
        along = min(self._ahead, self._batch_cost)
        return max(cost, along) * self._seconds_a_unit

    def check(self, cost: float, *, overtaken: float = 0.0) -> None:
        """Refuse work that the present request's deadline does not leave time for.

        Args:
            cost: of the work.
            overtaken: see ``seconds_until_done``.

        Raises:
            Overloaded: the client would have given up before the answer.
        """
        seconds = self.seconds_until_done(cost, overtaken=overtaken)
        if time.perf_counter() + seconds > answer_by.get():
            raise too_late(seconds)


def too_late(seconds: float) -> Overloaded:
    """Return the error for a request whose client would have given up before the answer.

    Args:
        seconds: estimated until the answer.
    """
    return Overloaded(
        f"the server is overloaded: the estimated wait of {seconds:.2g} s exceeds the request's "
        "deadline; try again in a moment"
    )


def _adapted(known: float, latest: float) -> float:
    return known + _NEWEST * (latest - known) if known else latest
