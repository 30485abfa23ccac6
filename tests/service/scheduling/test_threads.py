"""The threads beside the event loop, the thread that runs models, and the query cache."""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from retrieval.domain.records import TextKind
from retrieval.encoding import cores
from retrieval.errors import InvalidArgument, RetrievalError
from retrieval.search import EmbeddedText
from retrieval.service.collections.query_cache import QueryCache
from retrieval.service.scheduling import threads as threads_module
from retrieval.service.scheduling.batcher import Batcher
from retrieval.service.scheduling.threads import SearchThreads


class Holding:
    """Counts who holds it."""

    def __init__(self) -> None:
        self.holders = 0

    def hold(self) -> None:
        self.holders += 1

    def release(self) -> None:
        self.holders -= 1


class LengthModel:
    """Embeds a text as its length; refuses the text "bad", and waits at its gate."""

    def __init__(self, *, side_by_side: bool = False) -> None:
        self.side_by_side = side_by_side
        self.query_on_one_core = False
        self.max_tokens = 512
        self.batches: list[list[str]] = []
        self.threads: list[str] = []
        self.niceness: list[int] = []
        self.gate = threading.Event()

    def embed(self, texts: Sequence[str], kind: TextKind) -> "LengthModel.Result":
        self.batches.append(list(texts))
        self.threads.append(threading.current_thread().name)
        self.niceness.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        assert self.gate.wait(60)
        if "bad" in texts:
            raise InvalidArgument("bad text")
        return LengthModel.Result(texts)

    class Result:
        def __init__(self, texts: Sequence[str]) -> None:
            self.token_counts = [len(text) for text in texts]
            self.vectors = np.array([[count] for count in self.token_counts], dtype=np.float32)
            self.truncated = [False] * len(texts)


def lengths(embeddings: Sequence[EmbeddedText]) -> list[int]:
    return [one.token_count for one in embeddings]


async def crowd(
    model: LengthModel,
    requests: Sequence[tuple[Sequence[str], TextKind]],
    *,
    max_texts: int = 32,
    max_chars: int = 1000,
) -> list[object]:
    """Send requests to a busy model, in order; then let it go on."""
    batcher = Batcher(max_texts=max_texts, max_chars=max_chars)
    first = asyncio.create_task(batcher.embed(model, ["first"], "query"))
    while not model.batches:
        await asyncio.sleep(0.001)
    tasks = []
    for number, (texts, kind) in enumerate(requests, start=1):
        tasks.append(asyncio.create_task(batcher.embed(model, texts, kind)))
        while batcher.waiting < sum(len(texts) for texts, _kind in requests[:number]):
            await asyncio.sleep(0.001)
    model.gate.set()
    results = await asyncio.gather(first, *tasks, return_exceptions=True)
    batcher.close()
    return list(results)


def test_requests_that_wait_together_go_together() -> None:
    model = LengthModel()
    requests: list[tuple[list[str], TextKind]] = [
        (["a", "bb"], "query"),
        (["ccc"], "query"),
        (["dddd"], "passage"),
        (["e"], "query"),
    ]
    results = asyncio.run(crowd(model, requests))
    assert [lengths(one) for one in results] == [[5], [1, 2], [3], [4], [1]]  # type: ignore[arg-type]
    assert model.batches == [["first"], ["a", "bb", "ccc", "e"], ["dddd"]]


def test_batches_have_a_limit() -> None:
    model = LengthModel()
    requests: list[tuple[list[str], TextKind]] = [
        (["a"] * 5, "query"),
        (["b"] * 2, "query"),
        (["c"] * 2, "query"),
    ]
    asyncio.run(crowd(model, requests, max_texts=4))
    assert model.batches == [["first"], ["a", "a", "b", "c"], ["a", "a", "b", "c"], ["a"]]


def test_long_texts_fill_a_batch_sooner() -> None:
    model = LengthModel()
    requests: list[tuple[list[str], TextKind]] = [
        (["a" * 200], "query"),
        (["b" * 10], "query"),
        (["c" * 90], "query"),
        (["d"], "query"),
    ]
    asyncio.run(crowd(model, requests, max_chars=100))
    assert [len(batch) for batch in model.batches] == [1, 1, 2, 1]


