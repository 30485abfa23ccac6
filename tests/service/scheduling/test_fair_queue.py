"""Callers take turns: whatever one asks for, the others are served."""

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from retrieval.client import RetrievalClient
from retrieval.domain.deadline import answer_by
from retrieval.domain.records import TextKind
from retrieval.errors import InvalidArgument, NotServing, Overloaded
from retrieval.service.config import Limits
from retrieval.service.observability.metrics import Metrics
from retrieval.service.scheduling.batcher import Batcher
from retrieval.service.scheduling.fair_queue import FairQueue, turn_of
from retrieval.service.scheduling.threads import SearchThreads, supervise
from tests.service.harness import running
from tests.service.scheduling.test_threads import Holding, LengthModel, lengths
from tests.tiny_model import DIM


@dataclass(eq=False)
class Work:
    turn: str
    cost: float


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 5)), min_size=1))
def test_everybody_has_a_turn_before_anybody_has_two(asked: list[tuple[str, int]]) -> None:
    turns = FairQueue[Work]()
    for caller, cost in asked:
        turns.add(Work(caller, cost))
    assert len(turns) == len(list(turns)) == len(asked)
    order = []
    while (one := turns.next()) is not None:
        order.append(one.turn)
        turns.take(one, 1)
        one.cost -= 1
        if one.cost:
            turns.add(one)
    left = Counter[str]()
    for caller, cost in asked:
        left[caller] += cost
    since = Counter[str]()
    for caller in order:
        since[caller] += 1
        left[caller] -= 1
        waiting = {name: since[name] for name in left if left[name]}
        assert since[caller] <= min(waiting.values(), default=since[caller]) + 1
    assert not left.total()


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9)), max_size=20),
    st.sampled_from("abc"),
    st.integers(1, 9),
)
@example([("a", 1), ("a", 7)], "a", 4)
def test_what_is_overtaken_is_known(asked: list[tuple[str, int]], caller: str, cost: int) -> None:
    """The estimate of what is done later is right to a turn of each request that waits.

    It may be lower by the turns that shorter requests of the same caller leave to others.
    """
    turns = FairQueue[Work]()
    for name, units in asked:
        turns.add(Work(name, units))
    expected = turns.overtaken(caller, cost)
    mine = Work(caller, cost)
    turns.add(mine)
    while True:
        one = turns.next()
        assert one is not None
        turns.take(one, 1)
        one.cost -= 1
        if one.cost:
            turns.add(one)
        elif one is mine:
            break
    left = sum(one.cost for one in turns)
    unused = sum(max(0, cost - units) for name, units in asked if name == caller)
    assert left - len(asked) - 3 * unused <= expected <= left + len(asked)


def asking(
    batcher: Batcher, model: LengthModel, texts: Sequence[str], kind: TextKind, turn: str = ""
) -> "asyncio.Task[Any]":
    """A request of a caller, as a task."""

    async def ask() -> object:
        turn_of.set(turn)
        return await batcher.embed(model, texts, kind)

    return asyncio.create_task(ask())


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.001)


class StepModel(LengthModel):
    """Embeds one batch whenever it is told to."""

    def __init__(self, *, side_by_side: bool = False) -> None:
        super().__init__(side_by_side=side_by_side)
        self.gate.set()
        self.steps = threading.Semaphore(0)

    def embed(self, texts: Sequence[str], kind: TextKind) -> LengthModel.Result:
        result = super().embed(texts, kind)
        assert self.steps.acquire(timeout=60)
        return result


def test_a_large_request_is_cut_and_others_go_between() -> None:
    async def run() -> None:
        model, batcher = StepModel(), Batcher(max_texts=4)
        large = asking(batcher, model, ["large"] * 40, "passage", "greedy")
        await until(lambda: model.batches)
        single = asking(batcher, model, ["one"], "query", "modest")
        await until(lambda: batcher.waiting == 37)
        model.steps.release(2)  # the batch under way, and the next
        assert lengths(await asyncio.wait_for(single, 5)) == [3]
        assert not large.done()
        model.steps.release(100)
        assert lengths(await large) == [5] * 40
        batcher.close()
        assert [len(batch) for batch in model.batches] == [4, 1, *[4] * 9]

    asyncio.run(run())


def test_a_crowd_of_one_caller_leaves_others_their_turn() -> None:
    async def run() -> None:
        model, batcher = StepModel(), Batcher(max_texts=1)
        crowd = [asking(batcher, model, [f"{n}"], "query", "greedy") for n in range(20)]
        await until(lambda: model.batches)
        modest = asking(batcher, model, ["modest"], "query", "modest")
        await until(lambda: batcher.waiting == 20)
        model.steps.release(100)
        await asyncio.gather(*crowd, modest)
        batcher.close()
        assert model.batches.index(["modest"]) == 1, "after the one under way"

    asyncio.run(run())


