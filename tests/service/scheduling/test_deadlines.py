"""Who would be answered too late is told at once, and the others are answered."""

import asyncio
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.domain.deadline import answer_by
from retrieval.errors import Overloaded
from retrieval.search import Searcher
from retrieval.service.scheduling.batcher import Batcher, Job
from retrieval.service.scheduling.fair_queue import Pace
from retrieval.service.scheduling.threads import SearchThreads
from retrieval.v1 import search_service_pb2 as pb
from retrieval.v1 import search_service_pb2_grpc as pb_grpc
from tests.service.harness import running
from tests.service.scheduling.test_threads import Holding, LengthModel


def in_seconds(seconds: float) -> float:
    return time.perf_counter() + seconds


async def asks(batcher: Batcher, model: LengthModel, text: str, seconds: float) -> object:
    """One request whose client waits so long."""
    answer_by.set(in_seconds(seconds))
    return await batcher.embed(model, [text], "query")


def test_what_is_not_known_is_in_time() -> None:
    pace = Pace()
    assert pace.seconds_until_done(10) == 0
    pace.join(1000)
    assert pace.seconds_until_done(10) == 0
    answer_by.set(in_seconds(0.001))
    pace.check(10)
    answer_by.set(float("inf"))


def test_a_queue_goes_on_as_it_went() -> None:
    pace = Pace()
    pace.learn(100, 2.0, side_by_side=2, crowded=True)
    assert pace.seconds_until_done(10) == 0, "nothing is before it"
    pace.join(1000)
    assert pace.seconds_until_done(10) == pytest.approx(1000 * 0.02 / 2 + 2)
    pace.leave(990)
    assert pace.seconds_until_done(1) == pytest.approx(10 * 0.02 / 2 + 0.2), "a small batch"
    assert pace.seconds_until_done(500) == pytest.approx(10 * 0.02 / 2 + 10), "a large request"


def test_small_batches_tell_of_nothing_but_speed() -> None:
    pace = Pace()
    pace.join(100)
    pace.learn(1, 5.0, side_by_side=1, crowded=False)
    assert pace.seconds_until_done(1) == 0
    pace.learn(100, 1.0, side_by_side=1, crowded=True)
    before = pace.seconds_until_done(1)
    pace.learn(1, 5.0, side_by_side=1, crowded=False)
    assert pace.seconds_until_done(1) == before
    pace.learn(1, 0.001, side_by_side=1, crowded=False)
    assert pace.seconds_until_done(1) < before


@given(st.lists(st.floats(0.01, 100), min_size=1), st.floats(0.01, 100))
def test_a_wrong_guess_mends_itself(before: list[float], now: float) -> None:
    pace = Pace()
    for seconds in before:
        pace.learn(1, seconds, side_by_side=1, crowded=True)
    for _ in range(60):
        pace.learn(1, now, side_by_side=1, crowded=True)
    pace.join(1)
    assert pace.seconds_until_done(1) == pytest.approx(2 * now, rel=1e-3)


def test_a_text_that_would_be_too_late_is_refused_before_it_waits() -> None:
    async def run() -> None:
        model, batcher = LengthModel(), Batcher(max_texts=1)
        cost = Job(model, ["text"], "query", 0, 0, asyncio.Future()).cost
        batcher._short._pace.learn(cost, 10.0, side_by_side=1, crowded=True)
        first = asyncio.create_task(asks(batcher, model, "long", 0.5))
        while not model.batches:
            await asyncio.sleep(0.001)
        with pytest.raises(Overloaded, match="estimated wait of 20 s"):
            await asks(batcher, model, "text", 19)
        patient = asyncio.create_task(asks(batcher, model, "also", 21))
        while not batcher.waiting:
            await asyncio.sleep(0.001)
        model.gate.set()
        await asyncio.gather(first, patient)
        batcher.close()
        assert model.batches == [["long"], ["also"]], "what nothing is before is never too late"

    asyncio.run(run())


