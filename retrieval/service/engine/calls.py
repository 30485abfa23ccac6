"""Who makes a request, and until when its answer is of use."""

import math
from dataclasses import dataclass

from retrieval.domain.deadline import answer_by
from retrieval.service.access.callers import EVERYONE, Caller
from retrieval.service.access.token_file import Scope
from retrieval.service.scheduling.fair_queue import turn_of


@dataclass(frozen=True, slots=True)
class Call:
    """Who makes a request, and how long its answer is of use.

    A request is cancelled by cancelling the task that awaits the engine. Work that has not begun
    is dropped then, and running work stops at its next look at ``retrieval.domain.deadline``.
    """

    caller: Caller = EVERYONE
    """Its scopes and collections bound what the engine answers."""
    answer_by: float = math.inf
    """``time.perf_counter()`` when the client gives up."""
    turn: str = ""
    """Name under which the request takes turns with others: the token's, or else the peer's."""

    def begin(self, scope: Scope) -> None:
        """Let the request in, and tell its deadline and turn to all that works for it.

        Both travel in context variables, which tasks and threads that the request starts inherit.

        Raises:
            PermissionDenied: the caller lacks the scope.
        """
        self.caller.check_scope(scope)
        answer_by.set(self.answer_by)
        turn_of.set(self.turn)
