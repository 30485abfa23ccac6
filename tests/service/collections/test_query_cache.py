"""Equal queries that come together are embedded once, whatever becomes of who asked first."""

import asyncio
import gc
from collections.abc import Sequence
from contextvars import ContextVar

import numpy as np
import pytest

from retrieval.errors import InvalidArgument, Overloaded
from retrieval.search import EmbeddedText
from retrieval.service.collections.query_cache import QueryCache

CALLER: ContextVar[str] = ContextVar("caller", default="")


class Embedding:
    """Embeds a text as its length once its gate opens; refuses what ``refuse`` says."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.cancelled = 0
        self.gate = asyncio.Event()
        self.refuse: set[str] = set()

    async def __call__(self, texts: Sequence[str]) -> list[EmbeddedText]:
        self.asked.append(list(texts))
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if CALLER.get() in self.refuse:
            raise Overloaded("too much to do")
        return [EmbeddedText(np.float32([len(text)]), len(text), False) for text in texts]


async def started(*calls: "asyncio.Task[list[EmbeddedText]]") -> None:
    for _ in range(5 * len(calls)):
        await asyncio.sleep(0)


def test_equal_queries_at_once_are_embedded_once() -> None:
    async def run() -> None:
        embed = Embedding()
        cache = QueryCache(embed)
        calls = [asyncio.create_task(cache(["a", "bb"])) for _ in range(3)]
        calls.append(asyncio.create_task(cache(["bb", "ccc", "a"])))
        await started(*calls)
        assert embed.asked == [["a", "bb"], ["ccc"]]
        embed.gate.set()
        found = await asyncio.gather(*calls)
        assert [[one.token_count for one in texts] for texts in found] == [[1, 2]] * 3 + [[2, 3, 1]]
        # The very vector, not one like it.
        assert len({id(texts[0].vector) for texts in found[:3]}) == 1
        await cache(["a", "bb", "ccc"])
        assert len(embed.asked) == 2

    asyncio.run(run())


def test_who_goes_away_leaves_the_others_waiting() -> None:
    async def run() -> None:
        embed = Embedding()
        cache = QueryCache(embed)
        first, second = (asyncio.create_task(cache(["a"])) for _ in range(2))
        await started(first, second)
        first.cancel()
        await started(first, second)
        assert embed.cancelled == 0
        embed.gate.set()
        assert [one.token_count for one in await second] == [1]
        with pytest.raises(asyncio.CancelledError):
            await first

    asyncio.run(run())


def test_what_nobody_waits_for_is_dropped_and_can_be_asked_for_again() -> None:
    async def run() -> None:
        embed = Embedding()
        cache = QueryCache(embed)
        calls = [asyncio.create_task(cache(["a"])) for _ in range(2)]
        await started(*calls)
        for call in calls:
            call.cancel()
        # Comes in the moment in which the embedding is cancelled, but has not ended yet.
        await asyncio.sleep(0)
        late = asyncio.create_task(cache(["a"]))
        await started(*calls, late)
        assert embed.cancelled == 1
        embed.gate.set()
        assert [one.token_count for one in await late] == [1]
        assert embed.asked == [["a"], ["a"]]

    asyncio.run(run())


def test_one_that_is_cancelled_before_it_began_is_in_nobodys_way() -> None:
    async def run() -> None:
        embed = Embedding()
        embed.gate.set()
        cache = QueryCache(embed)
        call = asyncio.create_task(cache(["a"]))
        await asyncio.sleep(0)
        call.cancel()
        assert [one.token_count for one in await cache(["a"])] == [1]

    asyncio.run(run())


def test_an_error_of_one_request_is_not_the_others() -> None:
    """The first has no time left, and is refused; who joined it is embedded all the same."""

    async def ask(cache: QueryCache, caller: str) -> list[EmbeddedText]:
        CALLER.set(caller)
        return await cache(["a"])

    async def run() -> None:
        embed = Embedding()
        embed.refuse = {"hasty"}
        cache = QueryCache(embed)
        hasty, patient = (asyncio.create_task(ask(cache, name)) for name in ("hasty", "patient"))
        await started(hasty, patient)
        assert embed.asked == [["a"]]
        embed.gate.set()
        with pytest.raises(Overloaded):
            await hasty
        assert [one.token_count for one in await patient] == [1]

    asyncio.run(run())


def test_an_error_that_nobody_waits_for_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def embed(texts: Sequence[str]) -> list[EmbeddedText]:
        raise InvalidArgument("no")

    async def run() -> None:
        cache = QueryCache(embed)
        call = asyncio.create_task(cache(["a"]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises((asyncio.CancelledError, InvalidArgument)):
            await call

    asyncio.run(run())
    gc.collect()
    assert not caplog.records