def test_what_nobody_waits_for_is_dropped_between_batches() -> None:
    async def run() -> None:
        model, batcher = StepModel(), Batcher(max_texts=4)
        large = asking(batcher, model, ["large"] * 40, "passage")
        await until(lambda: model.batches)
        large.cancel()
        await asyncio.gather(large, return_exceptions=True)
        model.steps.release(100)
        assert lengths(await asking(batcher, model, ["after"], "query")) == [5]
        batcher.close()
        assert [len(batch) for batch in model.batches] == [4, 1]
        assert batcher._short._pace._ahead == 0

    asyncio.run(run())


def test_a_bad_text_ends_its_request_and_no_other() -> None:
    async def run() -> None:
        model, batcher = StepModel(), Batcher(max_texts=4)
        model.steps.release(100)
        bad = asking(batcher, model, [*["x"] * 6, "bad", *["x"] * 30], "query", "one")
        good = asking(batcher, model, ["y"] * 12, "query", "two")
        assert lengths(await good) == [1] * 12
        with pytest.raises(InvalidArgument, match="bad text"):
            await bad
        batcher.close()
        assert sum(batch.count("x") for batch in model.batches) < 20, "the rest is not tried"
        assert batcher._short._pace._ahead == 0

    asyncio.run(run())


def test_short_queries_go_beside_long_texts() -> None:
    """Of a model whose batches go side by side: a long text can't be interrupted."""

    async def run() -> None:
        long, short, batcher = (
            LengthModel(side_by_side=True),
            StepModel(side_by_side=True),
            Batcher(),
        )
        bulk = asking(batcher, long, ["x" * 9000] * 3, "passage")
        await until(lambda: long.batches)
        short.steps.release(1)
        assert lengths(await asyncio.wait_for(asking(batcher, short, ["q"], "query"), 5)) == [1]
        assert not bulk.done()
        long.gate.set()
        assert lengths(await bulk) == [9000] * 3
        batcher.close()
        assert short.threads[0] != "encoder", "one core: the others are busy"

    asyncio.run(run())


def test_who_has_a_turn_soon_is_not_told_to_wait() -> None:
    """What a greedy caller has waiting doesn't make another's request late."""

    async def run() -> None:
        model, batcher = StepModel(), Batcher(max_texts=1)
        crowd = [asking(batcher, model, ["x" * 68], "query", "greedy") for _ in range(20)]
        await until(lambda: batcher.waiting == 19)
        batcher._short._pace.learn(100, 1.0, side_by_side=1, crowded=True)
        answer_by.set(time.perf_counter() + 5)
        modest = asking(batcher, model, ["y" * 68], "query", "modest")
        await until(lambda: batcher.waiting == 20)
        with pytest.raises(Overloaded):
            await asking(batcher, model, ["x" * 68], "query", "greedy")
        model.steps.release(100)
        await asyncio.gather(*crowd, modest)
        batcher.close()

    asyncio.run(run())


def test_a_thread_that_ends_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        metrics = Metrics()
        model, batcher = LengthModel(), Batcher(metrics=metrics)
        model.gate.set()
        queue = batcher._short
        with monkeypatch.context() as patch:
            # It waits in the method as it was: after one more thing to do, it ends.
            patch.setattr(queue, "_wait_for_work", lambda: False)
            last = asking(batcher, model, ["last"], "query")
            assert lengths(await asyncio.wait_for(last, 5)) == [4]
            thread = queue._thread
            assert thread is not None
            await until(lambda: not thread.is_alive())
        assert lengths(await asyncio.wait_for(asking(batcher, model, ["on"], "query"), 5)) == [2]
        assert value(metrics, "encoder") == 1
        batcher.close()

    asyncio.run(run())


class BrokenMetrics(Metrics):
    """Fails once where the encoder's thread tells how long texts have waited."""

    failures = 1

    def waited(self, seconds: float) -> None:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("can't start new thread")


def test_a_bug_in_the_thread_is_told_and_it_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        metrics = BrokenMetrics()
        model, batcher = LengthModel(), Batcher(metrics=metrics)
        model.gate.set()
        with pytest.raises(RuntimeError, match="can't start new thread"):
            await asyncio.wait_for(asking(batcher, model, ["x"], "query"), 5)
        assert lengths(await asyncio.wait_for(asking(batcher, model, ["x"], "query"), 5)) == [1]
        batcher.close()
        assert value(metrics, "encoder") == 1

    asyncio.run(run())
    assert "the thread encoder failed" in caplog.text
    assert "can't start new thread" in caplog.text


