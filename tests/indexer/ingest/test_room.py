"""Room for documents: bounded, in order, and given back whatever happens."""

import asyncio
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from indexer.ingest.writer.room import Room


def test_those_without_room_wait_in_order() -> None:
    async def scenario() -> None:
        room, order = Room(10), list[str]()

        async def enter(name: str, size: int) -> None:
            async with room.hold(size):
                order.append(name)
                await asyncio.sleep(0)

        async with room.hold(8) as held:
            tasks = [asyncio.create_task(enter(name, size)) for name, size in (("a", 5), ("b", 1))]
            await asyncio.sleep(0)
            assert order == []
            held.grow(9)
            assert room.taken == 9
        await asyncio.gather(*tasks)
        assert order == ["a", "b"]
        assert room.taken == 0
        async with room.hold(1_000):  # a larger one is let in alone
            assert room.taken == 1_000

    asyncio.run(scenario())


def test_a_stream_of_large_documents_holds_up_no_other_request() -> None:
    async def scenario() -> None:
        room, order = Room(10), list[str]()

        async def enter(name: str, turn: str) -> None:
            async with room.hold(9, turn):
                order.append(name)

        async with room.hold(9, "stream"):
            tasks = [asyncio.create_task(enter(f"{n}", "stream")) for n in range(5)]
            tasks.append(asyncio.create_task(enter("single", "single")))
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        assert order == ["0", "single", "1", "2", "3", "4"]

    asyncio.run(scenario())


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=20))
def test_all_room_is_given_back(visits: list[tuple[int, bool]]) -> None:
    async def scenario() -> None:
        room, inside = Room(30), 0

        async def visit(size: int) -> None:
            nonlocal inside
            async with room.hold(size):
                inside += size
                try:
                    assert inside <= room.taken <= 30
                    await asyncio.sleep(0)
                finally:
                    inside -= size

        tasks = [asyncio.create_task(visit(size)) for size, _ in visits]
        await asyncio.sleep(0)
        for task, (_, cancelled) in zip(tasks, visits, strict=True):
            if cancelled:
                task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        assert room.taken == 0

    asyncio.run(scenario())