def test_texts_that_have_waited_too_long_are_passed_over() -> None:
    async def run() -> None:
        model, batcher = LengthModel(), Batcher(max_texts=1)
        first = asyncio.create_task(batcher.embed(model, ["first"], "query"))
        while not model.batches:
            await asyncio.sleep(0.001)
        late = [asyncio.create_task(asks(batcher, model, "late", 2)) for _ in range(3)]
        while batcher.waiting < 3:
            await asyncio.sleep(0.001)
        patient = asyncio.create_task(asks(batcher, model, "in time", 600))
        while batcher.waiting < 4:
            await asyncio.sleep(0.001)
        batcher._short._pace.learn(100, 20.0, side_by_side=1, crowded=True)
        model.gate.set()
        results = await asyncio.gather(first, *late, patient, return_exceptions=True)
        assert [isinstance(one, Overloaded) for one in results] == [False, *[True] * 3, False]
        assert model.batches == [["first"], ["in time"]]
        # All is too late now: one is embedded, or what was learnt would never change.
        batcher._short._pace.learn(100, 2000.0, side_by_side=1, crowded=True)
        model.gate.clear()
        first = asyncio.create_task(batcher.embed(model, ["again"], "query"))
        while len(model.batches) < 3:
            await asyncio.sleep(0.001)
        batcher._short._pace.leave(1e9)  # so that it is let in
        last = asyncio.create_task(asks(batcher, model, "last", 0.5))
        while not batcher.waiting:
            await asyncio.sleep(0.001)
        batcher._short._pace.join(1e9)
        model.gate.set()
        await asyncio.gather(first, last)
        assert model.batches[-1] == ["last"]
        batcher.close()

    asyncio.run(run())


def test_a_call_that_would_be_too_late_is_refused() -> None:
    async def run() -> None:
        workers, held, gate = SearchThreads(1), Holding(), threading.Event()
        called: list[str] = []

        async def call(name: str, seconds: float) -> None:
            answer_by.set(in_seconds(seconds))
            await workers.run(held, called.append, name)

        busy = asyncio.create_task(workers.run(held, gate.wait, 10))
        waiting = [asyncio.create_task(call("late", 3)) for _ in range(3)]
        waiting += [asyncio.create_task(call("in time", 600)) for _ in range(3)]
        await asyncio.sleep(0.02)
        workers._pace.learn(1, 5.0, side_by_side=1, crowded=True)
        with pytest.raises(Overloaded):
            await call("refused", 39)
        assert held.holders == 7
        gate.set()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        await busy
        assert [isinstance(one, Overloaded) for one in results] == [*[True] * 3, *[False] * 3]
        assert called == ["in time"] * 3
        await asyncio.to_thread(workers.close)
        assert held.holders == 0

    asyncio.run(run())


def test_calls_that_were_given_up_tell_nothing_of_the_others() -> None:
    async def run() -> None:
        workers, held, gate = SearchThreads(1), Holding(), threading.Event()
        busy = asyncio.create_task(workers.run(held, gate.wait, 10))
        waiting = [asyncio.create_task(workers.run(held, time.sleep, 9)) for _ in range(9)]
        await asyncio.sleep(0.02)
        workers._pace.learn(1, 5.0, side_by_side=1, crowded=True)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        gate.set()
        await busy
        await asyncio.to_thread(workers.close)
        workers._pace.join(1)
        assert workers._pace.seconds_until_done(1) == pytest.approx(10, rel=0.5)

    asyncio.run(run())


@pytest.mark.slow  # it measures a crowd for seconds, and needs a machine to itself
def test_a_server_with_too_much_to_do_answers_as_much_as_it_can(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four times what it can do, from clients that give up before their turn would come."""
    pause, threads, seconds, patience = 0.1, 2, 5.0, 1.0
    search = Searcher.search

    def slow(self: Searcher, *arguments: Any, **options: Any) -> object:
        time.sleep(pause)
        return search(self, *arguments, **options)

    monkeypatch.setattr(Searcher, "search", slow)

    async def ask(stub: Any) -> str:
        try:
            request = pb.SearchRequest(text="bread", mode=pb.SEARCH_MODE_LEXICAL)
            await stub.Search(request, timeout=patience)
        except grpc.aio.AioRpcError as error:
            return str(error.code().name)
        return "OK"

    async def crowd(target: str) -> Counter[str]:
        async with grpc.aio.insecure_channel(target) as channel:
            stub = pb_grpc.SearchServiceStub(channel)
            tasks = []
            for _ in range(round(4 * seconds * threads / pause)):
                tasks.append(asyncio.create_task(ask(stub)))
                await asyncio.sleep(pause / threads / 4)
            return Counter(await asyncio.gather(*tasks))

    with running({"default": index}, search_threads=threads) as server:
        seen = asyncio.run(crowd(server.target))
    assert set(seen) <= {"OK", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}
    assert seen["OK"] > 0.5 * seconds * threads / pause, seen
    assert seen["RESOURCE_EXHAUSTED"] > seen["DEADLINE_EXCEEDED"], seen