def value(metrics: Metrics, task: str) -> float:
    """Failures of a task that were counted."""
    return (
        metrics.registry.get_sample_value("retrieval_background_failures_total", {"task": task})
        or 0.0
    )


def test_threads_that_search_go_on(caplog: pytest.LogCaptureFixture) -> None:
    class Breaking(Holding):
        def release(self) -> None:
            super().release()
            raise OSError("the disk is gone")

    async def run() -> None:
        metrics = Metrics()
        workers = SearchThreads(2, metrics=metrics)
        for _ in range(5):
            assert await asyncio.wait_for(workers.run(Breaking(), divmod, 7, 2), 5) == (3, 1)
        assert value(metrics, "search") == 5
        await asyncio.to_thread(workers.close)
        with pytest.raises(NotServing):
            await workers.run(Holding(), divmod, 7, 2)

    asyncio.run(run())
    assert "the disk is gone" in caplog.text


def test_dead_threads_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        metrics = Metrics()
        workers = SearchThreads(2, metrics=metrics)
        for _ in range(2):
            workers._opened.put(None)  # what ends a thread
        await until(lambda: not any(thread.is_alive() for thread in workers._pool))
        waits = asyncio.create_task(workers.run(Holding(), divmod, 7, 2))

        def refuse(_thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(NotServing, match="can't start new thread"):
                workers.revive()
        workers.revive()
        assert await asyncio.wait_for(waits, 5) == (3, 1)
        assert value(metrics, "search") == 2
        await asyncio.to_thread(workers.close)

    asyncio.run(run())


def test_no_caller_has_all_threads() -> None:
    async def run() -> None:
        workers, held, gate = SearchThreads(4), Holding(), threading.Event()

        async def call(turn: str, function: Callable[[], Any]) -> object:
            turn_of.set(turn)
            return await workers.run(held, function)

        greedy = [asyncio.create_task(call("greedy", lambda: gate.wait(60))) for _ in range(20)]
        await until(lambda: workers._calling["greedy"] == 3)
        await asyncio.sleep(0.05)
        for _ in range(5):
            assert await asyncio.wait_for(call("modest", lambda: 7), 5) == 7
        assert workers._calling["greedy"] == 3
        gate.set()
        assert await asyncio.gather(*greedy) == [True] * 20
        assert not workers._calling
        await asyncio.to_thread(workers.close)

    asyncio.run(run())


def test_a_task_is_started_again_until_it_is_cancelled(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrieval.service.scheduling.threads._PAUSE_SECONDS", 0.001)
    runs: list[int] = []

    async def task() -> None:
        runs.append(1)
        if len(runs) == 2:
            return
        if len(runs) == 5:
            await asyncio.Event().wait()
        raise ValueError(f"number {len(runs)}")

    async def run() -> None:
        metrics = Metrics()
        supervised = supervise("job", task, metrics)
        await until(lambda: len(runs) == 5)
        assert value(metrics, "job") == 4
        supervised.cancel()
        await asyncio.gather(supervised, return_exceptions=True)
        assert supervised.cancelled()

    asyncio.run(run())
    assert "number 4" in caplog.text
    assert "job has ended" in caplog.text


def test_health_says_when_threads_can_not_be_started(
    index: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("retrieval.service.server._REVIVE_SECONDS", 0.02)
    caplog.set_level(logging.INFO)
    with running({"default": index}) as server, RetrievalClient(server.target) as client:
        assert len(client.search("bread")) > 0
        health = server.server._health

        def status(serving: bool) -> None:
            expected = 1 if serving else 2
            deadline = time.monotonic() + 10
            while any(
                health._server_status[name] != expected for name in ("", "collections/default")
            ):
                assert time.monotonic() < deadline
                time.sleep(0.01)

        def refuse() -> None:
            raise NotServing("the model can't be run: can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(server.server._batcher, "revive", refuse)
            status(serving=False)
        status(serving=True)
        assert len(client.search("ferry")) > 0
    assert "nothing can be answered" in caplog.text
    assert "can be answered again" in caplog.text


def test_tokens_of_a_request_have_a_limit(index: Path) -> None:
    limits = Limits(request_tokens=1000)
    with (
        running({"default": index}, limits=limits) as server,
        RetrievalClient(server.target) as client,
    ):
        assert client.embed(["word"] * 200, "passage").shape == (200, DIM)
        with pytest.raises(Exception, match="may have at most 1000") as caught:
            client.embed(["word " * 300] * 4, "passage")
        assert getattr(caught.value, "status", "") == "INVALID_ARGUMENT"
