"""Results of other threads, handed to the event loop many at a time.

Waking the loop costs more than most results do: who has several at hand wakes it once.
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

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
