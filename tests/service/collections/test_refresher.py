"""Showing what was just committed: soon, at once for those that wait, and with few reloads."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from retrieval.errors import NotFound, NotServing, RetrievalError, StorageError
from retrieval.service.collections import refresher as module
from retrieval.service.collections.refresher import Refresher

SECONDS = 0.05


class Disk:
    """Stands for the collections: one generation is committed, and one is served."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.committed = self.served = 1
        self.reloads = 0
        self.running = 0
        self.seconds = seconds
        self.errors: list[RetrievalError] = []

    def generation(self, _name: str) -> int:
        return self.served

    async def reload(self, _name: str, *, level: int = logging.INFO) -> None:
        assert self.running == 0, "two reloads at once"
        self.running += 1
        self.reloads += 1
        newest = self.committed
        await asyncio.sleep(self.seconds)
        self.running -= 1
        if self.errors:
            raise self.errors.pop()
        self.served = newest


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_DELAY_SECONDS", SECONDS)


def run(main: Callable[[Any, Refresher], Coroutine[Any, Any, None]], disk: Disk) -> None:
    asyncio.run(main(disk, Refresher(disk)))  # type: ignore[arg-type]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


def test_commits_are_shown_together_after_a_while() -> None:
    async def main(disk: Disk, refresher: Refresher) -> None:
        for _ in range(10):
            disk.committed += 1
            refresher.committed("docs", disk.committed)
        assert disk.reloads == 0
        await until(lambda: disk.served == disk.committed)
        assert disk.reloads == 1
        refresher.committed("docs", disk.committed)
        await asyncio.sleep(2 * SECONDS)
        assert disk.reloads == 1, "it is shown already"

    run(main, Disk())


def test_whoever_waits_is_served_at_once_by_a_reload_that_began_later() -> None:
    async def main(disk: Disk, refresher: Refresher) -> None:
        disk.seconds = 0.02
        started = time.monotonic()

        async def put() -> None:
            disk.committed += 1
            generation = disk.committed
            await refresher.shown("docs", generation)
            assert disk.served >= generation

        waiting = [asyncio.create_task(put())]
        for _ in range(20):
            await asyncio.sleep(0.002)
            waiting.append(asyncio.create_task(put()))
        await asyncio.gather(*waiting)
        assert disk.reloads < 10, "those that wait share reloads"
        assert time.monotonic() - started < 5
        await refresher.shown("docs", 1)

    run(main, Disk())


def test_one_that_gives_up_leaves_the_others_waiting() -> None:
    async def main(disk: Disk, refresher: Refresher) -> None:
        disk.committed = 2
        first, second = (asyncio.create_task(refresher.shown("docs", 2)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await second
        assert disk.served == 2

    run(main, Disk())


def test_a_failure_is_told_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(disk: Disk, refresher: Refresher) -> None:
        disk.committed = 2
        disk.errors = [StorageError("the disk refuses")]
        with pytest.raises(NotServing, match="committed in generation 2.*the disk refuses"):
            await refresher.shown("docs", 2)
        await until(lambda: disk.served == 2)

    monkeypatch.setattr(module, "_FIRST_PAUSE_SECONDS", 0.01)
    run(main, Disk())


def test_a_collection_that_is_gone_and_an_index_that_was_replaced() -> None:
    async def main(disk: Disk, refresher: Refresher) -> None:
        disk.errors = [NotFound("no collection 'docs'")]
        with pytest.raises(NotServing, match="no collection"):
            await refresher.shown("docs", 2)
        # A reload that began after the commit shows what there is, whatever its number.
        disk.committed = 1
        await refresher.shown("docs", 7)
        reloads = disk.reloads
        await asyncio.sleep(2 * SECONDS)
        assert disk.reloads == reloads
        refresher.committed("docs", 9)
        refresher.close()

    run(main, Disk())
