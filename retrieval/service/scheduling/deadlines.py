"""How fast a queue moves, and whether a request that joins it can be answered in time.

First come, first served is the worst that a server with too much to do can do for clients that
give up after a while: whose turn it is has waited longest, and is about to give up. So who would
be too late is told when it comes, not when it has waited in vain.
"""

import math
import time

from retrieval.domain.deadline import answer_by
from retrieval.errors import Overloaded

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