def test_a_crowd_has_a_batch_on_each_core() -> None:
    async def run() -> None:
        cores = torch.get_num_threads()
        torch.set_num_threads(2)
        model, batcher = LengthModel(side_by_side=True), Batcher(max_texts=2)
        tasks = [asyncio.create_task(batcher.embed(model, ["x"] * 2, "query")) for _ in range(5)]
        while len(model.batches) < 2:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        assert len(model.batches) == 2, "there are no more cores"
        model.gate.set()
        assert [lengths(one) for one in await asyncio.gather(*tasks)] == [[1, 1]] * 5
        assert set(model.threads[:2]) != {"encoder"}
        await batcher.embed(model, ["alone"], "query")
        assert model.threads[-1] == "encoder", "a lone request has all cores"
        model.query_on_one_core = True
        await batcher.embed(model, ["alone"], "query")
        assert model.threads[-1] != "encoder", "but where one is as fast"
        await batcher.embed(model, ["alone " * 100], "query")
        assert model.threads[-1] == "encoder", "which it is not for long texts"
        if sys.platform == "linux":
            assert min(model.niceness) > os.getpriority(os.PRIO_PROCESS, 0)
        batcher.close()
        torch.set_num_threads(cores)

    asyncio.run(run())


class LanesModel(LengthModel):
    """Goes on after its first batch only when there is one on each of some cores."""

    def __init__(self, cores: int) -> None:
        super().__init__(side_by_side=True)
        self._all_at_work = threading.Barrier(cores)

    def embed(self, texts: Sequence[str], kind: TextKind) -> LengthModel.Result:
        result = super().embed(texts, kind)
        if not threading.current_thread().name.startswith("encoder"):
            self._all_at_work.wait(60)
        return result


CORES = 4


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if operators used four threads, with a pool of its own."""
    with ThreadPoolExecutor(CORES, "single") as pool:
        monkeypatch.setattr(cores, "single_cores", lambda: CORES)
        monkeypatch.setattr(cores, "_single_core_threads", lambda _count, _name="": pool)
        yield


@pytest.mark.usefixtures("four_cores")
def test_a_crowd_is_shared_among_all_cores() -> None:
    model = LanesModel(CORES)
    results = asyncio.run(crowd(model, [(["x"], "query")] * 12))
    assert [lengths(one) for one in results] == [[5]] + [[1]] * 12  # type: ignore[arg-type]
    assert [len(batch) for batch in model.batches] == [1, 3, 3, 3, 3]


@pytest.mark.usefixtures("four_cores")
def test_fewer_texts_than_cores_are_done_by_all_together() -> None:
    model = LanesModel(CORES)
    asyncio.run(crowd(model, [(["x"], "query")] * 3))
    assert [len(batch) for batch in model.batches] == [1, 3]
    assert set(model.threads) == {"encoder"}


@pytest.mark.usefixtures("four_cores")
def test_long_texts_have_all_cores_one_after_the_other() -> None:
    """Side by side, they would take that many times the memory."""

    async def run() -> None:
        model, batcher = LanesModel(CORES), Batcher()
        model.gate.set()
        texts = ["x" * 5000]
        await asyncio.gather(*(batcher.embed(model, texts, "passage") for _ in range(8)))
        batcher.close()
        assert set(model.threads) == {"encoder-bulk"}
        assert batcher._bulk._pace._seconds_a_unit, (
            "others waited, so it was learnt how long it takes"
        )

    asyncio.run(run())


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no priority")
def test_a_server_that_is_nicer_stays_so() -> None:
    seen: list[int] = []

    def nice_thread() -> None:
        thread = os.PRIO_PROCESS, threading.get_native_id()
        os.setpriority(*thread, 17)
        batcher = Batcher()  # its thread is as nice as the one that starts it
        model = LengthModel()
        model.gate.set()
        asyncio.run(batcher.embed(model, ["x"], "query"))
        batcher.close()
        seen.extend(model.niceness)

    started = threading.Thread(target=nice_thread)
    started.start()
    started.join(60)
    assert seen == [17]


def test_a_bad_text_fails_its_own_request_only() -> None:
    model = LengthModel()
    requests: list[tuple[list[str], TextKind]] = [(["a"], "query"), (["bad"], "query")]
    _, good, bad = asyncio.run(crowd(model, requests))
    assert lengths(good) == [1]  # type: ignore[arg-type]
    assert isinstance(bad, InvalidArgument)


def test_cancelled_work_is_not_started() -> None:
    async def run() -> None:
        model, batcher, workers, held = LengthModel(), Batcher(), SearchThreads(1), Holding()
        called: list[str] = []
        embeds = asyncio.create_task(batcher.embed(model, ["runs"], "query"))
        waits = asyncio.create_task(workers.run(held, model.gate.wait, 10))
        while not model.batches:
            await asyncio.sleep(0.001)
        given_up = [
            asyncio.create_task(batcher.embed(model, ["waits"], "query")),
            asyncio.create_task(workers.run(held, called.append, "no thread is free")),
        ]
        while not batcher.waiting:
            await asyncio.sleep(0.001)
        for task in given_up:
            task.cancel()
        await asyncio.gather(*given_up, return_exceptions=True)
        assert held.holders == 2, "what runs is held, and what waits until its turn would come"
        model.gate.set()
        await asyncio.gather(embeds, waits)
        workers.close()
        batcher.close()
        assert (held.holders, called, model.batches) == (0, [], [["runs"]])

    asyncio.run(run())


def test_results_and_errors_come_back() -> None:
    async def run() -> None:
        workers, held = SearchThreads(1), Holding()
        assert await workers.run(held, divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            await workers.run(held, divmod, 7, 0)
        assert held.holders == 0
        workers.close()

    asyncio.run(run())


def test_quick_calls_share_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    # Also on a machine that is too busy for them to be quick.
    monkeypatch.setattr(threads_module, "_SLOW_SECONDS", 60)

    async def run() -> None:
        workers, held = SearchThreads(8), Holding()
        most, under_way = 0, 0

        def call() -> int:
            nonlocal most, under_way
            under_way += 1
            most = max(most, under_way)
            time.sleep(0.0005)
            under_way -= 1
            return most

        await asyncio.gather(*(workers.run(held, call) for _ in range(20)))
        assert most == 1
        assert held.holders == 0
        workers.close()

    asyncio.run(run())


def test_nobody_waits_for_a_slow_call() -> None:
    async def run() -> None:
        workers, held, gate = SearchThreads(3), Holding(), threading.Event()
        names: set[str] = set()

        def slow() -> bool:
            names.add(threading.current_thread().name)
            return gate.wait(60)

        # Its result may be kept back for the next, which must not hold it up.
        quick = asyncio.create_task(workers.run(held, divmod, 7, 2))
        slow_ones = [asyncio.create_task(workers.run(held, slow)) for _ in range(2)]
        assert await asyncio.wait_for(quick, 5) == (3, 1)
        after = [asyncio.create_task(workers.run(held, divmod, 9, 2)) for _ in range(30)]
        assert await asyncio.wait_for(asyncio.gather(*after), 5) == [(4, 1)] * 30
        assert len(names) == 2
        # With all threads in slow calls, the rest waits, and loses nothing.
        slow_ones.append(asyncio.create_task(workers.run(held, slow)))
        last = asyncio.create_task(workers.run(held, divmod, 5, 2))
        await asyncio.sleep(0.1)
        assert not last.done()
        gate.set()
        assert await asyncio.gather(*slow_ones) == [True] * 3
        assert await last == (2, 1)
        assert held.holders == 0
        workers.close()

    asyncio.run(run())


def test_nobody_waits_for_a_slow_call_that_was_given_up() -> None:
    async def run() -> None:
        workers, held, gate = SearchThreads(2), Holding(), threading.Event()
        begun = threading.Event()

        def slow() -> bool:
            begun.set()
            return gate.wait(60)

        given_up = asyncio.create_task(workers.run(held, slow))
        await asyncio.to_thread(begun.wait)
        given_up.cancel()
        assert await asyncio.wait_for(workers.run(held, divmod, 7, 2), 5) == (3, 1)
        assert held.holders == 1, "what still runs"
        gate.set()
        await asyncio.to_thread(workers.close)
        assert held.holders == 0

    asyncio.run(run())


def test_what_waits_is_called_before_the_threads_end() -> None:
    async def run() -> None:
        workers, held = SearchThreads(1), Holding()
        calls = [asyncio.create_task(workers.run(held, time.sleep, 0.001)) for _ in range(20)]
        await asyncio.sleep(0)
        await asyncio.to_thread(workers.close)
        await asyncio.gather(*calls)
        assert held.holders == 0

    asyncio.run(run())


def test_a_closed_batcher_takes_nothing() -> None:
    batcher = Batcher()
    batcher.close()
    with pytest.raises(RetrievalError, match="shutting down"):
        asyncio.run(batcher.embed(LengthModel(), ["x"], "query"))


def test_the_cache_embeds_once_and_forgets_the_oldest() -> None:
    asked: list[list[str]] = []

    async def embed(texts: Sequence[str]) -> list[EmbeddedText]:
        asked.append(list(texts))
        return [EmbeddedText(np.float32([len(text)]), len(text), False) for text in texts]

    async def run() -> None:
        cache = QueryCache(embed, size=2)
        assert [query.token_count for query in await cache(["a", "bb", "a"])] == [1, 2, 1]
        assert asked == [["a", "bb"]]
        await cache(["a"])
        await cache(["ccc"])  # now "bb" is the one not used for longest
        await cache(["a", "ccc"])
        assert asked == [["a", "bb"], ["ccc"]]
        await cache(["bb"])
        assert asked[-1] == ["bb"]
        assert [query.token_count for query in await cache(["x", "yy", "zzz"])] == [1, 2, 3]
        assert len(cache._known) == 2

    asyncio.run(run())
